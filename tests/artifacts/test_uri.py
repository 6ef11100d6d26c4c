"""What counts as a URI, and what the refusal says."""

import pytest

from finetune_artifacts import InvalidUri, parse_uri
from finetune_artifacts.uri import Uri, check_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://team-a/support/x", Uri("s3", "team-a", "support/x")),
        ("s3://team-a", Uri("s3", "team-a", "")),
        ("s3://team-a/", Uri("s3", "team-a", "")),
        ("s3://team-a/p%41th/", Uri("s3", "team-a", "p%41th")),
        ("pvc://claim.1/a", Uri("pvc", "claim.1", "a")),
        ("file:///data/x", Uri("file", "", "data/x")),
        ("file:///", Uri("file", "", "")),
    ],
)
def test_accepted(text: str, expected: Uri) -> None:
    assert parse_uri(text) == expected
    assert parse_uri(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/data/x", "no scheme"),
        ("s3:/x", "no scheme"),
        ("gs://bucket/x", "'gs' is not supported by this version yet"),
        ("ftp://host/x", "'ftp' is not known"),
        ("s3://", "'' is not a bucket name"),
        ("s3://UPPER/x", "3 to 63 of a-z"),
        ("pvc:///x", "'' is not a claim name"),
        ("pvc://a_b/x", "is not a claim name"),
        ("file://host/x", "needs an absolute path"),
        ("file://x", "needs an absolute path"),
        ("s3://bucket/a/../b", "'..' is not a name"),
        ("s3://bucket/a//b", "'' is not a name"),
        ("s3://bucket/a\0b", "control"),
    ],
)
def test_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(InvalidUri) as caught:
        parse_uri(text)
    assert words in str(caught.value)


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidUri) as caught:
        parse_uri("s3://AKIAXXXX:hunter2@bucket/x")
    assert "secretRef" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_join_and_trailing_slash() -> None:
    assert str(parse_uri("s3://bkt").join("a").join("").join("b")) == "s3://bkt/a/b"
    assert check_path("a/b/", "s3://bkt") == "a/b"
    assert check_path("", "s3://bkt", empty=True) == ""
    for path in ("", "/", "//", "a//"):
        with pytest.raises(InvalidUri):
            check_path(path, "s3://bkt")


def test_a_long_path_is_clipped_in_the_message() -> None:
    with pytest.raises(InvalidUri) as caught:
        check_path("../" + "x" * 5000, "s3://bkt")
    assert len(str(caught.value)) < 700
