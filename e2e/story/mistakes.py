"""Letter f: every mistake of examples/bad is answered in words at the place its header names.

`answered-by: api-server` is refused at `kubectl apply`; `preflight` is found before a training pod exists; `operator`
becomes a condition.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.story.stage import EXAMPLES, REPO, SECRET, Stage, StoryError, condition, line

_HEADER = re.compile(r"^# (mistake|answered-by|expect|then): (.*)$", re.M)


@dataclass(frozen=True)
class Mistake:
    file: Path
    mistake: str
    by: str
    expect: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [doc for doc in yaml.safe_load_all(self.file.read_text()) if doc]

    @property
    def job(self) -> dict[str, Any]:
        return next(doc for doc in self.documents if doc["kind"] == "FineTuneJob")


def mistakes() -> list[Mistake]:
    found = []
    for file in sorted((EXAMPLES / "bad").glob("*.yaml")):
        header = dict(_HEADER.findall(file.read_text()))
        found.append(Mistake(file, header["mistake"], header["answered-by"], header["expect"]))
    return found


def f_refused(stage: Stage) -> list[list[str]]:
    """What the API server itself refuses."""
    rows = []
    for mistake in mistakes():
        if mistake.by != "api-server":
            continue
        said = stage.refused("apply", "-f", str(mistake.file.relative_to(REPO)))
        if mistake.expect.lower() not in said.lower():
            raise StoryError(f"{mistake.file.name}: expected {mistake.expect!r} in {said!r}")
        rows.append([mistake.mistake, "kubectl apply", said.splitlines()[-1]])
    stage.narrator.table("Refused by the API server", ["mistake", "answered by", "in these words"], rows)
    stage.fact("f", "mistakes refused at kubectl apply", len(rows))
    return rows


def f_preflight(stage: Stage) -> list[list[str]]:
    """What preflight and the operator find, all at once; then what was missing arrives and the jobs go on."""
    told = [m for m in mistakes() if m.by in ("preflight", "operator")]
    stage.store.upload_tree(EXAMPLES / "bad" / "data", "demo/bad")
    for mistake in told:
        stage.kubectl("apply", "-f", str(mistake.file))
        namespace = mistake.job["metadata"]["namespace"]
        if namespace != stage.namespace:
            stage.apply(stage.secret() | {"metadata": {"name": SECRET, "namespace": namespace}})
    rows = []
    for mistake in told:
        said = stage.until(f"{mistake.file.name} is answered", lambda m=mistake: _answer(stage, m), timeout=120)
        rows.append([mistake.mistake, mistake.by, said])
    stage.narrator.table("Found before a training pod exists", ["mistake", "answered by", "in these words"], rows)
    for mistake in told:
        name, namespace = mistake.job["metadata"]["name"], mistake.job["metadata"]["namespace"]
        pods = stage.kubectl(
            "-n", namespace, "get", "pods", "-l", f"finetune.dev/job={name},finetune.dev/role=trainer", "-o", "name"
        )
        if pods.strip():
            raise StoryError(f"{name}: a training pod exists: {pods}")
    stage.fact("f", "mistakes found before a training pod exists", len(rows))
    _arrive(stage)
    for mistake in told:
        stage.kubectl("delete", "-f", str(mistake.file), "--ignore-not-found", "--wait=false")
    return rows


def _get(stage: Stage, mistake: Mistake) -> dict[str, Any]:
    meta = mistake.job["metadata"]
    out: dict[str, Any] = json.loads(
        stage.kubectl("-n", meta["namespace"], "get", "finetunejob", meta["name"], "-o", "json")
    )
    out.setdefault("status", {})
    return out


def _answer(stage: Stage, mistake: Mistake) -> str | None:
    job = _get(stage, mistake)
    accepted = condition(job, "Accepted")
    said = f"{accepted['reason']}: {accepted['message']}"
    if accepted["status"] == "False" and mistake.expect.lower() in said.lower():
        return said
    stage.narrator.live(f"{mistake.file.name}: {line(job)}")
    return None


def _arrive(stage: Stage) -> None:
    """The missing Secret and dataset appear; nobody touches the jobs."""
    by_name = {m.file.stem: m for m in mistakes()}
    for stem in ("missing-secret", "missing-dataset"):
        mistake = by_name[stem]
        if stem == "missing-secret":
            name = mistake.job["spec"]["model"]["secretRef"]["name"]
            stage.narrator.command(f"kubectl -n {stage.namespace} create secret generic {name} …")
            stage.apply(stage.secret(name))
        else:
            uri = mistake.job["spec"]["data"]["train"][0]["uri"]
            stage.narrator.command(f"aws s3 cp train.jsonl {uri}")
            stage.store.put_bytes("/".join(uri.split("/")[3:]), stage.store.get_bytes("demo/train.jsonl"))
        stage.until(
            f"{stem} is accepted by itself",
            lambda m=mistake: condition(_get(stage, m), "Accepted")["status"] == "True",
            timeout=150,
        )
        stage.kubectl("delete", "-f", str(mistake.file), "--wait=false")
    stage.fact("f", "what arrived later was noticed", "the jobs went on by themselves")
