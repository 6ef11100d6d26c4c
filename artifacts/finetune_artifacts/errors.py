"""What can go wrong with storage, in words a person can act on.

Preflight, the trainer and the CLI print these messages as they are, and retry policy hangs on the class alone,
so every backend maps its own exceptions to this tree:

    ArtifactError              anything else (disk full, an answer nobody expected)
    ├── InvalidUri             the URI or path itself is wrong; trying again cannot help
    ├── NotFound               no such object, bucket or claim
    ├── AlreadyExists          put_if_absent lost: somebody else's bytes are there
    ├── AccessDenied           401/403, missing or expired credentials, read-only file system
    ├── Unreachable            no connection, no answer in time, 429/5xx after retries; trying later may help
    └── DigestMismatch         the bytes are not the ones that were promised

Messages of a server may hold signatures and key ids, and may be long: `clip` removes both.
"""

import re
from collections.abc import Iterable

MAX_UPSTREAM_CHARS = 300

_SECRETS = re.compile(
    r"(?i)(?:(?:x-amz-)?(?:signature|credential|security-token|algorithm)|authorization|awsaccesskeyid|aws_[a-z_]+"
    r"|secret_?(?:access_?)?key|access_?key(?:_?id)?|session_?token)\s*[=:]\s*(?:Bearer\s+)?[^\s,&<>]+"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"
    r"|//[^/\s@]+@"
)


def clip(text: str, secrets: Iterable[str] = ()) -> str:
    """One line of at most 300 characters without credentials, signatures or control characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[removed]")
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = _SECRETS.sub(lambda m: "//[removed]@" if m.group().startswith("//") else "[removed]", text)
    return text if len(text) <= MAX_UPSTREAM_CHARS else text[: MAX_UPSTREAM_CHARS - 1] + "…"


class ArtifactError(Exception):
    """`cannot {action} {uri}: {cause}; {advice}`. Picklable, so that it survives worker processes."""

    def __init__(self, uri: str, action: str, cause: str, advice: str = "") -> None:
        super().__init__(uri, action, cause, advice)
        self.uri, self.action, self.cause, self.advice = uri, action, cause, advice

    def __str__(self) -> str:
        return f"cannot {self.action} {self.uri}: {self.cause}" + (f"; {self.advice}" if self.advice else "")


class InvalidUri(ArtifactError):
    """The URI or the path is not one this package accepts."""


class NotFound(ArtifactError):
    """Nothing is stored there."""


class AlreadyExists(ArtifactError):
    """A conditional create found an object in its place."""


class AccessDenied(ArtifactError):
    """The credentials do not allow it."""


class Unreachable(ArtifactError):
    """The store gave no usable answer. `maybe_done`: whether the request may have taken effect all the same."""

    maybe_done = True


class DigestMismatch(ArtifactError):
    """The stored or received bytes differ from what a manifest or a caller promised."""

    def __init__(self, uri: str, expected: str, actual: str) -> None:
        super().__init__(
            uri,
            "accept",
            f"expected {expected}, found {actual}",
            "the content is corrupt or was replaced: restore or upload it again",
        )
        self.args = (uri, expected, actual)
        self.expected, self.actual = expected, actual
