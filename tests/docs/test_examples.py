"""Good examples validate; bad ones are refused in the words of their header, or pass on to whoever refuses them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from e2e.cluster import ApiServer
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.revision import revision_name, trial_key
from tests.docs.manifests import ANSWERS, BAD, EXAMPLES, GOOD, SPECS, documents, jobs, mistake, ours

REFUSED = [p for p in BAD if mistake(p).answered_by == "api-server"]
ANSWERED_LATER = [p for p in BAD if p not in REFUSED]
UNREADABLE = [p for p in ANSWERED_LATER if p.stem == "falling-weights"]
"""Structurally sound, so that the API server takes it; only the operator reads that far."""
EDITS = {"frozen-field": "01-finetune", "06-canary": "05-serve"}
"""Examples that change an object of another one."""


def dry_run(api: ApiServer, path: Path) -> str:
    """What `kubectl apply` would be told; strict, as kubectl is by default."""
    return api.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))


def test_there_are_examples_and_each_mistake_says_who_answers() -> None:
    assert len(GOOD) >= 4
    assert len(REFUSED) >= 4
    assert len(ANSWERED_LATER) >= 5
    assert {mistake(p).answered_by for p in BAD} <= set(ANSWERS)


@pytest.mark.parametrize("path", [p for p in [*GOOD, *ANSWERED_LATER] if p not in UNREADABLE], ids=lambda p: p.stem)
def test_is_valid(path: Path) -> None:
    found = ours(path)
    assert found
    for document in found:
        SPECS[document["kind"]].model_validate(document["spec"])


@pytest.mark.parametrize("path", UNREADABLE, ids=lambda p: p.stem)
def test_is_refused_by_the_operator_in_these_words(path: Path) -> None:
    with pytest.raises(ValueError, match=mistake(path).expect):
        ModelDeploymentSpec.model_validate(ours(path)[0]["spec"])


def names(path: Path) -> set[tuple[str, str, str]]:
    return {(d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"]) for d in ours(path)}


@pytest.mark.parametrize("path", [*GOOD, *BAD], ids=lambda p: p.stem)
def test_names_are_unique_so_that_all_can_be_applied_together(path: Path) -> None:
    for other in [*GOOD, *BAD]:
        if other != path and EDITS.get(path.stem) != other.stem and EDITS.get(other.stem) != path.stem:
            assert not names(path) & names(other), other.name


def deployment(stem: str) -> ModelDeploymentSpec:
    (found,) = [d for d in documents(EXAMPLES / f"{stem}.yaml") if d["kind"] == "ModelDeployment"]
    return ModelDeploymentSpec.model_validate(found["spec"])


def test_the_canary_differs_in_its_model_only() -> None:
    first, second = deployment("05-serve"), deployment("06-canary")
    assert first.model != second.model
    assert first.model_copy(update={"model": second.model}) == second
    assert trial_key(first) == trial_key(second)
    same = "sha256:" + "0" * 64
    assert revision_name(first, same, served_name="support-bot") == revision_name(
        second, same, served_name="support-bot"
    )


def test_jobs_that_are_served_are_among_the_examples() -> None:
    trained = {j["metadata"]["name"] for p in [*GOOD, *BAD] for j in jobs(p)}
    labels = [j["metadata"].get("labels", {}) for p in GOOD for j in jobs(p)]
    for path in [*GOOD, *ANSWERED_LATER]:
        for document in ours(path):
            if document["kind"] == "ModelDeployment":
                model = document["spec"]["model"]
                if "fineTuneJobRef" in model and path.stem != "no-such-job":
                    assert model["fineTuneJobRef"]["name"] in trained, path.name
                if "fineTuneJobSelector" in model:
                    wanted = model["fineTuneJobSelector"]["matchLabels"].items()
                    assert sum(wanted <= have.items() for have in labels) >= 2, path.name


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
