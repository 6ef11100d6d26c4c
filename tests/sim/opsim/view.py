"""What a user does to FineTuneJobs and sees of them, and which program each of their pods runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from fakeapi import World
from fakeapi.controllers import Program

from finetune_operator.core.names import LABEL_ATTEMPT, LABEL_JOB, LABEL_ROLE, ROLE_PREFLIGHT, ROLE_PUBLISHER

from .rundir import Preflight, Publisher, RunDirectory, Trainer

Obj = dict[str, Any]
REPO = Path(__file__).resolve().parents[3]
NAMESPACE, NAME = "team", "bot"
FTJ = ("finetune.dev", "finetunejobs")
SPEC: Obj = {
    "model": {"uri": "s3://models/base"},
    "data": {"train": [{"uri": "s3://data/train.jsonl"}]},
    "method": {"type": "LoRA"},
    "resources": {"nodes": 2, "gpusPerNode": 4},
    "checkpoint": {"notice": "30s"},
}


class JobView:
    world: World
    runs: dict[str, RunDirectory]
    pace: float = 1.0
    """How long starting, preflight and publishing take, relative to the default."""

    def on_edit(self, name: str) -> None:
        """The user edits a spec."""

    def submit(self, name: str = NAME, *, labels: dict[str, str] | None = None, **changes: Any) -> Obj:
        spec = merge(copy.deepcopy(SPEC), changes)
        meta = {"name": name, **({"labels": labels} if labels else {})}
        body = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": meta, "spec": spec}
        return self.world.api.create(*FTJ, NAMESPACE, body)

    def edit(self, name: str = NAME, **changes: Any) -> Obj:
        job = self.job(name)
        self.on_edit(name)
        return self.world.api.put(*FTJ, {**job, "spec": merge(copy.deepcopy(job["spec"]), changes)})

    def job(self, name: str = NAME) -> Obj:
        return self.world.get(*FTJ, NAMESPACE, name)

    def status(self, name: str = NAME) -> Obj:
        return dict(self.job(name).get("status") or {})

    def phase(self, name: str = NAME) -> str:
        return str(self.status(name).get("phase", ""))

    def run_of(self, name: str = NAME) -> RunDirectory:
        return self.runs.setdefault(name, RunDirectory(uri=f"sim://{name}"))

    def pods(self, role: str = "trainer", name: str = NAME) -> list[Obj]:
        return [
            pod
            for pod in self.world.pods()
            if pod["metadata"].get("labels", {}).get(LABEL_ROLE) == role
            and pod["metadata"]["labels"].get(LABEL_JOB) == name
        ]

    def alive_pods(self, role: str = "trainer", name: str = NAME) -> list[Obj]:
        return [p for p in self.pods(role, name) if (q := self.world.kubelet.process_of(p)) is not None and q.alive()]

    def attempts(self, name: str = NAME) -> list[Obj]:
        return list(self.status(name).get("attempts") or [])

    def serving_program(self, pod: Obj) -> Program | None:
        """Of a ModelDeployment's pod, where those are simulated."""
        return None

    def program_of(self, pod: Obj) -> Program:
        if (program := self.serving_program(pod)) is not None:
            return program
        labels = pod["metadata"].get("labels") or {}
        run = self.run_of(labels.get(LABEL_JOB, ""))
        role = labels.get(LABEL_ROLE)
        if role == ROLE_PREFLIGHT:
            return Preflight(start_seconds=self.pace, seconds=self.pace, run=run)
        if role == ROLE_PUBLISHER:
            return Publisher(start_seconds=self.pace, seconds=5 * self.pace, run=run)
        index = int(labels["batch.kubernetes.io/job-completion-index"])
        size = int(self.job(labels[LABEL_JOB])["spec"]["resources"]["nodes"])
        attempt = int(labels[LABEL_ATTEMPT])
        recorded = next((a for a in self.attempts(labels[LABEL_JOB]) if a["index"] == attempt), None)
        owner = pod["metadata"]["ownerReferences"][0]["uid"]
        gang = run.gang(owner, attempt, recorded["nodes"] if recorded else size)
        return Trainer(start_seconds=2 * self.pace, seconds=None, gang=gang, index=index)


def merge(target: Any, changes: Any) -> Any:
    """None takes a field away."""
    if not isinstance(changes, dict) or not isinstance(target, dict):
        return changes
    out = dict(target)
    for key, value in changes.items():
        out[key] = merge(out.get(key), value)
    return {key: value for key, value in out.items() if value is not None}
