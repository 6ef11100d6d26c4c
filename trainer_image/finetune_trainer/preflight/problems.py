"""What preflight raises, and how an answer of storage becomes a wait or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from finetune_api.exitcodes import ExitCode
from finetune_artifacts import AccessDenied, ArtifactError, InvalidUri, NotFound, Unreachable
from finetune_trainer.common.errors import RunError
from finetune_trainer.preflight.reasons import Reason


class Problem(RunError):
    """Ends preflight; `field` is the spec's path that the message is about, None for what the installation gives."""

    def __init__(self, code: ExitCode, reason: Reason, field: str | None, message: str) -> None:
        super().__init__(code, f"{field}: {message}" if field else message, reason=reason)
        self.field = field


def wrong(field: str | None, message: str, reason: Reason = Reason.INVALID_SPEC) -> Problem:
    """A mistake inside the spec: final until it changes."""
    return Problem(ExitCode.INVALID_SPEC, reason, field, message)


def waiting(field: str | None, message: str, reason: Reason) -> Problem:
    """Something that may still arrive: the operator asks again."""
    return Problem(ExitCode.WAITING, reason, field, message)


@contextmanager
def storage_in_words(
    field: str | None, secret: str | None, *, missing: Reason = Reason.STORAGE_MISSING
) -> Iterator[None]:
    """Translates what storage raises. `missing` is the reason when there is nothing (no object, bucket or claim)."""
    used = f"used: Secret {secret!r}" if secret else "used: the pod's own credentials"
    try:
        yield
    except InvalidUri as error:
        raise wrong(field, str(error)) from None
    except NotFound as error:
        raise waiting(field, f"{error} ({used}). It is looked for again", missing) from None
    except AccessDenied as error:
        raise waiting(field, f"{error} ({used}). It is tried again", Reason.STORAGE_DENIED) from None
    except Unreachable as error:
        raise waiting(field, f"{error} ({used}). It is tried again", Reason.STORAGE_UNREACHABLE) from None
    except ArtifactError as error:
        raise Problem(ExitCode.STORAGE, Reason.STORAGE, field, str(error)) from None
