"""API errors as a real API server words them: a `Status` body with reason, code and details.

Clients branch on `code` and `reason`, never on the message, so those two are exact; messages follow the real
wording closely enough to be recognised in a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ApiError(Exception):
    """A request that the API server refuses; `body()` is what goes over the wire."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details = dict(details or {})
        self.retry_after = retry_after
        if retry_after is not None:
            self.details["retryAfterSeconds"] = retry_after

    def body(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        return status


def _about(group: str, plural: str, name: str) -> dict[str, Any]:
    about: dict[str, Any] = {"name": name, "kind": plural}
    if group:
        about["group"] = group
    return about


def _qualified(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(group: str, plural: str, name: str) -> ApiError:
    about = _about(group, plural, name)
    return ApiError(404, "NotFound", f'{_qualified(group, plural)} "{name}" not found', details=about)


def unknown_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(group: str, plural: str, name: str, *, deleting: bool = False) -> ApiError:
    message = f'{_qualified(group, plural)} "{name}" already exists'
    if deleting:
        message = f"object is being deleted: {message}"
    return ApiError(409, "AlreadyExists", message, details=_about(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {_qualified(group, plural)} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_about(group, plural, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def apply_conflict(causes: list[tuple[str, str]]) -> ApiError:
    """`causes`: (who owns it, field path in dotted form)."""
    details = {
        "causes": [
            {"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": field}
            for who, field in causes
        ]
    }
    listed = "; ".join(f"{who}: {field}" for who, field in causes)
    message = f"Apply failed with {len(causes)} conflict{'s' if len(causes) > 1 else ''}: conflict with {listed}"
    return ApiError(409, "Conflict", message, details=details)


def invalid(group: str, kind: str, name: str, causes: Sequence[tuple[str, str, str]]) -> ApiError:
    """`causes`: (field, reason such as FieldValueInvalid, message)."""
    details: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "causes": [{"reason": why, "message": text, "field": field} for field, why, text in causes],
    }
    if group:
        details["group"] = group
    listed = ", ".join(f"{field}: {text}" for field, _, text in causes)
    if len(causes) > 1:
        listed = f"[{listed}]"
    return ApiError(422, "Invalid", f'{_qualified(group, kind)} "{name}" is invalid: {listed}', details=details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unsupported_media_type(message: str) -> ApiError:
    return ApiError(415, "UnsupportedMediaType", message)


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def forbidden(group: str, plural: str, name: str, why: str) -> ApiError:
    message = f'{_qualified(group, plural)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, details=_about(group, plural, name))


def too_many_requests(message: str, retry_after: int) -> ApiError:
    return ApiError(429, "TooManyRequests", message, retry_after=retry_after)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def server_error(code: int) -> ApiError:
    reasons = {500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
    return ApiError(code, reasons.get(code, "InternalError"), "injected fault")
