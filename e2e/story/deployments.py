"""Ways to look at a ModelDeployment in the story: its status, its engines' own counters, a picture of its weights."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e.story.stage import Job, Stage, StoryError, condition
from e2e.story.traffic import Client

_POLL = 0.5
_DONE = re.compile(r"^vllm:request_success_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_BAR = 20


@dataclass
class Watched:
    """One ModelDeployment of the story."""

    stage: Stage
    name: str
    client: Client | None = None

    @property
    def object(self) -> Job:
        return self.stage.read("modeldeployments", self.name)

    @property
    def status(self) -> Job:
        return dict(self.object["status"])

    def patch(self, *args: str, **spec: Any) -> None:
        body = json.dumps({"spec": spec})
        self.stage.kubectl(
            *("-n", self.stage.namespace, "patch", "modeldeployment", self.name, "--type=merge", "-p", body, *args),
            show=True,
        )

    def annotate(self, key: str, value: str) -> None:
        self.stage.kubectl(
            *("-n", self.stage.namespace, "annotate", "modeldeployment", self.name, f"finetune.dev/{key}={value}"),
            "--overwrite",
            show=True,
        )

    def wait(self, what: str, done: Callable[[Job], Any], *, timeout: float = 240) -> Job:
        deadline = time.monotonic() + timeout
        while True:
            status = self.status
            self.stage.narrator.live(f"{self.name}: {picture(status, self.client)}")
            if self.client is not None:
                # While a candidate starts, requests only have to show that nobody notices.
                self.client.calm = not (status.get("canary") or {}).get("weight")
            if done(status):
                self.stage.narrator.settle()
                return status
            if time.monotonic() > deadline:
                raise StoryError(f"{self.name}: not seen in {timeout:.0f} s: {what}\n{self.dump(status)}")
            time.sleep(_POLL)

    def dump(self, status: Job) -> str:
        parts = [json.dumps(status, indent=1)]
        for args in (
            ("get", "pods,deployments,services,httproutes,jobs", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
        ):
            parts.append(self.stage.kubectl("-n", self.stage.namespace, *args))
        return "\n".join(parts)

    def route(self) -> Job:
        return self.stage.read("httproutes", self.name, "gateway.networking.k8s.io/v1")

    def weights(self) -> dict[str, int]:
        """Revision -> weight, as the route has it."""
        return {
            ref["name"].removeprefix(f"{self.name}-"): ref.get("weight", 1)
            for rule in self.route()["spec"]["rules"]
            for ref in rule["backendRefs"]
        }

    def pods(self, revision: str | None = None) -> list[Job]:
        selector = f"finetune.dev/deployment={self.name},finetune.dev/role=engine"
        return self.stage.pods(selector + (f",finetune.dev/revision={revision}" if revision else ""))

    def finished(self, revision: str) -> float:
        """Requests that the revision's engines ended well since they started."""
        total = 0.0
        for pod in self.pods(revision):
            ip = pod.get("status", {}).get("podIP")
            if ip and pod["metadata"].get("deletionTimestamp") is None:
                with urllib.request.urlopen(f"http://{ip}:8000/metrics", timeout=10) as answer:
                    total += sum(float(n) for n in _DONE.findall(answer.read().decode()))
        return total


def picture(status: Job, client: Client | None = None) -> str:
    """One line: who has which weight, what the client saw, what the analysis says."""
    words = [str(status.get("phase", "…"))]
    stable, canary = status.get("stable"), status.get("canary")
    weight = int((canary or {}).get("weight", 0))
    if stable:
        filled = round(_BAR * weight / 100)
        words.append(f"{stable['revision'][:5]} {'█' * (_BAR - filled)}{'▒' * filled}")
    if canary:
        seen = canary.get("observedWeight")
        words.append(f"{canary['revision'][:5]} {weight} %" + (f" (seen {seen} %)" if seen is not None else ""))
    if status.get("step"):
        words.append(f"step {status['step']}")
    if client is not None:
        words.append(client.words())
    words += [f"{v['metric']} {v['decision']}" for v in status.get("analysis") or [] if canary]
    reason = status.get("reason")
    return " · ".join(words) + (f" · {reason}: {str(status.get('message', ''))[:90]}" if reason else "")


def revision_of(status: Job, which: str = "stable") -> str:
    found = status.get(which)
    if not found:
        raise StoryError(f"there is no {which} revision: {json.dumps(status)[:400]}")
    return str(found["revision"])


def condition_of(status: Job, kind: str) -> Job:
    return condition({"status": status}, kind)


def healthy(status: Job) -> bool:
    return status.get("phase") == "Healthy" and not status.get("rollout")


def last(status: Job) -> Job:
    history = status.get("history") or []
    return dict(history[-1]) if history else {}
