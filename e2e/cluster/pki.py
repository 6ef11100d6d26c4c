"""Certificates and kubeconfigs: one own authority per cluster, short commands instead of openssl.

Files are written once and reused, because rewriting a certificate makes a running component distrust the rest.
P-256 keys: a throw-away API server needs five of them, and RSA would cost more than the server's own start.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = dt.timedelta(days=3650)


def write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    partial.rename(path)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, none = serialization.Encoding.PEM, serialization.NoEncryption()
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, none)


def _name(common_name: str, organization: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Pair:
    """Paths of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """The cluster's certificate authority, kept in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = Pair(folder / "ca.crt", folder / "ca.key")
        if not self.ca.key.exists() or not self.ca.cert.exists():
            self._create()
        key = serialization.load_pem_private_key(self.ca.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._cert = x509.load_pem_x509_certificate(self.ca.cert.read_bytes())

    def _create(self) -> None:
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("finetune-test-ca", None)
        builder = self._builder(name, name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        write_private(self.ca.key, _pem(key))
        signed = builder.sign(key, hashes.SHA256())
        write_private(self.ca.cert, signed.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + VALID)
        )

    def issue(self, file: str, common_name: str, organization: str | None = None, names: Sequence[str] = ()) -> Pair:
        """A certificate for server and client use, made on the first call and read from disk afterwards."""
        pair = Pair(self.folder / f"{file}.crt", self.folder / f"{file}.key")
        if pair.cert.exists() and pair.key.exists():
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(common_name, organization), self._cert.subject, key.public_key())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        write_private(pair.key, _pem(key))
        signed = builder.sign(self._key, hashes.SHA256())
        write_private(pair.cert, signed.public_bytes(serialization.Encoding.PEM))
        return pair

    def service_account_key(self) -> Pair:
        """The key pair that signs service-account tokens (a bare public key, no certificate)."""
        pair = Pair(self.folder / "service-account.pub", self.folder / "service-account.key")
        if not pair.cert.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            write_private(pair.key, _pem(key))
            encoding, public_format = serialization.Encoding.PEM, serialization.PublicFormat
            public = key.public_key().public_bytes(encoding, public_format.SubjectPublicKeyInfo)
            write_private(pair.cert, public)
        return pair

    def kubeconfig(self, path: Path, server: str, client: Pair) -> Path:
        """A kubeconfig with everything inline, so that it can be copied elsewhere. Unchanged files stay."""
        if path.exists() and yaml.safe_load(path.read_text())["clusters"][0]["cluster"]["server"] == server:
            return path

        def inline(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": inline(self.ca.cert)}
        user = {"client-certificate-data": inline(client.cert), "client-key-data": inline(client.key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "finetune", "cluster": cluster}],
            "users": [{"name": "finetune", "user": user}],
            "contexts": [{"name": "finetune", "context": {"cluster": "finetune", "user": "finetune"}}],
            "current-context": "finetune",
        }
        write_private(path, yaml.safe_dump(config).encode())
        return path
