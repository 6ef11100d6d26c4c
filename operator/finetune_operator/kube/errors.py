"""Everything an API call can end in.

    ApiError
    ├── Rejected                the server answered; nothing was changed by this call
    │   ├── BadRequest          400 and other 4xx
    │   ├── Unauthorized        401
    │   ├── Forbidden           403
    │   ├── NotFound            404
    │   ├── Conflict            409: resourceVersion or uid differ from what was read, or a field is another's
    │   │   └── AlreadyExists   409 on a create
    │   ├── Gone                410: resourceVersion or continue token too old
    │   ├── Invalid             422: the server refuses the object's content
    │   └── TooManyRequests     429, with `retry_after`
    └── Ambiguous               the call may or may not have been carried out
        ├── ServerError         5xx
        ├── RequestTimeout      no answer in time
        └── ConnectionLost      refused, reset, closed

Rejected and Ambiguous are apart because a write of the second kind may have happened: the caller plans again from what
it reads instead of repeating the write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MESSAGE_MAX = 500


class ApiError(Exception):
    """`status` is the HTTP status, 0 without an answer; `reason` the API server's own word."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class Rejected(ApiError):
    pass


class BadRequest(Rejected):
    pass


class Unauthorized(Rejected):
    pass


class Forbidden(Rejected):
    pass


class NotFound(Rejected):
    pass


class Conflict(Rejected):
    pass


class AlreadyExists(Conflict):
    pass


class Gone(Rejected):
    pass


class Invalid(Rejected):
    pass


class TooManyRequests(Rejected):
    pass


class Ambiguous(ApiError):
    pass


class ServerError(Ambiguous):
    pass


class RequestTimeout(Ambiguous):
    pass


class ConnectionLost(Ambiguous):
    pass


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def from_answer(what: str, status: int, headers: Mapping[str, str], body: Any) -> ApiError:
    """The exception for an answer of 400 and above; `what` is the verb and path for the message."""
    details = body if isinstance(body, Mapping) else {}
    reason = str(details.get("reason") or "")
    text = str(details.get("message") or (body if isinstance(body, str) else "") or "no message")
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else BadRequest)
    if status == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    return kind(
        f"{what}: {status} {reason}: {text[:_MESSAGE_MAX]}",
        status=status,
        reason=reason,
        retry_after=_retry_after(headers, details),
    )


def _retry_after(headers: Mapping[str, str], details: Mapping[str, Any]) -> float | None:
    value: Any = next((v for k, v in headers.items() if k.lower() == "retry-after"), None)
    if value is None:
        inner = details.get("details")
        value = inner.get("retryAfterSeconds") if isinstance(inner, Mapping) else None
    try:
        return max(0.0, float(value)) if value is not None else None
    except (TypeError, ValueError):
        return None
