"""Good examples validate; bad ones are refused in the words of their header, or pass on to whoever refuses them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from e2e.cluster import ApiServer
from finetune_api.finetunejob import FineTuneJobSpec
from tests.docs.manifests import ANSWERS, BAD, EXAMPLES, GOOD, documents, jobs, mistake

REFUSED = [p for p in BAD if mistake(p).answered_by == "api-server"]
ANSWERED_LATER = [p for p in BAD if p not in REFUSED]


def dry_run(api: ApiServer, path: Path) -> str:
    """What `kubectl apply` would be told; strict, as kubectl is by default."""
    return api.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))


def test_there_are_examples_and_each_mistake_says_who_answers() -> None:
    assert len(GOOD) >= 4
    assert len(REFUSED) >= 4
    assert len(ANSWERED_LATER) >= 5
    assert {mistake(p).answered_by for p in BAD} <= set(ANSWERS)


@pytest.mark.parametrize("path", [*GOOD, *ANSWERED_LATER], ids=lambda p: p.stem)
def test_is_a_valid_job(path: Path) -> None:
    found = jobs(path)
    assert found
    for job in found:
        FineTuneJobSpec.model_validate(job["spec"])


@pytest.mark.parametrize("path", [*GOOD, *BAD], ids=lambda p: p.stem)
def test_names_are_unique_so_that_all_can_be_applied_together(path: Path) -> None:
    others = {
        (j["metadata"].get("namespace"), j["metadata"]["name"]) for p in [*GOOD, *BAD] if p != path for j in jobs(p)
    }
    if path.stem not in ("frozen-field", "01-finetune"):
        assert not others & {(j["metadata"].get("namespace"), j["metadata"]["name"]) for j in jobs(path)}


@pytest.mark.apiserver
@pytest.mark.parametrize("path", [*GOOD, *ANSWERED_LATER], ids=lambda p: p.stem)
def test_the_api_server_accepts(namespaces: ApiServer, path: Path) -> None:
    answer = dry_run(namespaces, path)
    assert answer.count("server dry run") == len(documents(path))


@pytest.mark.apiserver
@pytest.mark.parametrize("path", REFUSED, ids=lambda p: p.stem)
def test_the_api_server_refuses_in_these_words(namespaces: ApiServer, path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        dry_run(namespaces, path)
    assert mistake(path).expect in refusal.value.stderr


@pytest.mark.apiserver
def test_a_frozen_field_is_refused_once_the_run_has_begun(namespaces: ApiServer) -> None:
    path = EXAMPLES / "bad" / "frozen-field.yaml"
    job = jobs(EXAMPLES / "01-finetune.yaml")[0]
    namespaces.kubectl("create", "-f", "-", input=json.dumps(job))
    try:
        assert "configured" in dry_run(namespaces, path)
        # What preflight resolves is opaque to the rule; only that it is there counts.
        resolved = {
            "modelRevision": "r",
            "dataFingerprint": "f",
            "runKey": "k",
            "runUri": "s3://artifacts/runs/demo/support-bot/k",
            "image": "i",
            "frozenDigest": "d",
        }
        patch = json.dumps({"status": {"phase": "Running", "resolved": resolved}})
        namespaces.kubectl("-ndemo", "patch", "ftj", "support-bot", "--subresource=status", "--type=merge", "-p", patch)
        with pytest.raises(subprocess.CalledProcessError) as refusal:
            dry_run(namespaces, path)
        assert mistake(path).expect in refusal.value.stderr
    finally:
        namespaces.kubectl("-ndemo", "delete", "ftj", "support-bot")


def test_line_17_of_the_malformed_data_is_the_only_bad_line() -> None:
    lines = (EXAMPLES / "bad" / "data" / "line-17.jsonl").read_text().splitlines()
    roles = [{m["role"] for m in json.loads(line)["messages"]} for line in lines]
    assert [n for n, r in enumerate(roles, 1) if r != {"user", "assistant"}] == [17]
