"""A teacher's answers on disk: of every target token the k likeliest, and what is left for all others together.

A record is found by a hash of its token ids and targets, not by its place: files made with another tokenizer, maxLength
or trainOn are then refused, because their records are not these, and nothing depends on the order of the data.

Legend of suffixes: r records of a file, p their targets one after another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune_trainer.data.top_k_header import PATTERN, Header, unusable

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]
Said = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]
"""(targets, k) token ids, and (targets, k + 1) log-probabilities, that of all others last."""


def key_of(example: Example) -> int:
    """Of 64 bits."""
    ids, targets = example
    content = np.asarray(ids, dtype=np.int32).tobytes() + np.asarray(targets, dtype=np.bool_).tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def write(folder: Path, number: int, header: Header, records: Sequence[tuple[int, Said]]) -> Path:
    """One file of the set."""
    from safetensors.numpy import save_file

    path = folder / PATTERN.replace("*", f"{number:05}")
    tensors = {
        "keys_r": np.array([key for key, _ in records], dtype=np.uint64),
        "ends_r": np.cumsum([len(tokens) for _, (tokens, _) in records], dtype=np.int64),
        "tokens_pk": np.concatenate([tokens for _, (tokens, _) in records]).astype(np.int32),
        "log_probs_pk": np.concatenate([said for _, (_, said) in records]).astype(np.float32),
    }
    save_file(tensors, path, metadata=header.metadata())
    return path


class TopK:
    """Answers by record, read from the files when they are asked for. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """Raises RunError (66)."""
        from safetensors import SafetensorError, safe_open

        self._files: list[Any] = []
        self._places: dict[int, tuple[int, int, int]] = {}
        headers = set()
        for path in sorted(folder.glob(PATTERN)):
            try:
                file: Any = safe_open(path, framework="numpy")
                headers.add(Header.of(file.metadata()))
                ends = file.get_tensor("ends_r").tolist()
                keys = file.get_tensor("keys_r").tolist()
            except (SafetensorError, OSError, ValueError, KeyError) as error:
                raise unusable(f"{path.name} cannot be read: {error}; make the files anew") from None
            for key, start, end in zip(keys, [0, *ends[:-1]], ends, strict=True):
                self._places[key] = (len(self._files), start, end)
            self._files.append(file)
        if len(headers) != 1:
            found = "are of several sets" if headers else "are missing"
            raise unusable(f"its files {PATTERN} {found}; it has to hold those of one `finetune teach`")
        (self.header,) = headers

    def __len__(self) -> int:
        return len(self._places)

    def said(self, example: Example) -> Said:
        file, start, end = self._places[key_of(example)]
        tensors = (self._files[file].get_slice(name) for name in ("tokens_pk", "log_probs_pk"))
        tokens, log_probs = (tensor[start:end] for tensor in tensors)
        return tokens, log_probs

    def require(self, examples: Iterable[Example]) -> None:
        """Raises RunError (66) when a record, as it is encoded now, was not asked of the teacher."""
        missing = count = 0
        for count, example in enumerate(examples, start=1):  # noqa: B007
            missing += key_of(example) not in self._places
        if missing:
            raise unusable(
                f"{missing} of {count} records are not in it as they are encoded now; make it anew with the same data "
                "block and the same tokenizer"
            )
