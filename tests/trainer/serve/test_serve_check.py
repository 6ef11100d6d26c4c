"""A candidate that is good gets through; each kind of bad one is stopped with the reason in words."""

import json
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from finetune_api import runconfig as rc
from finetune_api.layout import MANIFEST
from finetune_api.serveconfig import CheckReport
from finetune_api.served import SERVED_CHECK, ReferencePrompt, ServedReference
from finetune_trainer.serve import check as module
from finetune_trainer.serve.patience import Patience
from tests.trainer import small
from tests.trainer.serve import published
from tests.trainer.serve.fake_engine import FakeEngine, hangs_up, logprob, says, serving
from tests.trainer.serve.test_serve_verify import command

TEXT = "To be, or not to be"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rc.TERMINATION_LOG_ENV, str(tmp_path / "termination"))
    monkeypatch.setenv(rc.SECRETS_DIR_ENV, str(tmp_path / "secrets"))


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with serving(FakeEngine()) as engine:
        yield engine


def reference(text: str = TEXT, answer: str = f"re: {TEXT}") -> ServedReference:
    ids, written = list(text.encode()), list(answer.encode())[:8]
    prompt = ReferencePrompt(
        text=text,
        token_ids=ids,
        logprobs=[logprob(token) for token in ids[1:]],
        continuation=written,
        continuation_logprobs=[logprob(token) for token in written],
    )
    return ServedReference(prompts=[prompt], transformers="5.23.0")


def with_reference(folder: Path, content: ServedReference | None = None) -> str:
    published.publish(folder)
    (folder / SERVED_CHECK).write_text((content or reference()).model_dump_json(by_alias=True, exclude_none=True))
    return published.commit(folder)


def run(root: Path, fake: FakeEngine, *, first: float = 0.001, **fields: Any) -> CheckReport:
    """`root/model` is published without a reference, where a test has not done so. `first`: pause before asking again;
    longer than a minute ends the patience at once."""
    if not (root / "model").exists():
        published.publish(root / "model")
    targets = {"candidateUrl": fake.url, "candidateName": "support", **fields.pop("check", {})}
    config = published.config(f"file://{root}/model", check=targets, **fields)
    code = module.check(config, Patience(60, first=first, longest=max(first, 0.05)))
    text = (root / "termination").read_text()
    assert len(text.encode()) <= rc.TERMINATION_LOG_MAX
    report = CheckReport.model_validate_json(text)
    assert report.exit_code == code
    return report


def quality(root: Path, count: int = 16, **fields: Any) -> dict[str, Any]:
    pairs = [{"prompt": f"{n}:", "completion": f"re: {n}:"} for n in range(count)]
    small.write_jsonl(root / "held-out.jsonl", pairs)
    return {"data": {"uri": f"file://{root}/held-out.jsonl"}, "metric": "exactMatch", "minDelta": "-0.02", **fields}


def test_a_good_candidate_beside_stable(tmp_path: Path, fake: FakeEngine) -> None:
    digest = with_reference(tmp_path / "model")
    with serving(FakeEngine(name="old")) as stable:
        targets = {
            "prompts": ["Hello", "Who are you?"],
            "stableUrl": stable.url,
            "stableName": "old",
            "quality": [quality(tmp_path)],
        }
        report = run(tmp_path, fake, expectedDigest=digest, check=targets)
    assert (report.exit_code, report.reason, report.prompts) == (0, "Checked", 2)
    assert report.logprob_delta == pytest.approx(0, abs=1e-9)
    assert report.tokens == len(TEXT) - 1 + 8
    assert [(q.candidate, q.stable, q.samples, q.passed) for q in report.quality] == [(1.0, 1.0, 16, True)]
    assert "exactMatch 1.00 of 16 on the candidate, 1.00 on stable" in report.message


def test_without_prompts_one_is_asked_all_the_same(tmp_path: Path, fake: FakeEngine) -> None:
    report = run(tmp_path, fake)
    assert (report.exit_code, report.prompts) == (0, 1)
    assert ("/v1/completions", "Hello") in [(path, body.get("prompt")) for path, body in fake.asked]


