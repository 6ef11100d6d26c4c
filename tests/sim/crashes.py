"""The operator's death at one of its own writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fakeapi import CrashAtWrite
from fakeapi.routes import Call

_UNCOUNTED = ("Lease", "Event")


@dataclass
class CrashAtOwnWrite(CrashAtWrite):
    """Renewals of the Lease are not counted: they are everywhere, and dying there is dying anywhere. Nor are Events:
    they follow a status write, nothing follows from them, and dying there is dying after that write."""

    prelude: int = 0
    """Writes before what a test is about."""

    def before(self, call: Call) -> Any:
        return None if call.resource.kind in _UNCOUNTED else super().before(call)

    def after(self, call: Call, status: int) -> Any:
        return None if call.resource.kind in _UNCOUNTED else super().after(call, status)
