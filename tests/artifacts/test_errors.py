"""Messages: complete for people, free of secrets, fit for worker processes."""

import pickle

import pytest

from finetune_artifacts import ArtifactError, DigestMismatch, NotFound
from finetune_artifacts.errors import clip


def test_a_message_has_the_action_the_uri_the_cause_and_the_advice() -> None:
    error = NotFound("s3://b/x", "read", "no such object", "check the URI")
    assert str(error) == "cannot read s3://b/x: no such object; check the URI"
    assert str(ArtifactError("s3://b/x", "read", "it broke")) == "cannot read s3://b/x: it broke"


@pytest.mark.parametrize(
    "error", [NotFound("u", "a", "c", "d"), DigestMismatch("s3://b/x", "xxh3:1", "xxh3:2")], ids=["plain", "digest"]
)
def test_errors_survive_pickling(error: ArtifactError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_a_digest_mismatch_names_both() -> None:
    error = DigestMismatch("s3://b/x", "xxh3:1", "xxh3:2")
    assert (error.expected, error.actual) == ("xxh3:1", "xxh3:2")
    assert "expected xxh3:1, found xxh3:2" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "GET https://h/x?X-Amz-Credential=HUSH/2026&X-Amz-Signature=HUSH&x=1",
        "Authorization: Bearer HUSH",
        "Authorization: HUSH, SignedHeaders=host",
        "AWS_SECRET_ACCESS_KEY=HUSH is wrong",
        "secret_access_key: HUSH",
        "X-Amz-Security-Token: HUSH",
        "http://user:HUSH@host/x",
        "the key AKIAHUSHHUSHHUSH12 is unknown",
    ],
)
def test_credentials_are_removed(text: str) -> None:
    assert "HUSH" not in clip(text)
    assert "[removed]" in clip(text)


def test_known_secrets_are_removed_wherever_they_are() -> None:
    assert clip("odd: plainsecret!", ["", "plainsecret"]) == "odd: [removed]!"


def test_clip_gives_one_short_line() -> None:
    assert clip("a\n\x1b[31mb\t c") == "a [31mb c"
    assert len(clip("x" * 1000)) == 300
