"""Certificates chain to the cluster's own authority, are written once, and are nobody else's to read."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from e2e.cluster.pki import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def test_issued_certificates_are_signed_by_the_authority(authority: Authority) -> None:
    pair = authority.issue("admin", "finetune-admin", "system:masters")
    ca = x509.load_pem_x509_certificate(authority.ca.cert.read_bytes())
    certificate = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    certificate.verify_directly_issued_by(ca)
    assert certificate.subject.rfc4514_string() == "O=system:masters,CN=finetune-admin"


def test_names_and_addresses_become_alternatives(authority: Authority) -> None:
    pair = authority.issue("serving", "kube-apiserver", names=["localhost", "100.66.0.1"])
    certificate = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["100.66.0.1"]


def test_a_second_authority_on_the_same_folder_is_the_same(authority: Authority) -> None:
    pair = authority.issue("kubelet", "system:node:node-1", "system:nodes")
    before = pair.cert.read_bytes()
    again = Authority(authority.folder).issue("kubelet", "system:node:node-1", "system:nodes")
    assert again.cert.read_bytes() == before


def test_keys_are_private(authority: Authority) -> None:
    assert {path.stat().st_mode & 0o777 for path in authority.folder.glob("*.key")} == {0o600}


def test_kubeconfig_carries_everything_inline(authority: Authority, tmp_path: Path) -> None:
    client = authority.issue("admin", "finetune-admin", "system:masters")
    file = authority.kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:6443", client)
    config = yaml.safe_load(file.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert file.stat().st_mode & 0o777 == 0o600
    authority.kubeconfig(file, "https://127.0.0.1:7443", client)
    assert yaml.safe_load(file.read_text())["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:7443"


def test_the_pair_is_accepted_by_a_tls_stack(authority: Authority) -> None:
    pair = authority.issue("admin", "finetune-admin", "system:masters")
    context = ssl.create_default_context(cafile=str(authority.ca.cert))
    context.load_cert_chain(pair.cert, pair.key)
