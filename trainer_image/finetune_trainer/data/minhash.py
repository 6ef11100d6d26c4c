"""Near duplicates by MinHash (Broder 1997) and locality-sensitive hashing (Leskovec, Rajaraman, Ullman, chapter 3).

A record is the set of its runs of five words. The share of equal components of two signatures estimates the share of
runs that two records have in common (Jaccard); its standard error is √(j(1−j)/128), 3.5 % at 80 %. Records are compared
where at least one band of their signatures is equal, so the cost grows with the number of records and not its square.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import numpy.typing as npt
import xxhash

SIZE = 128
_RUN = 5
_WORD = re.compile(r"\w+")

Signatures = npt.NDArray[np.uint32]


def signature(text: str) -> Signatures:
    """128 numbers. Words are compared without case and punctuation."""
    words = _WORD.findall(text.lower()) or [text]
    runs = {" ".join(words[i : i + _RUN]) for i in range(max(1, len(words) - _RUN + 1))}
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(run.encode()) for run in runs), dtype=np.uint64, count=len(runs))
    odd, plus = _multipliers()
    # Multiply-shift (Dietzfelbinger et al. 1997): the upper half of a·x + b modulo 2**64.
    found = np.full(SIZE, np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(hashes), 1024):
        chunk = hashes[start : start + 1024]
        mixed = (odd[:, None] * chunk + plus[:, None]) >> np.uint64(32)
        found = np.minimum(found, mixed.min(axis=1).astype(np.uint32))
    return found


@cache
def _multipliers() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    drawn = np.array([xxhash.xxh3_64_intdigest(f"minhash {i}".encode()) for i in range(2 * SIZE)], dtype=np.uint64)
    return drawn[:SIZE] | np.uint64(1), drawn[SIZE:]


def rows_per_band(threshold: float) -> int:
    """The longest bands that still meet, with a probability of 85 % at least, for two records at the threshold."""
    return next(r for r in (16, 8, 4, 2) if 1 - (1 - threshold**r) ** (SIZE // r) >= 0.85)


def clusters(signatures: Signatures, threshold: float) -> npt.NDArray[np.int64]:
    """For each record the number of the first one it is a near duplicate of, itself included (n signatures → n)."""
    roots = np.arange(len(signatures), dtype=np.int64)
    rows = rows_per_band(threshold)
    odd, _ = _multipliers()
    for start in range(0, SIZE, rows):
        # Which bands are equal is asked of a hash of them; who meets by accident fails the comparison.
        keys = signatures[:, start : start + rows].astype(np.uint64) @ odd[:rows]
        _, first, of = np.unique(keys, return_index=True, return_inverse=True)
        leaders = first[of]
        for record in np.flatnonzero(leaders != np.arange(len(leaders))):
            _join(signatures, roots, int(leaders[record]), int(record), threshold)
    return np.array([_root(roots, i) for i in range(len(roots))], dtype=np.int64)


def _join(signatures: Signatures, roots: npt.NDArray[np.int64], a: int, b: int, threshold: float) -> None:
    a_root, b_root = _root(roots, a), _root(roots, b)
    if a_root != b_root and float(np.mean(signatures[a] == signatures[b])) >= threshold:
        roots[max(a_root, b_root)] = min(a_root, b_root)


def _root(roots: npt.NDArray[np.int64], index: int) -> int:
    while roots[index] != index:
        roots[index] = roots[roots[index]]
        index = int(roots[index])
    return index