def completion(logprobs: str) -> Callable[[BaseHTTPRequestHandler], None]:
    choice = f'{{"text": "x", "finish_reason": "length", "logprobs": {logprobs}}}'
    return says(200, f'{{"choices": [{choice}]}}'.encode())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (completion('{"token_logprobs": [-0.5, NaN]}'), "the log-probability nan; its weights are broken"),
        (completion('{"token_logprobs": [null]}'), "the log-probability None"),
        (completion('{"token_logprobs": []}'), "answered without a single token"),
        (completion("null"), "answered without a single token"),
        (says(500, b'{"error": {"message": "EngineCore died"}}'), "HTTP 500: EngineCore died (3 times in a row)"),
        (says(400, b'{"error": {"message": "too long"}}'), "HTTP 400: too long"),
        (hangs_up, "hung up before it had answered"),
    ],
)
def test_a_prompt_that_is_not_answered_well_fails_the_candidate(
    tmp_path: Path, fake: FakeEngine, fault: Callable[[BaseHTTPRequestHandler], None], words: str
) -> None:
    def only_completions(handler: BaseHTTPRequestHandler) -> None:
        fault(handler) if handler.path == "/v1/completions" else says(200, models)(handler)

    models = json.dumps(fake.reply("/v1/models", {})[1]).encode()
    fake.always = only_completions
    report = run(tmp_path, fake, check={"prompts": ["Who are you?"]})
    assert (report.exit_code, report.reason) == (76, "VerifyFailed")
    assert words in report.message


def test_a_candidate_under_another_name_is_told(tmp_path: Path, fake: FakeEngine) -> None:
    fake.name = "base"
    report = run(tmp_path, fake)
    assert (report.exit_code, report.reason) == (76, "VerifyFailed")
    assert "does not serve the model 'support'; it serves base" in report.message


def test_a_candidate_that_computes_something_else_is_stopped(tmp_path: Path, fake: FakeEngine) -> None:
    with_reference(tmp_path / "model")
    fake.shift = -0.25
    report = run(tmp_path, fake, check={"maxLogprobDelta": "0.1"})
    assert (report.exit_code, report.reason) == (76, "LogprobsDiffer")
    assert "mean |logprob delta| to the trainer 0.25 > 0.1 over 26 tokens" in report.message
    assert report.logprob_delta == pytest.approx(0.25)
    assert run(tmp_path, fake, check={"maxLogprobDelta": "0.3"}).exit_code == 0


def test_a_candidate_whose_tokenizer_cuts_otherwise_is_stopped(tmp_path: Path, fake: FakeEngine) -> None:
    with_reference(tmp_path / "model")
    fake.tokenizer = lambda text: [1, *text.encode()]
    report = run(tmp_path, fake)
    assert (report.exit_code, report.reason) == (76, "LogprobsDiffer")
    assert "is tokenized differently from token 1 on" in report.message


def test_an_engine_that_does_not_tell_its_tokens_is_no_worse(tmp_path: Path, fake: FakeEngine) -> None:
    with_reference(tmp_path / "model")

    def closed(text: str) -> list[int]:
        raise OSError

    fake.tokenizer = closed
    assert run(tmp_path, fake).exit_code == 0


def test_a_short_context_is_asked_for_what_fits(tmp_path: Path, fake: FakeEngine) -> None:
    with_reference(tmp_path / "model")
    fake.max_model_len = 16
    report = run(tmp_path, fake)
    assert (report.exit_code, report.tokens) == (0, 14)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"prompt_logprobs": None}, "with 0 prompt logprobs to 19 tokens"),
        ({"prompt_logprobs": [None, *[{"7": {"logprob": -1}}] * 18]}, "gave no log-probability for token 111"),
    ],
)
def test_an_engine_without_prompt_logprobs_is_told(
    tmp_path: Path, fake: FakeEngine, choice: dict[str, Any], words: str
) -> None:
    with_reference(tmp_path / "model")
    good = fake.reply("/v1/completions", {"model": "support", "prompt": "x", "max_tokens": 8, "temperature": 0})[1]
    good["choices"][0] |= {"logprobs": {"token_logprobs": [-1.0]}, **choice}
    models = json.dumps(fake.reply("/v1/models", {})[1]).encode()
    answers = {"/v1/models": models, "/v1/completions": json.dumps(good).encode(), "/tokenize": b"{}"}
    fake.always = lambda handler: says(200, answers[handler.path])(handler)
    report = run(tmp_path, fake)
    assert (report.exit_code, report.reason) == (76, "VerifyFailed")
    assert words in report.message


def test_a_changed_reference_is_refused(tmp_path: Path, fake: FakeEngine) -> None:
    with_reference(tmp_path / "model")
    (tmp_path / "model" / SERVED_CHECK).write_text("{}")
    report = run(tmp_path, fake)
    assert (report.exit_code, report.reason) == (66, "FileTampered")
    assert fake.asked == []


def test_another_model_than_expected_is_refused(tmp_path: Path, fake: FakeEngine) -> None:
    report = run(tmp_path, fake, expectedDigest="sha256:" + "1" * 64)
    assert (report.exit_code, report.reason) == (66, "ManifestTampered")


