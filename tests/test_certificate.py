"""Who may reach `serve`, and the certificate of its own: for whom it is, and who may read its key."""

import stat

from cryptography import x509

from flows.certificate import self_signed
from flows.cli import main


def names_of(certificate):
    held = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    return [str(name.value) for name in held.get_extension_for_class(x509.SubjectAlternativeName).value]


def test_it_is_for_this_machine_and_the_host_that_is_served(tmp_path):
    certificate, _ = self_signed(tmp_path / "tls", ("gpu.example",))
    assert names_of(certificate) == ["localhost", "127.0.0.1", "::1", "gpu.example"]


def test_serving_everywhere_names_no_such_host(tmp_path):
    assert "0.0.0.0" not in names_of(self_signed(tmp_path / "tls", ("0.0.0.0",))[0])


def test_its_key_is_nobody_elses_to_read(tmp_path):
    _, key = self_signed(tmp_path / "tls", ())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_it_is_kept_until_another_host_is_served(tmp_path):
    first = self_signed(tmp_path / "tls", ())[0].read_bytes()
    assert self_signed(tmp_path / "tls", ())[0].read_bytes() == first
    assert self_signed(tmp_path / "tls", ("gpu.example",))[0].read_bytes() != first


def test_whoever_trusts_it_trusts_the_usual_authorities_too(tmp_path):
    certificate, _ = self_signed(tmp_path / "tls", ())
    authorities = (tmp_path / "tls" / "authorities.pem").read_text()
    assert authorities.endswith(certificate.read_text())
    assert authorities.count("BEGIN CERTIFICATE") > 50


def test_a_certificate_without_its_key_is_refused_before_anything_starts(home, capsys):
    assert main(["serve", "--tls-cert", "certificate.pem"]) == 1
    assert "--tls-cert and --tls-key go together" in capsys.readouterr().err
    assert not home.exists()


def test_others_are_let_in_only_with_a_key(home, capsys):
    assert main(["serve", "--host", "0.0.0.0"]) == 1
    assert "set LTX_FLOWS_API_KEYS" in capsys.readouterr().err
    assert not home.exists()
