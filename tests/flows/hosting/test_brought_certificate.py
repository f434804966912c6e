"""A certificate that a person brings: what cannot be served is refused before anything starts."""

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from flows.cli import main
from flows.hosting import certificate as making
from flows.hosting.certificate import self_signed


@pytest.fixture
def brought(tmp_path):
    return self_signed(tmp_path / "brought", ())


def refused(home, capsys, certificate, key):
    """The one line with which `serve` refuses these files; nothing was started."""
    assert main(["serve", "--tls-cert", str(certificate), "--tls-key", str(key)]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert not home.exists()
    return told


def test_a_certificate_without_its_key_is_refused_before_anything_starts(home, capsys):
    for option in ("--tls-cert", "--tls-key"):
        assert main(["serve", option, "file.pem"]) == 1
        assert "--tls-cert and --tls-key go together" in capsys.readouterr().err
    assert not home.exists()


def test_one_certificate_is_enough(home, capsys, brought):
    certificate, key = map(str, brought)
    assert main(["serve", "--tls-self-signed", "--tls-cert", certificate, "--tls-key", key]) == 1
    assert "leave it out" in capsys.readouterr().err
    assert not home.exists()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_file_that_is_not_there_is_named(home, capsys, brought, missing):
    brought[missing].unlink()
    told = refused(home, capsys, *brought)
    assert f"{brought[missing]} cannot be read: no such file or directory; name a PEM file" in told


@pytest.mark.parametrize("unreadable", [0, 1])
def test_a_folder_is_no_certificate_and_no_key(home, capsys, brought, unreadable):
    brought[unreadable].unlink()
    brought[unreadable].mkdir()
    assert f"{brought[unreadable]} cannot be read: is a directory" in refused(home, capsys, *brought)


@pytest.mark.parametrize(
    "content", [b"", b"garbled", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_certificate_that_is_none_is_named(home, capsys, brought, content):
    certificate, key = brought
    certificate.write_bytes(content)
    assert f"--tls-cert {certificate} holds no certificate in PEM form" in refused(home, capsys, certificate, key)


@pytest.mark.parametrize(
    "content", [b"", b"garbled", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_key_that_is_none_is_named(home, capsys, brought, content):
    certificate, key = brought
    key.write_bytes(content)
    assert f"--tls-key {key} holds no private key in PEM form" in refused(home, capsys, certificate, key)


def test_the_two_must_belong_together(home, capsys, brought, tmp_path):
    other = self_signed(tmp_path / "other", ())
    told = refused(home, capsys, brought[0], other[1])
    assert f"--tls-key {other[1]} does not belong to the first certificate of --tls-cert {brought[0]}" in told


def test_a_key_behind_a_password_is_refused_with_the_line_that_opens_it(home, capsys, brought, tmp_path):
    certificate, key = brought
    private = load_pem_private_key(key.read_bytes(), None)
    hidden = BestAvailableEncryption(b"secret")
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    told = refused(home, capsys, certificate, key)
    assert f"--tls-key {key} is encrypted" in told
    assert f"openssl pkey -in {key}" in told


def test_a_chain_and_its_key_in_one_file_are_taken(brought, tmp_path):
    certificate, key = brought
    both = tmp_path / "both.pem"
    authority = certificate.with_name("authority.pem")
    for order in ((key, certificate, authority), (certificate, authority, key)):
        both.write_bytes(b"".join(path.read_bytes() for path in order))
        making.check_files(both, both)
