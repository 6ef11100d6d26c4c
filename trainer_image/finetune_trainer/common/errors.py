"""One exception carries an exit code, its CamelCase reason and the words for people.

Everything that can be explained ends as a `RunError`; a stack trace is left for bugs.
"""

from __future__ import annotations

from finetune_api.exitcodes import ExitCode
from finetune_api.exitcodes import reason as reason_of


class RunError(Exception):
    """Ends the process with `code`; `message` says what happened and what to do."""

    def __init__(self, code: ExitCode, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or reason_of(code)
        self.message = message


class SpecError(RunError):
    """A value of the spec that cannot work; `field` is its path."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(ExitCode.INVALID_SPEC, f"{field}: {value!r} cannot be used: {expected}")
        self.field = field
