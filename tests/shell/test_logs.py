import io
import json
import logging
from collections.abc import Iterator

import pytest

from finetune_operator.kube.keys import deployment_key, job_key
from finetune_operator.shell import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    stream = io.StringIO()
    logs.setup("info", stream)
    yield stream
    root.handlers[:], level = kept
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_object_per_line_with_the_jobs_fields(stream: io.StringIO) -> None:
    log = logging.getLogger("finetune_operator.x")
    log.info("attempt %d", 3, extra=logs.key_fields(job_key("team", "bot"), attempt=3))
    log.debug("not shown")
    (line,) = lines(stream)
    assert line.pop("ts")
    assert line == {
        "level": "info",
        "logger": "finetune_operator.x",
        "msg": "attempt 3",
        "namespace": "team",
        "job": "bot",
        "attempt": 3,
    }


def test_a_deployments_lines_name_it(stream: io.StringIO) -> None:
    logging.getLogger("x").info("words", extra=logs.key_fields(deployment_key("team", "bot"), revision="abc"))
    (line,) = lines(stream)
    assert (line["namespace"], line["deployment"], line["revision"]) == ("team", "bot", "abc")
    assert "job" not in line


def test_a_traceback_stays_on_its_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        logging.getLogger("x").exception("oops")
    (line,) = lines(stream)
    assert "ValueError: broken" in str(line["traceback"])


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer SECRETSECRET",
        "bearer SECRETSECRET",
        '{"X-Finetune-Token": "SECRETSECRET"}',
        "token=SECRETSECRET",
        "AWS_SECRET_ACCESS_KEY=SECRETSECRET",
        "password: SECRETSECRET",
        "https://user:SECRETSECRET@host/path",
        "got eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.SECRETSECRET",
    ],
)
def test_secrets_are_blotted_out(stream: io.StringIO, text: str) -> None:
    logging.getLogger("x").warning("failed: %s", text, extra={"detail": text})
    assert "SECRETSECRET" not in stream.getvalue()
    assert "[redacted]" in stream.getvalue()


def test_ordinary_words_stay() -> None:
    for text in ("the token of attempt 3 was made", "3 tokens per second", "s3://bucket/path"):
        assert logs.redact(text) == text
