"""What the API server does to one kind of object before it stores it: decoding, defaults, validation.

One module per family of kinds. Only rules that a client of this project can run into are here; each of them was
compared with a real API server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Obj = dict[str, Any]


class Cause(NamedTuple):
    field: str
    reason: str  # FieldValueInvalid | FieldValueRequired | FieldValueNotSupported | FieldValueForbidden
    message: str


def immutable(path: str, value: Any = "...") -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {value}: field is immutable")


def required(path: str, message: str = "") -> Cause:
    return Cause(path, "FieldValueRequired", "Required value" + (f": {message}" if message else ""))


class Context(NamedTuple):
    """What a strategy may need beside the object."""

    now: float
    allocate_ip: Callable[[], str]
    stored_otherwise: Callable[[str], None]
    """Told the uid of an object whose stored form lacks what reading it fills in: its next update is a write."""


class Strategy:
    """The default: nothing special. Every method may change the object that it is given, and returns it."""

    def decode(self, obj: Obj) -> Obj:
        """What happens while reading the body: defaults and canonical forms. Seen by field ownership."""
        return obj

    def prepare_create(self, obj: Obj, context: Context) -> Obj:
        """What happens after field ownership was recorded: generated names, allocated values."""
        return obj

    def prepare_update(self, new: Obj, old: Obj) -> Obj:
        return new

    def validate(self, new: Obj, old: Obj | None) -> list[Cause]:
        return []

    def validate_status(self, new: Obj, old: Obj) -> list[Cause]:
        return []
