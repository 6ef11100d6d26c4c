import pytest

from finetune_operator.kube import errors


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "BadRequest", errors.BadRequest),
        (405, "MethodNotAllowed", errors.BadRequest),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.ServerError),
        (504, "Timeout", errors.ServerError),
    ],
)
def test_status_decides_the_exception(status: int, reason: str, kind: type[errors.ApiError]) -> None:
    error = errors.from_answer("get /x", status, {}, {"reason": reason, "message": "words"})
    assert type(error) is kind
    assert (error.status, error.reason) == (status, reason)
    assert error.message == f"get /x: {status} {reason}: words"


def test_what_was_not_carried_out_is_told_from_what_may_have_been() -> None:
    for kind in (errors.ServerError, errors.RequestTimeout, errors.ConnectionLost):
        assert issubclass(kind, errors.Ambiguous)
    for kind in (errors.NotFound, errors.AlreadyExists, errors.TooManyRequests, errors.Invalid):
        assert issubclass(kind, errors.Rejected)
        assert not issubclass(kind, errors.Ambiguous)


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Retry-After": "7"}, {}, 7.0),
        ({"retry-after": "2"}, {}, 2.0),
        ({}, {"details": {"retryAfterSeconds": 3}}, 3.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, {}, None),
        ({}, "plain text", None),
        ({"Retry-After": "-5"}, {}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], body: object, expected: float | None) -> None:
    assert errors.from_answer("x", 429, headers, body).retry_after == expected


def test_a_long_answer_is_cut() -> None:
    assert len(errors.from_answer("x", 500, {}, "m" * 100_000).message) < 600
