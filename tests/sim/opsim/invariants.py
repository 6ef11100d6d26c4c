"""What must never happen, checked at every single write of a simulation.

- no two attempts train unless the older one is fenced off on a lost node;
- an attempt number is never used again once its Job was seen, nor goes back;
- nothing that somebody else made is written or deleted by the operator;
- a terminal phase is never left without an edit of the spec;
- a healthy gang is neither deleted nor asked to stop without a cause that can be pointed at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fakeapi.store import Change

from finetune_operator.core.disruption import HARD_TAINTS
from finetune_operator.core.names import LABEL_ATTEMPT, LABEL_JOB, LABEL_ROLE, MANAGER, ROLE_TRAINER
from finetune_operator.core.types import Probe

if TYPE_CHECKING:
    from .sim import Sim

Obj = dict[str, Any]
_TERMINAL = ("Succeeded", "Failed")


class Violation(AssertionError):
    pass


def _condition(obj: Obj, kind: str) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


class Watchdog:
    def __init__(self, sim: Sim) -> None:
        self._sim = sim
        self.violations: list[str] = []
        self._newest: dict[str, int] = {}
        self._edited: set[str] = set()
        self.suspended_ever: set[str] = set()
        self.jobs_deleted = 0
        self.stops = 0
        sim.world.server.store.subscribe(self._on_change)

    def check(self) -> None:
        if self.violations:
            raise Violation("\n".join(self.violations[:5]) + "\n" + self._sim.describe())

    def on_edit(self, name: str) -> None:
        self._edited.add(name)

    def say(self, text: str) -> None:
        self.violations.append(f"t={self._sim.loop.now:.2f}: {text}")

    @property
    def _client(self) -> str:
        return self._sim.world.server.writes.client

    def _on_change(self, change: Change) -> None:
        if change.key.plural == "finetunejobs":
            self._status(change)
        if change.key.plural == "pods" and "deletionTimestamp" in (change.new or change.last)["metadata"]:
            self._sim.note_disturbed(change.new or change.last)
        if self._client.startswith("operator"):
            self._by_operator(change)

    # What the operator writes

    def _by_operator(self, change: Change) -> None:
        obj = change.new or change.old
        assert obj is not None
        meta = obj["metadata"]
        if change.key.plural in ("finetunejobs", "modeldeployments", "leases", "events"):
            return
        if (meta.get("labels") or {}).get("app.kubernetes.io/managed-by") != MANAGER:
            self.say(f"the operator touched {change.key}, which is not its own")
        if change.key.plural == "jobs" and LABEL_JOB in (meta.get("labels") or {}):
            if change.old is None:
                self._created(obj)
            elif "deletionTimestamp" not in change.old["metadata"]:
                self._deleted(change.old)

    def _created(self, job: Obj) -> None:
        labels = job["metadata"]["labels"]
        if labels.get(LABEL_ROLE) != ROLE_TRAINER:
            return
        owner = job["metadata"]["ownerReferences"][0]["uid"]
        number, newest = int(labels[LABEL_ATTEMPT]), self._newest.get(owner, 0)
        ftj = self._sim.job(labels[LABEL_JOB])
        attempts = {a["index"]: a for a in (ftj.get("status") or {}).get("attempts") or []}
        # Made twice only if somebody deleted the first before the operator could record it; its fence refuses the twin.
        unseen = number == newest and not (attempts.get(number) or {}).get("jobUid")
        if number < newest or (number == newest and not unseen):
            self.say(f"attempt {number} after attempt {newest}")
        self._newest[owner] = number
        if number not in attempts:
            self.say(f"attempt {number} was created before it was recorded")
        for pod in self._sim.alive_pods(name=labels[LABEL_JOB]):
            other = int(pod["metadata"]["labels"][LABEL_ATTEMPT])
            if other >= number:
                continue
            lost = (attempts.get(other) or {}).get("outcome") == "NodeLost"
            if not lost and not self._unreachable(pod):
                self.say(f"attempt {number} was created while pod {pod['metadata']['name']} runs")

    def _unreachable(self, pod: Obj) -> bool:
        node = self._sim.world.find("", "nodes", "", pod["spec"].get("nodeName", ""))
        if node is None:
            return True
        ready = [c["status"] for c in node["status"].get("conditions", []) if c["type"] == "Ready"]
        return ready == ["Unknown"]

    def _deleted(self, job: Obj) -> None:
        """A Job of ours goes: it must be over, or its end must have a cause."""
        self.jobs_deleted += 1
        if _condition(job, "Complete") or _condition(job, "Failed") or _condition(job, "FailureTarget"):
            return
        labels = job["metadata"]["labels"]
        ftj = self._sim.world.find("finetune.dev", "finetunejobs", job["metadata"]["namespace"], labels[LABEL_JOB])
        if ftj is None:
            self.say(f"Job {job['metadata']['name']} deleted although its FineTuneJob is gone")
            return
        status = ftj.get("status") or {}
        if labels.get(LABEL_ROLE) == ROLE_TRAINER:
            entries = [a for a in status.get("attempts") or [] if str(a["index"]) == labels[LABEL_ATTEMPT]]
        else:
            entries = [status["publish"]] if status.get("publish") else []
        cause = entries[0].get("stopping") if entries else None
        pods = self._sim.world.api.owned_pods(job["metadata"]["uid"])
        true = {
            "Suspended": ftj["metadata"]["name"] in self.suspended_ever,
            "NodeLost": any(self._unreachable(p) for p in pods) or self._sim.nodes_were_lost,
            "StartTimeout": not all(p["status"].get("phase") == "Running" for p in pods) or len(pods) < 2,
            "DeadlineExceeded": True,
        }
        if not true.get(str(cause), False):
            self.say(f"Job {job['metadata']['name']} was deleted by the operator: cause {cause!r} is not true")

    def on_stop_request(self, probe: Probe) -> None:
        """The operator asks a gang to stop: some pod of it must really be about to go."""
        self.stops += 1
        pod = next((p for p in self._sim.world.pods() if p["metadata"]["uid"] == probe.pod_uid), None)
        if pod is None:
            return
        owner = pod["metadata"]["ownerReferences"][0]["uid"]
        gang = self._sim.world.api.owned_pods(owner)
        if not any(self._disturbed(p) for p in gang) and not self._sim.disturbed_recently(owner):
            self.say(f"the gang of {pod['metadata']['name']} was asked to stop although nothing threatens it")

    def _disturbed(self, pod: Obj) -> bool:
        if "deletionTimestamp" in pod["metadata"] or _condition(pod, "DisruptionTarget"):
            return True
        node = self._sim.world.find("", "nodes", "", pod["spec"].get("nodeName", ""))
        return node is None or any(t["key"] in HARD_TAINTS for t in node["spec"].get("taints") or [])

    # What the status says

    def _status(self, change: Change) -> None:
        if change.new is None:
            return
        if change.new["spec"].get("suspend"):
            self.suspended_ever.add(change.key.name)
        if change.old is None or change.old["metadata"]["uid"] != change.new["metadata"]["uid"]:
            return
        before = (change.old.get("status") or {}).get("phase")
        after = (change.new.get("status") or {}).get("phase")
        if before in _TERMINAL and after != before and not (before == "Failed" and change.key.name in self._edited):
            self.say(f"phase went from {before} to {after}")
        numbers = [a["index"] for a in (change.new.get("status") or {}).get("attempts") or []]
        if numbers != sorted(set(numbers)):
            self.say(f"attempts are listed as {numbers}")