def test_wrong_answers_are_stopped_by_quality(tmp_path: Path, fake: FakeEngine) -> None:
    fake.answer = lambda prompt: f"re: {prompt}" if prompt in ("1:", "2:", "3:", "Hello") else "Sorry?"
    with serving(FakeEngine(name="old")) as stable:
        targets = {"stableUrl": stable.url, "stableName": "old", "quality": [quality(tmp_path)]}
        report = run(tmp_path, fake, check=targets)
    assert (report.exit_code, report.reason) == (76, "QualityFailed")
    assert "exactMatch 0.19 of 16 on the candidate, 1.00 on stable: -0.81, allowed -0.02" in report.message
    assert [q.passed for q in report.quality] == [False]


def test_the_first_revision_is_held_against_min_alone(tmp_path: Path, fake: FakeEngine) -> None:
    assert run(tmp_path, fake, check={"quality": [quality(tmp_path, min="0.9")]}).exit_code == 0
    fake.answer = lambda prompt: "Sorry?"
    report = run(tmp_path, fake, check={"quality": [quality(tmp_path, min="0.9")]})
    assert (report.exit_code, report.reason) == (76, "QualityFailed")
    assert "less than min 0.9" in report.message


def test_every_quality_check_is_reported_and_the_report_still_fits(tmp_path: Path, fake: FakeEngine) -> None:
    place = tmp_path / ("dätä-" + "ü" * 100)
    fake.answer = lambda prompt: "Sorry?"
    with serving(FakeEngine(always=says(400, ("ü" * 4000).encode()))) as stable:
        targets = {"stableUrl": stable.url, "quality": [quality(place, min="0.9")] * 4, "prompts": ["ü" * 500] * 16}
        fake.max_model_len = 4096
        report = run(tmp_path, fake, check=targets)
    assert report.reason == "QualityFailed"
    assert len(report.quality) == 4
    assert all(row.message.startswith("exactMatch 0.00 of 16") for row in report.quality)


def test_an_engine_that_starts_late_is_waited_for(tmp_path: Path, fake: FakeEngine) -> None:
    fake.faults = [says(503, b"no upstream")] * 5
    assert run(tmp_path, fake).exit_code == 0


def test_an_engine_that_never_comes_is_asked_again_later(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = FakeEngine(port=probe.getsockname()[1])
    report = run(tmp_path, gone, first=100)
    assert (report.exit_code, report.reason) == (69, "EngineUnreachable")


def test_a_stable_that_is_gone_fails_nobody(tmp_path: Path, fake: FakeEngine) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{probe.getsockname()[1]}"
    report = run(tmp_path, fake, first=100, check={"stableUrl": gone, "quality": [quality(tmp_path)]})
    assert (report.exit_code, report.reason) == (69, "StableUnreachable")


def test_a_crash_in_the_middle_is_survived_when_it_comes_back(tmp_path: Path, fake: FakeEngine) -> None:
    def crashes(handler: BaseHTTPRequestHandler) -> None:
        fake.faults = [says(503, b"starting")] * 10
        hangs_up(handler)

    fake.faults = [*[says(200, json.dumps(fake.reply("/v1/models", {})[1]).encode())], crashes]
    assert run(tmp_path, fake, check={"quality": [quality(tmp_path, min="1")]}).exit_code == 0


def test_missing_parts_are_answered(tmp_path: Path, fake: FakeEngine) -> None:
    published.publish(tmp_path / "model")
    code = module.check(published.config(f"file://{tmp_path}/model"))
    assert code == 64
    report = CheckReport.model_validate_json((tmp_path / "termination").read_text())
    assert report.reason == "InvalidConfig"
    (tmp_path / "model" / MANIFEST).unlink()
    missing = run(tmp_path, fake)
    assert (missing.exit_code, missing.reason) == (69, "ManifestMissing")
    data = {"data": {"uri": f"file://{tmp_path}/none.jsonl", "secretRef": {"name": "data-s3"}}, "metric": "exactMatch"}
    published.commit(tmp_path / "model")
    secret = run(tmp_path, fake, check={"quality": [{**data, "minDelta": "0"}]})
    assert (secret.exit_code, secret.reason) == (69, "SecretMissing")


def test_it_runs_in_the_small_image(tmp_path: Path, fake: FakeEngine) -> None:
    with_reference(tmp_path / "model")
    targets = {"candidateUrl": fake.url, "candidateName": "support", "quality": [quality(tmp_path, min="1")]}
    config = published.config(f"file://{tmp_path}/model", check=targets)
    done = command(config.model_dump_json(by_alias=True), "check", tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    report = CheckReport.model_validate_json((tmp_path / "termination").read_text())
    assert (report.reason, report.tokens) == ("Checked", 26)
