"""A job of the Hub's repositories: preflight says which commit each branch is, and every later pod reads that one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_api.manifests import CheckpointManifest
from finetune_api.runconfig import RunConfig
from finetune_trainer.common.models import fetch_model
from finetune_trainer.common.pins import moving, name_on_the_hub, pinned
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.preflight.main import examine
from finetune_trainer.preflight.problems import Problem
from finetune_trainer.publish.upload import lineage
from tests.artifacts.fake_hub import FakeHub
from tests.trainer import small
from tests.trainer.test_preflight_main import job, run

__all__ = ["job"]
COMMIT = "a" * 40
DIGEST = "xxh3:" + "0" * 32
CHECKPOINT = {
    "jobUid": "u",
    "specDigest": "d",
    "attempt": 1,
    "step": 1,
    "totalSteps": 1,
    "epoch": 1,
    "tokens": 1,
    "seed": 1,
    "worldSize": 1,
    "globalBatchSize": 1,
    "seconds": 1,
    "at": "now",
    "trainableDigest": DIGEST,
    "files": [{"path": "x", "size": 1, "digest": DIGEST}],
}


@pytest.fixture
def hub(job: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.repo("acme/bot", {p.name: p.read_bytes() for p in (job / "base").iterdir()})
        made.repo("datasets/acme/rows", {"README.md": b"#", "train/a.jsonl": (job / "train.jsonl").read_bytes()})
        monkeypatch.setenv("HF_ENDPOINT", made.endpoint)
        monkeypatch.setenv("HF_TOKEN_PATH", "/nowhere")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield made


def of_the_hub(job: Path, **changes: Any) -> RunConfig:
    spec = {"model": {"uri": "hf://acme/bot"}, "data": {"train": [{"uri": "hf://datasets/acme/rows/train"}]}}
    return small.config(job, small.merged(spec, changes))


def test_what_preflight_saw_is_what_pods_read_though_branches_move(
    hub: FakeHub, job: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = of_the_hub(job)
    report = run(config, job)
    assert report.exit_code == 0, report.message
    model, rows = hub.repos["acme/bot"], hub.repos["datasets/acme/rows"]
    assert report.pins == {"hf://acme/bot": model.refs["main"], "hf://datasets/acme/rows": rows.refs["main"]}
    assert f"hf://acme/bot at {model.refs['main'][:12]}" in capsys.readouterr().out

    model.push({**model.commits[model.refs["main"]], "config.json": b"{}"})
    rows.push({"train/a.jsonl": b'{"messages": []}\n'})
    later = config.model_copy(
        update={
            "pins": report.pins,
            "model_revision": report.model_revision,
            "data_fingerprint": report.data_fingerprint,
            "run_key": report.run_key,
        }
    )
    fetch_model(later, tmp_path / "model", lambda _bytes: None)
    fetch_data(later, tmp_path / "data", lambda _bytes: None)
    assert (tmp_path / "model" / "config.json").read_bytes() == (job / "base" / "config.json").read_bytes()
    assert (tmp_path / "data" / "train-0" / "a.jsonl").read_bytes() == (job / "train.jsonl").read_bytes()
    found = lineage(later, CheckpointManifest.model_validate(CHECKPOINT))
    assert found.model_uri == f"hf://acme/bot@{report.pins['hf://acme/bot']}", "how the model can be found again"
    assert run(config, job).exit_code != 0, "the branch itself is another model by now"


def test_equal_content_is_the_same_run_wherever_it_comes_from_in_the_hub(hub: FakeHub, job: Path) -> None:
    by_branch = run(of_the_hub(job), job)
    commit = hub.repos["acme/bot"].refs["main"]
    by_commit = run(of_the_hub(job, model={"uri": f"hf://acme/bot@{commit}"}), job)
    assert by_commit.model_revision == by_branch.model_revision
    assert "hf://acme/bot" not in by_commit.pins, "a commit needs none"


@pytest.mark.parametrize(
    ("changes", "field", "reason", "words"),
    [
        (
            {"model": {"uri": "hf://acme/nothing"}},
            "spec.model.uri",
            "StorageDenied",
            "correct the name, or name a Secret",
        ),
        ({"model": {"uri": "hf://acme/bot@v2"}}, "spec.model.uri", "WaitingForModel", "it has no revision 'v2'"),
        (
            {"data": {"train": [{"uri": "hf://datasets/acme/rows/test"}]}},
            "spec.data.train[0].uri",
            "WaitingForDataset",
            "nothing is stored at hf://datasets/acme/rows/test",
        ),
        (
            {"model": {"uri": "hf://acme/bot", "secretRef": {"name": "hub"}}},
            "spec.model.secretRef",
            "WaitingForSecret",
            "create it with the keys HF_TOKEN",
        ),
    ],
)
def test_mistakes_are_said_at_their_field(
    hub: FakeHub, job: Path, changes: dict[str, Any], field: str, reason: str, words: str
) -> None:
    report = run(of_the_hub(job, **changes), job)
    assert (report.field, report.reason) == (field, reason), report.message
    assert words in report.message


def test_a_gated_model_is_read_with_the_secrets_token(hub: FakeHub, job: Path) -> None:
    hub.repos["acme/bot"].gated = True
    assert "accept its terms" in run(of_the_hub(job), job).message
    secret = job / "secrets" / "hub"
    secret.mkdir(parents=True)
    (secret / "HF_TOKEN").write_text(hub.token)
    (secret / "HF_ENDPOINT").write_text(hub.endpoint)
    report = run(of_the_hub(job, model={"uri": "hf://acme/bot", "secretRef": {"name": "hub"}}), job)
    assert report.exit_code == 0, report.message
    assert hub.token not in json.dumps(report.to_wire())


def test_more_branches_than_can_be_kept_in_mind_are_refused(hub: FakeHub, job: Path) -> None:
    content = hub.repos["datasets/acme/rows"].commits[hub.repos["datasets/acme/rows"].refs["main"]]
    for number in range(9):
        hub.repo(f"datasets/acme/rows{number}", content)
    sources = [{"uri": f"hf://datasets/acme/rows{number}"} for number in range(9)]
    with pytest.raises(Problem, match="write some as hf://…@<commit>"):
        examine(of_the_hub(job, data={"train": sources}))


def test_only_branches_are_pinned() -> None:
    pins = {"hf://acme/bot": COMMIT, "hf://acme/bot@dev": "b" * 40}
    assert pinned("hf://acme/bot/sub", pins) == f"hf://acme/bot@{COMMIT}/sub"
    assert pinned("hf://acme/bot@dev", pins) == f"hf://acme/bot@{'b' * 40}"
    for uri in (f"hf://acme/bot@{COMMIT}", "hf://acme/other", "s3://bucket/acme/bot"):
        assert pinned(uri, pins) == uri
    assert moving(f"hf://acme/bot@{COMMIT}") is None
    assert name_on_the_hub("hf://acme/bot@dev") == ("acme/bot", "dev")
    assert name_on_the_hub("hf://acme/bot") == ("acme/bot", None)
    assert name_on_the_hub("hf://acme/bot/sub") is None
    assert name_on_the_hub("s3://bucket/bot") is None
