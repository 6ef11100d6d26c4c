"""What must never happen to a ModelDeployment, checked at every single write of a simulation.

- weight rises only for a revision that is verified, checked, not rejected, intended by the status, and only as far as
  its ready pods carry it;
- a step or a promotion follows only on the weight before it being in effect, for as long as its pause;
- never more engine pods than `replicas + maxSurge`, never fewer of a revision than its weight needs;
- a pod template is never changed, a revision with weight never taken away;
- there is one candidate at most; stable changes by promotion only; what was rejected stays so until somebody says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from fakeapi.store import Change

from finetune_api.duration import parse_duration
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.revision import trial_key
from finetune_operator.core.names import LABEL_DEPLOYMENT, LABEL_REVISION

if TYPE_CHECKING:
    from .sim import Sim

Obj = dict[str, Any]
T = TypeVar("T")
MEMORY = 6.0
"""Seconds for which what was true counts still: a plan is made from a reading that is a little old."""


def weights_of(route: Obj | None, name: str) -> dict[str, int]:
    rules = ((route or {}).get("spec") or {}).get("rules") or []
    refs = [ref for rule in rules for ref in rule.get("backendRefs") or []]
    return {str(ref["name"]).removeprefix(f"{name}-"): int(ref.get("weight", 1)) for ref in refs}


class ServingWatchdog:
    def __init__(self, sim: Sim) -> None:
        self._sim = sim
        self._ready: dict[tuple[str, str], list[tuple[float, int]]] = {}
        self._wanted: dict[str, list[tuple[float, int]]] = {}
        self._statuses: dict[str, list[tuple[float, Obj]]] = {}
        self._stable: dict[str, str] = {}
        self._wiped: set[str] = set()
        self.promotions = 0
        self.raises = 0
        sim.world.server.store.subscribe(self._on_change)

    def _say(self, text: str) -> None:
        self._sim.watchdog.say(text)

    def on_wipe(self, name: str) -> None:
        self._wiped.add(name)

    @property
    def _now(self) -> float:
        return self._sim.loop.now

    def _on_change(self, change: Change) -> None:
        plural, obj = change.key.plural, change.new or change.old
        assert obj is not None
        name = (obj["metadata"].get("labels") or {}).get(LABEL_DEPLOYMENT, "")
        ours = self._sim.world.server.writes.client.startswith("operator")
        if plural == "pods" and name:
            self._note_ready(name, obj["metadata"]["labels"].get(LABEL_REVISION, ""))
        elif plural == "modeldeployments":
            self._note_wanted(change)
            if change.new is not None:
                self._note(self._statuses.setdefault(change.key.name, []), change.new.get("status") or {})
            if ours and change.old is not None and change.new is not None:
                self._status(change.key.name, change.old, change.new)
        elif plural == "httproutes" and ours and change.new is not None:
            self._route(name, change)
        elif plural == "deployments" and ours and name:
            self._deployment(name, change)
        elif plural == "services" and ours and change.new is None and name:
            self._service_gone(name, obj)

    # What is true now, and was a moment ago

    def _count_ready(self, name: str, revision: str) -> int:
        pods = self._sim.engine_pods(revision, name)
        return sum(_ready(pod) for pod in pods)

    def _note_ready(self, name: str, revision: str) -> None:
        self._note(self._ready.setdefault((name, revision), []), self._count_ready(name, revision))

    def _note_wanted(self, change: Change) -> None:
        if change.new is not None:
            self._note(self._wanted.setdefault(change.key.name, []), int(change.new["spec"]["replicas"]))

    def _note(self, entries: list[tuple[float, T]], value: T) -> None:
        entries.append((self._now, value))
        while len(entries) > 1 and entries[1][0] < self._now - MEMORY:
            entries.pop(0)

    def _recent(self, entries: list[tuple[float, T]]) -> list[T]:
        """What held at some moment of the last seconds: the newest value before them, and all since."""
        since = [value for at, value in entries if at >= self._now - MEMORY]
        before = [value for at, value in entries if at < self._now - MEMORY]
        return before[-1:] + since

    def _sizes(self, name: str) -> list[int]:
        """The replicas of the spec, with one at least while something is let in."""
        found = self._recent(self._wanted.get(name, []))
        return [max(1, size) for size in found] or [1]

    def _find(self, name: str) -> tuple[ModelDeploymentSpec, Obj] | None:
        md = self._sim.world.find("finetune.dev", "modeldeployments", "team", name)
        if md is None:
            return None
        return ModelDeploymentSpec.model_validate(md["spec"]), md.get("status") or {}

    def _intended(self, name: str, status: Obj) -> Obj:
        """The status that a write may be based on: the present one, or the one that was just wiped."""
        if status.get("stable") or status.get("rollout") or name not in self._wiped:
            return status
        known = [s for s in self._recent(self._statuses.get(name, [])) if s.get("stable") or s.get("rollout")]
        return known[-1] if known else status

    def _in_effect(self, name: str) -> dict[str, int]:
        spec = self._sim.world.gateway.in_effect.get(("team", name))
        return weights_of({"spec": spec}, name) if spec is not None else {}

    # Writes of the operator

    def _route(self, name: str, change: Change) -> None:
        assert change.new is not None
        before, after = weights_of(change.old, name), weights_of(change.new, name)
        if sum(after.values()) != 100:
            self._say(f"the route's weights are {after}")
        found = self._find(name)
        if found is None:
            return
        spec, status = found
        status = self._intended(name, status)
        rollout = status.get("rollout") or {}
        stable = (status.get("stable") or {}).get("revision")
        for revision, weight in after.items():
            if weight <= before.get(revision, 0):
                continue
            self.raises += 1
            self._carries(name, revision, weight, alone=len(after) == 1)
            held = [
                r for r in status.get("rejected") or [] if (r["revision"], r["trial"]) == (revision, trial_key(spec))
            ]
            if held:
                self._say(f"revision {revision} gets weight {weight} although it was rejected: {held[0]['reason']}")
            if revision == stable:
                continue
            if rollout.get("revision") != revision or rollout.get("weight", 0) < weight:
                self._say(f"revision {revision} gets weight {weight}, the status intends {rollout}")
            if rollout.get("stage") not in ("Stepping", "Promoting"):
                self._say(f"revision {revision} gets weight {weight} at stage {rollout.get('stage')}")
            self._is_good(rollout.get("model", {}).get("uri", ""), revision, weight)

    def _is_good(self, uri: str, revision: str, weight: int) -> None:
        model = self._sim.models.get(uri)
        if model is None or not model.verified or not model.checked:
            self._say(f"revision {revision} of {uri} gets weight {weight} before it was verified and checked")
        elif model.tampered or model.check or not model.gate_passed:
            self._say(f"revision {revision} of {uri} gets weight {weight} although verifier or checker refuse it")

    def _carries(self, name: str, revision: str, weight: int, *, alone: bool) -> None:
        if self._sim.world.find("", "services", "team", f"{name}-{revision}") is None:
            self._say(f"revision {revision} gets weight {weight} without a Service")
        ready = max(self._recent(self._ready.get((name, revision), [])), default=0)
        size = min(self._sizes(name))
        # A third of the traffic is 33 %: what is left for the others is one point more than their share.
        enough = ready >= math.ceil(size * (weight - 1) / 100) or weight <= 100 * ready // size
        # Where nothing else could serve, everything goes to whoever is left.
        if not enough and not (alone and (ready or weight == 100)):
            self._say(f"revision {revision} gets weight {weight} with {ready} ready pods of {size}")

    def _deployment(self, name: str, change: Change) -> None:
        revision = (change.new or change.last)["metadata"]["labels"][LABEL_REVISION]
        found = self._find(name)
        if found is None:
            return
        spec, status = found
        status = self._intended(name, status)
        was = int(change.old["spec"]["replicas"]) if change.old is not None else 0
        now = int(change.new["spec"]["replicas"]) if change.new is not None else 0
        if change.old is not None and change.new is not None:
            rest = ({**o["spec"], "replicas": 0} for o in (change.old, change.new))
            if next(rest) != next(rest):
                self._say(f"revision {revision}: more than replicas was changed")
        stable = (status.get("stable") or {}).get("revision")
        if now > was and not (revision == stable and now <= max(self._sizes(name))):
            self._grows(name, spec, status)
        elif now < was or change.new is None or "deletionTimestamp" in change.new["metadata"]:
            self._shrinks(name, revision, status, now, gone=change.new is None or now == was)

    def _grows(self, name: str, spec: ModelDeploymentSpec, status: Obj) -> None:
        sizes = {r: int(d["spec"]["replicas"]) for r, d in self._sim.engine_deployments(name).items()}
        limit = max(self._sizes(name)) + spec.rollout.max_surge
        if sum(sizes.values()) > limit:
            self._say(f"{sizes} are more engine pods than {limit}")
        known = {(status.get("stable") or {}).get("revision")} | {e["revision"] for e in status.get("draining") or []}
        candidates = [revision for revision, size in sizes.items() if size and revision not in known]
        if len(candidates) > 1:
            self._say(f"there are several candidates: {candidates}")

    def _shrinks(self, name: str, revision: str, status: Obj, now: int, *, gone: bool) -> None:
        stable = (status.get("stable") or {}).get("revision")
        weight = self._in_effect(name).get(revision, 0)
        answer = self._sim.world.gateway.answer({}, {})
        if answer is None or not answer.accepted:
            return  # a Gateway that takes nothing over is waited for, but not for ever
        if weight and not (revision == stable and 0 in self._recent(self._wanted.get(name, []))):
            # A third of the traffic is 33 %: one point less than the rest is what the others must carry.
            needed = min(math.ceil(size * max(0, weight - 1) / 100) for size in self._sizes(name))
            if now < needed:
                self._say(f"revision {revision} with weight {weight} goes to {now} pods, {needed} are needed")
        if gone and revision in (stable, (status.get("rollout") or {}).get("revision")):
            self._say(f"the Deployment of {revision} is deleted although it is stable or the candidate")

    def _service_gone(self, name: str, service: Obj) -> None:
        if self._find(name) is None:
            return
        revision = service["metadata"]["labels"].get(LABEL_REVISION, "")
        if self._in_effect(name).get(revision):
            self._say(f"the Service of {revision} is deleted while it has weight")

    # What the status says

    def _status(self, name: str, old: Obj, new: Obj) -> None:
        before, after = old.get("status") or {}, new.get("status") or {}
        if before == after:
            return
        was, now = before.get("rollout") or {}, after.get("rollout") or {}
        stable = (after.get("stable") or {}).get("revision")
        if now and now.get("revision") and now["revision"] == stable:
            self._say(f"revision {stable} is stable and the candidate")
        known = self._stable.get(name)
        if stable and stable != known:
            promoted = was.get("stage") == "Promoting" and was.get("revision") == stable
            if not promoted and not (name in self._wiped and known in (None, stable)):
                self._say(f"stable went from {known} to {stable} without a promotion")
            self.promotions += promoted
            self._stable[name] = stable
            if promoted:
                self._was_in_effect(name, was)
        if known and not stable and (before.get("stable") or {}).get("revision") == known:
            if self._sim.engine_deployments(name).get(known):
                self._say(f"stable {known} was forgotten although its Deployment is there")
            del self._stable[name]  # what comes next is a first revision
        if was and now and was.get("revision") == now.get("revision") and now.get("step", 0) > was.get("step", 0) > 0:
            self._stepped(name, new, was)
        self._kept_rejections(name, new, before, after)

    def _was_in_effect(self, name: str, was: Obj) -> None:
        effect = self._in_effect(name)
        if effect.get(was["revision"], 0) != was["weight"]:
            self._say(f"revision {was['revision']} goes on from weight {was['weight']}, in effect is {effect}")

    def _stepped(self, name: str, md: Obj, was: Obj) -> None:
        self._was_in_effect(name, was)
        asked = (md["metadata"].get("annotations") or {}).get("finetune.dev/promote")
        steps = md["spec"]["rollout"]["steps"]
        pause = steps[was["step"] - 1]["pause"] if was["step"] <= len(steps) else "0s"
        if asked == f"{was['revision']}/{was['step']}" or not was.get("step_since", was.get("stepSince")):
            return
        since = self._sim.seconds_since(was["stepSince"])
        if pause == "Manual":
            self._say(f"step {was['step']} ended without anybody asking for it")
        elif since < parse_duration(pause) - 1.0 - abs(self._sim.skew):
            self._say(f"step {was['step']} took {since:g} s of {pause}")

    def _kept_rejections(self, name: str, md: Obj, before: Obj, after: Obj) -> None:
        kept = {(r["revision"], r["trial"]) for r in after.get("rejected") or []}
        retried = (md["metadata"].get("annotations") or {}).get("finetune.dev/retry")
        for entry in before.get("rejected") or []:
            if (entry["revision"], entry["trial"]) not in kept and entry["revision"] != retried:
                self._say(f"the rejection of {entry['revision']} was forgotten")


def _ready(pod: Obj) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
