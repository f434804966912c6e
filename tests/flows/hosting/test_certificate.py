"""Certificates of `serve`: one of its own, for whom it is and who may read its key, and those that people bring."""

import functools
import http.server
import shutil
import ssl
import stat
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from socket import gethostname

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flows.hosting import certificate as making
from flows.hosting.certificate import self_signed

LOCAL = ["localhost", "127.0.0.1", "::1"]


def loaded(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def extension(path, kind):
    return loaded(path).extensions.get_extension_for_class(kind)


def names_of(certificate):
    return [str(name.value) for name in extension(certificate, x509.SubjectAlternativeName).value]


@pytest.fixture
def tls(tmp_path):
    return tmp_path / "tls"


@pytest.fixture
def authority(tls):
    self_signed(tls, ("gpu.example", "192.0.2.7"))
    return tls / "authority.pem"


def test_it_is_for_this_machine_and_the_host_that_is_served(tls):
    assert names_of(self_signed(tls, ("gpu.example",))[0]) == [*LOCAL, "gpu.example"]


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_serving_everywhere_names_the_machine_instead(tls, everywhere):
    assert names_of(self_signed(tls, (everywhere,))[0]) == [*LOCAL, gethostname().lower()]


def test_its_key_is_nobody_elses_to_read(tls):
    _, key = self_signed(tls, ())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(tls.stat().st_mode) == 0o700


def test_a_key_that_others_could_read_is_not_written_to(tls):
    tls.mkdir(mode=0o755)
    (tls / "key.pem").touch(mode=0o644)
    assert stat.S_IMODE(self_signed(tls, ())[1].stat().st_mode) == 0o600


def test_it_is_kept_until_another_host_is_served(tls):
    first = self_signed(tls, ())[0].read_bytes()
    assert self_signed(tls, ())[0].read_bytes() == first
    assert self_signed(tls, ("gpu.example",))[0].read_bytes() != first


def test_it_signs_nothing_and_serves_nothing_but_https(authority):
    certificate = authority.with_name("certificate.pem")
    assert extension(certificate, x509.BasicConstraints).value.ca is False
    assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extension(certificate, x509.KeyUsage).value.key_cert_sign is False
    loaded(certificate).verify_directly_issued_by(loaded(authority))


def test_whoever_trusts_it_trusts_it_for_these_names_alone(authority):
    limits = extension(authority, x509.NameConstraints)
    networks = [ip_network(each) for each in ("127.0.0.1/32", "::1/128", "192.0.2.7/32")]
    assert (limits.critical, limits.value.excluded_subtrees) == (True, None)
    allowed = [name.value for name in limits.value.permitted_subtrees]
    assert sorted(map(str, allowed)) == sorted(map(str, ["localhost", "gpu.example", *networks]))
    assert extension(authority, x509.BasicConstraints).value.path_length == 0


def test_nobody_can_sign_with_its_authority_any_more(authority):
    public = loaded(authority).public_key()
    kept = [path for path in authority.parent.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert [path.name for path in kept] == ["key.pem"]
    assert load_pem_private_key(kept[0].read_bytes(), None).public_key() != public


def test_another_host_has_another_authority(authority):
    first = authority.read_bytes()
    self_signed(authority.parent, ("other.example",))
    assert authority.read_bytes() != first
    assert "other.example" in [
        name.value for name in extension(authority, x509.NameConstraints).value.permitted_subtrees
    ]


def old_form(tls, names=("localhost", "127.0.0.1", "::1")):
    """As it was made before it had an authority: one certificate that signs itself, and may sign others."""
    tls.mkdir(mode=0o700)
    key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ltx-flows")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=397))
    alternatives = x509.SubjectAlternativeName([making._name(each) for each in names])
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.add_extension(alternatives, critical=False).sign(key, SHA256())
    (tls / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tls / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate


@pytest.mark.parametrize("with_authority", [True, False])
def test_one_that_could_sign_for_the_whole_world_is_replaced(tls, with_authority):
    former = old_form(tls)
    if with_authority:
        (tls / "authority.pem").write_bytes(former.public_bytes(Encoding.PEM))
    assert loaded(self_signed(tls, ())[0]) != former
    assert former.public_bytes(Encoding.PEM).decode() not in (tls / "authorities.pem").read_text()


@pytest.mark.parametrize("name", ["certificate.pem", "key.pem", "authority.pem"])
@pytest.mark.parametrize("content", [b"", b"garbled", None])
def test_what_was_cut_off_is_made_anew(tls, name, content):
    self_signed(tls, ())
    (tls / name).unlink() if content is None else (tls / name).write_bytes(content)
    certificate, key = self_signed(tls, ())
    loaded(certificate).verify_directly_issued_by(loaded(tls / "authority.pem"))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)


def test_one_that_ends_within_a_week_is_made_anew(tls, monkeypatch):
    monkeypatch.setattr(making, "VALID", timedelta(days=6))
    first = self_signed(tls, ())[0].read_bytes()
    monkeypatch.undo()
    certificate = self_signed(tls, ())[0]
    assert certificate.read_bytes() != first
    assert loaded(certificate).not_valid_after_utc - datetime.now(UTC) <= timedelta(days=397)


def test_whoever_trusts_it_trusts_the_usual_authorities_too(authority):
    authorities = authority.with_name("authorities.pem").read_text()
    assert authorities.endswith(authority.read_text())
    assert authorities.count("BEGIN CERTIFICATE") > 50


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_):
        pass


@contextmanager
def served(certificate, key):
    """The port of an https server with these files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def asked(port, cafile, name):
    """What a strict client gets that reaches this machine by a name."""
    trusted = ssl.create_default_context(cafile=cafile)
    trusted.verify_flags |= ssl.VERIFY_X509_STRICT
    told = {"sni_hostname": name}
    with httpx.Client(verify=trusted) as client:
        return client.get(f"https://127.0.0.1:{port}/", extensions=told).text


@pytest.mark.parametrize("cafile", ["authority.pem", "authorities.pem"])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "gpu.example"])
def test_clients_that_trust_it_can_talk_to_it(tls, name, cafile):
    with served(*self_signed(tls, ("gpu.example",))) as port:
        assert asked(port, tls / cafile, name) == "here"


def test_clients_do_not_trust_it_for_another_name(tls):
    with served(*self_signed(tls, ())) as port, pytest.raises(httpx.ConnectError):
        asked(port, tls / "authority.pem", "example.com")


def test_what_its_authority_signs_for_another_name_is_not_trusted(tls, monkeypatch):
    narrow = making._authority
    monkeypatch.setattr(making, "_authority", lambda key, names: narrow(key, ("localhost",)))
    with served(*self_signed(tls, ("example.com",))) as port, pytest.raises(httpx.ConnectError, match="permitted"):
        asked(port, tls / "authority.pem", "example.com")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: apt-get install nodejs")
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_node_trusts_it_by_the_authority_alone(tls, name):
    with served(*self_signed(tls, ())) as port:
        script = f"fetch('https://{name}:{port}/').then(answer => answer.text()).then(console.log)"
        environment = {"NODE_EXTRA_CA_CERTS": str(tls / "authority.pem")}
        node = subprocess.run([shutil.which("node"), "-e", script], env=environment, capture_output=True, check=False)
    assert (node.stdout, node.stderr) == (b"here\n", b"")


# what people bring
