"""Small types: durations, exit codes, layout names, URIs."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from finetune_api.duration import format_seconds, parse_duration
from finetune_api.exitcodes import ExitCode, reason
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.layout import checkpoint_name, parse_checkpoint_name
from finetune_api.storage import Stored


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("1.5m", 90), ("250ms", 0.25)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "5d", "1h 30m", "-5s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("seconds", "text"), [(5.2, "5s"), (750, "12m30s"), (11100, "3h05m"), (-1, "0s")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_every_exit_code_has_a_name() -> None:
    assert reason(ExitCode.STOPPED_UNSAVED) == "StoppedUnsaved"
    assert reason(137) == "Killed"
    assert reason(3) == "ExitCode3"


def test_checkpoint_names_round_trip() -> None:
    assert parse_checkpoint_name(checkpoint_name(40, 2)) == (40, 2)
    assert parse_checkpoint_name("step-40") is None
    assert parse_checkpoint_name("step-40-a2/x") is None


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/a/b.jsonl", "pvc://claim/x", "file:///tmp/x"])
def test_uris_that_are_accepted(uri: str) -> None:
    assert Stored(uri=uri).uri == uri


@pytest.mark.parametrize(
    "uri", ["bucket/x", "http://host/x", "s3:/bucket", "s3://b/a b", "file://relative", "s3://Bucket_"]
)
def test_uris_that_are_refused(uri: str) -> None:
    with pytest.raises(ValidationError):
        Stored(uri=uri)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="modle"):
        FineTuneJobSpec.model_validate({"modle": {}})
