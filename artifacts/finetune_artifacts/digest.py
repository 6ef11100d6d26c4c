"""Digests as text with their algorithm: `xxh3:<32 hex>` (128 bits) or `sha256:<64 hex>`.

xxh3 finds corruption at memory speed, which matters within a preemption notice; sha256 also withstands an
adversary and is what a published model carries.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import xxhash

Algorithm = Literal["xxh3", "sha256"]
CHUNK = 4 << 20
_FORM = re.compile(r"xxh3:[0-9a-f]{32}|sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class FileDigest:
    """A file as a manifest names it: `digest` is `xxh3:<hex>` or `sha256:<hex>`."""

    path: str
    size: int
    digest: str


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Hasher:
    """A running digest; `text` may be read at any time."""

    def __init__(self, algo: Algorithm = "xxh3") -> None:
        if algo not in ("xxh3", "sha256"):
            raise ValueError(f"algo is {algo!r}: expected 'xxh3' or 'sha256'")
        self.algo = algo
        self._hash: _Hash = xxhash.xxh3_128() if algo == "xxh3" else hashlib.sha256()

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    @property
    def text(self) -> str:
        return f"{self.algo}:{self._hash.hexdigest()}"


def algorithm_of(digest: str) -> Algorithm:
    """The algorithm named by a digest; ValueError in words when it is not one."""
    if not _FORM.fullmatch(digest):
        raise ValueError(f"digest is {digest[:80]!r}: expected 'xxh3:<32 hex>' or 'sha256:<64 hex>', lower case")
    return "xxh3" if digest.startswith("xxh3:") else "sha256"


def digest_bytes(data: bytes, algo: Algorithm = "xxh3") -> str:
    hasher = Hasher(algo)
    hasher.update(data)
    return hasher.text


def digest_file(path: Path, algo: Algorithm = "xxh3") -> str:
    hasher = Hasher(algo)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    return hasher.text
