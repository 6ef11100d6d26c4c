"""Names, dtypes and shapes of a model's tensors from the headers of its safetensors files.

A header is a few kilobytes at the front of a file of gigabytes, so a model of any size is measured in seconds, with
neither torch nor the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_artifacts import Store

_FIRST_READ = 256 << 10
_MAX_HEADER = 100 << 20
"""The format's own limit."""
ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


class NotSafetensors(ValueError):
    """The file's header cannot be right; the text says why."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    name: str
    dtype: str
    """As safetensors writes it: F32, BF16 …"""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * ITEM_BYTES.get(self.dtype, 4)


def read_header(store: Store, path: str, size: int) -> list[TensorInfo]:
    """The tensors of one file of `size` bytes. Raises NotSafetensors, ArtifactError."""
    header = _header(store, path, size)
    return parse_header(header, size - 8 - len(header))


def _header(store: Store, path: str, size: int) -> bytes:
    start = store.get_range(path, 0, min(size, _FIRST_READ))
    if len(start) < 8:
        raise NotSafetensors(f"it has {size} bytes; a safetensors file begins with 8 bytes of header length")
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= min(size - 8, _MAX_HEADER):
        raise NotSafetensors(
            f"its header would be {length} bytes long and the file has {size}; it is truncated or no safetensors file"
        )
    header = start[8 : 8 + length]
    if len(header) < length:
        header += store.get_range(path, 8 + len(header), length - len(header))
    return header


def read_metadata(store: Store, path: str, size: int) -> dict[str, str]:
    """What the writer said of the file; empty when nothing. Raises NotSafetensors, ArtifactError."""
    found = json.loads(_header(store, path, size)).get("__metadata__") or {}
    return {str(name): str(value) for name, value in found.items()}


def parse_header(header: bytes, data_bytes: int) -> list[TensorInfo]:
    try:
        document = json.loads(header)
    except ValueError:
        raise NotSafetensors("its header is not JSON") from None
    if not isinstance(document, Mapping):
        raise NotSafetensors("its header is not a JSON object")
    document = {name: entry for name, entry in document.items() if name != "__metadata__"}
    tensors = [_tensor(name, entry) for name, entry in document.items()]
    end = max((entry["data_offsets"][1] for entry in document.values()), default=0)
    if end != data_bytes:
        raise NotSafetensors(
            f"its header promises {end} bytes of tensors, the file holds {data_bytes}; it is truncated: copy it again"
        )
    return tensors


def _tensor(name: str, entry: Any) -> TensorInfo:
    try:
        shape, (_, end) = tuple(int(n) for n in entry["shape"]), entry["data_offsets"]
        if not isinstance(end, int) or any(n < 0 for n in shape):
            raise TypeError
        return TensorInfo(name, str(entry["dtype"]), shape)
    except (KeyError, TypeError, ValueError):
        raise NotSafetensors(f"its header's entry {name!r:.80} is malformed") from None
