"""A certificate of our own making, for clients that insist on https where nobody has a real one."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

VALID = timedelta(days=397)  # the longest that clients take
ANYWHERE = ("0.0.0.0", "::")
LOCAL = ("localhost", "127.0.0.1", "::1")


def self_signed(folder: Path, hosts: tuple[str, ...]) -> tuple[Path, Path]:
    """Certificate and key in the folder, made anew where there are none, they are old, or a host is missing."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = tuple(dict.fromkeys(host for host in (*LOCAL, *hosts) if host not in ANYWHERE))
    if not (certificate.exists() and key.exists() and _still_good(certificate, names)):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        private = generate_private_key(SECP256R1())
        key.touch(mode=0o600)
        key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate.write_bytes(_certificate(private, names).public_bytes(Encoding.PEM))
    # a client trusts one file of authorities: ours beside the usual ones, so that it can still reach everybody else
    (folder / "authorities.pem").write_text(Path(certifi.where()).read_text() + "\n" + certificate.read_text())
    return certificate, key


def _certificate(private: EllipticCurvePrivateKey, names: tuple[str, ...]) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ltx-flows")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    return builder.sign(private, SHA256())


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _still_good(path: Path, names: tuple[str, ...]) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    in_time = certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=7)
    return in_time and all(_name(name) in list(held) for name in names)
