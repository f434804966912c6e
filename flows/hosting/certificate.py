"""Certificates for https: self-made ones where nobody has a real one, and a check of those that people bring.

A client that trusts our certificate trusts an authority that may sign for the served names and for no other, and whose
key is thrown away as soon as it has signed: nobody can make a second certificate with that key.
"""

import ipaddress
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import LtxFlowsError
from tasks.storage.home import private

VALID = timedelta(days=397)  # the longest that clients take
RENEWED = timedelta(days=7)  # before it ends
CERTIFICATE, KEY, AUTHORITY = "certificate.pem", "key.pem", "authority.pem"
ANYWHERE = ("0.0.0.0", "::")
LOCAL = ("localhost", "127.0.0.1", "::1")
MISREAD = (ValueError, x509.ExtensionNotFound, InvalidSignature, UnsupportedAlgorithm, TypeError, OSError)


def self_signed(folder: Path, hosts: tuple[str, ...]) -> tuple[Path, Path]:
    """Certificate and key in the folder, made anew where there are none, they are old, or a host is missing."""
    private(folder)
    names = served_names(hosts)
    if not _still_good(folder, names):
        _renew(folder, names)
    # some clients trust one file of authorities: ours beside the usual ones, so that they still reach everybody else
    (folder / "authorities.pem").write_text(Path(certifi.where()).read_text() + "\n" + (folder / AUTHORITY).read_text())
    return folder / CERTIFICATE, folder / KEY


def served_names(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Names and addresses that this machine is reached at, its own name among them when it listens anywhere."""
    own = (gethostname(),) if set(hosts) & set(ANYWHERE) else ()
    named = (host.strip("[]").lower() for host in (*LOCAL, *hosts, *own) if host not in ANYWHERE)
    return tuple(dict.fromkeys(name for name in named if name))


def _renew(folder: Path, names: tuple[str, ...]) -> None:
    """Make an authority and a certificate that it signs; the authority's key is kept nowhere."""
    authority_key, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _authority(authority_key, names)
    certificate = _leaf(key, names, authority, authority_key)
    (folder / KEY).unlink(missing_ok=True)  # it keeps its mode if it is only written to
    with os.fdopen(os.open(folder / KEY, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / AUTHORITY).write_bytes(authority.public_bytes(Encoding.PEM))
    (folder / CERTIFICATE).write_bytes(certificate.public_bytes(Encoding.PEM))


def _authority(key: EllipticCurvePrivateKey, names: tuple[str, ...]) -> x509.Certificate:
    """Authority that clients trust: it may sign for these names alone, and nobody below it may sign at all."""
    allowed = x509.NameConstraints([_constraint(name) for name in names], None)
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = f"ltx-flows authority {own_id.digest.hex()[:8]}"  # clients look authorities up by name: each has its own
    builder = (
        _builder(key, name, name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(allowed, critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(own_id, critical=False)
    )
    return builder.sign(key, SHA256())


def _leaf(
    key: EllipticCurvePrivateKey, names: tuple[str, ...], authority: x509.Certificate, signer: EllipticCurvePrivateKey
) -> x509.Certificate:
    """Certificate that the server shows; it signs nothing."""
    issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(key, "ltx-flows", _common_name(authority))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    return builder.sign(signer, SHA256())


def _builder(key: EllipticCurvePrivateKey, subject: str, issuer: str) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + VALID)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name if name.isascii() else name.encode("idna").decode())


def _constraint(name: str) -> x509.GeneralName:
    """Name constraint that permits one name; an address is a network of one."""
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return _name(name)


def _still_good(folder: Path, names: tuple[str, ...]) -> bool:
    """Whether certificate and key belong together, are made as now, last, and are for all of these names."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes()))
        key = load_pem_private_key((folder / KEY).read_bytes(), None)
        signs = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        held = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except MISREAD:  # cut off in the middle, of an older version, or never there
        return False
    in_time = certificate.not_valid_after_utc > datetime.now(UTC) + RENEWED
    ours = certificate.public_key() == key.public_key() and not signs
    return ours and in_time and all(_name(name) in held for name in names)


def check_files(certificate: Path, key: Path) -> None:
    """Refuse files that a server could not use, before anything is started.

    Raises:
        LtxFlowsError: which file, what is wrong with it, and what to do.
    """
    held, kept = _read("--tls-cert", certificate), _read("--tls-key", key)

    def no_password() -> str:
        raise LtxFlowsError(
            f"--tls-key {key} is encrypted, and nobody is there to type its password; "
            f"type: openssl pkey -in {key} -out open.pem, and name that"
        )

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, no_password)
    except (ssl.SSLError, ValueError) as error:
        raise LtxFlowsError(_fault(certificate, held, key, kept) or _other_fault(certificate, key, error)) from error


def _read(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LtxFlowsError(f"{option} {path} cannot be read: {reason}; name a PEM file that you may read") from error


def _fault(certificate: Path, held: bytes, key: Path, kept: bytes) -> str | None:
    """The fault of either file, in words; None where neither can be blamed."""
    try:
        public = x509.load_pem_x509_certificates(held)[0].public_key()
    except MISREAD:
        return (
            f"--tls-cert {certificate} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----); "
            f"convert it: openssl x509 -in {certificate} -out certificate.pem"
        )
    try:
        private = load_pem_private_key(kept, None)
    except MISREAD:
        return (
            f"--tls-key {key} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----); "
            f"convert it: openssl pkey -in {key} -out key.pem"
        )
    if public != private.public_key():
        return (
            f"--tls-key {key} does not belong to the first certificate of --tls-cert {certificate}; name the key that "
            "it was made with, and put the server's certificate before those of its authorities"
        )
    return None


def _other_fault(certificate: Path, key: Path, error: Exception) -> str:
    return f"--tls-cert {certificate} with --tls-key {key} cannot be used: {error}; have another certificate made"
