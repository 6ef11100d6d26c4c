"""Digests against the algorithms' own reference values."""

from pathlib import Path

import pytest

from finetune_artifacts import digest_bytes, digest_file
from finetune_artifacts.digest import CHUNK, Hasher, algorithm_of


def test_known_values() -> None:
    assert digest_bytes(b"") == "xxh3:99aa06d3014798d86001c324468d497f"
    assert digest_bytes(b"abc", "sha256") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("algo", ["xxh3", "sha256"])
def test_a_file_in_chunks_equals_its_bytes(tmp_path: Path, algo: str) -> None:
    data = b"0123456789" * (CHUNK // 10 + 7)
    (tmp_path / "x").write_bytes(data)
    assert digest_file(tmp_path / "x", algo) == digest_bytes(data, algo)  # type: ignore[arg-type]
    assert algorithm_of(digest_bytes(data, algo)) == algo  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "abc", "md5:00", "xxh3:00", "sha256:" + "0" * 63, "xxh3:" + "G" * 32])
def test_what_is_no_digest_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="expected 'xxh3:<32 hex>' or 'sha256:<64 hex>'"):
        algorithm_of(text)


def test_unknown_algorithm() -> None:
    with pytest.raises(ValueError, match="expected 'xxh3' or 'sha256'"):
        Hasher("md5")  # type: ignore[arg-type]
