"""A cluster of a few lines around `plan_deployment`: plans are carried out at once, pods and Jobs do as they are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_operator.core.names import LABEL_REVISION, LABEL_ROLE
from finetune_operator.core.serving.analysis.totals import Totals
from finetune_operator.core.serving.plan import plan_deployment
from finetune_operator.core.serving.types import Claim, DeploymentObserved, Engines, EngineView, Scrape
from finetune_operator.core.types import Config, EventNote, Obj, Plan

T0 = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
CONFIG = Config(
    namespace="finetune-system",
    trainer_image="trainer:1",
    small_image="small:1",
    artifacts_uri="s3://artifacts/runs",
    artifacts_secret="finetune-artifacts",
    installation_key=b"k" * 32,
    serving_image="vllm:1",
    gateway="finetune-system/finetune",
    gateway_domain="models.example.com",
)
DIGEST_1 = "sha256:" + "1" * 64
DIGEST_2 = "sha256:" + "2" * 64
Json = dict[str, Any]


def job_output(name: str, digest: str) -> Json:
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {
            "name": name,
            "namespace": "team-a",
            "uid": f"uid-{name}",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "model": {"uri": "s3://artifacts/base"},
            "data": {"train": [{"uri": "s3://artifacts/train.jsonl"}]},
            "method": {"type": "LoRA"},
        },
        "status": {
            "phase": "Succeeded",
            "output": {
                "uri": f"s3://artifacts/runs/team-a/{name}/k/model",
                "digest": digest,
                "manifest": f"s3://artifacts/runs/team-a/{name}/k/model/MANIFEST.json",
                "merged": True,
            },
        },
    }


@dataclass
class World:
    spec: Json
    jobs: list[Json] = field(default_factory=lambda: [job_output("one", DIGEST_1), job_output("two", DIGEST_2)])
    config: Config = CONFIG
    now: datetime = T0
    status: Json | None = None
    annotations: dict[str, str] = field(default_factory=dict)
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    verify: Callable[[Json], Json] = lambda _: {"exitCode": 0, "reason": "Verified", "message": "whole"}
    check: Callable[[Json], Json] = lambda _: {"exitCode": 0, "reason": "Checked", "message": "answered"}
    room: int = 100
    """Engine pods that find a node."""
    route_accepts: bool = True
    claims: Mapping[tuple[str, str], Claim] = field(default_factory=dict)
    totals: dict[str, Totals] = field(default_factory=dict)
    views: dict[str, EngineView] = field(default_factory=dict)
    scrape: Scrape | None = None
    events: list[EventNote] = field(default_factory=list)
    generation: int = 1
    version: int = 1
    requeue: float | None = None
    most_pods: int = 0

    def advance(self, seconds: float) -> World:
        self.now += timedelta(seconds=seconds)
        return self

    def edit(self, **changes: Any) -> World:
        self.spec = {**self.spec, **changes}
        self.generation += 1
        return self

    def deployment(self) -> Json:
        spec = {"replicas": 1, **self.spec}
        meta = {
            "name": "bot",
            "namespace": "team-a",
            "uid": "uid-bot",
            "generation": self.generation,
            "resourceVersion": str(self.version),
            "creationTimestamp": "2026-01-01T11:00:00Z",
            "annotations": dict(self.annotations),
        }
        ModelDeploymentSpec.model_validate(spec)
        out = {"apiVersion": "finetune.dev/v1alpha1", "kind": "ModelDeployment", "metadata": meta, "spec": spec}
        return out | ({"status": self.status} if self.status else {})

    def observe(self, *, fresh: bool = False) -> DeploymentObserved:
        def of(kind: str) -> tuple[Obj, ...]:
            return tuple(o for (k, _), o in sorted(self.objects.items()) if k == kind)

        engines = None
        if self.scrape is not None:
            engines = Engines(
                window=self.scrape.window,
                step=self.scrape.step,
                since=T0,
                totals=dict(self.totals),
                step_totals=dict(self.totals),
                pods={
                    t.uid: self.views.get(t.pod, EngineView(t.revision, scraped_at=self.now))
                    for t in self.scrape.targets
                },
                looks=1,
            )
        return DeploymentObserved(
            deployment=self.deployment(),
            children=of("Deployment"),
            services=of("Service"),
            route=next(iter(of("HTTPRoute")), None),
            jobs=of("Job"),
            pods=tuple(self.pods.values()),
            fine_tune_jobs=tuple(self.jobs),
            claims=self.claims,
            engines=engines,
            fresh=fresh,
        )

    def plan(self) -> Plan:
        made = plan_deployment(self.observe(), self.now, self.config)
        if made.need_fresh:
            made = plan_deployment(self.observe(fresh=True), self.now, self.config)
        assert not made.need_fresh
        return made

    def step(self) -> bool:
        """One pass carried out; False when it changed nothing."""
        made = self.plan()
        self.requeue, self.scrape = made.requeue_after, made.scrape
        if made.status is not None:
            self.status = json.loads(json.dumps(made.status))
        self.events += made.events
        for body in made.creates:
            self._create(json.loads(json.dumps(body)))
        for patch in made.patches:
            self._patch(self.objects[patch.resource.kind, patch.name], patch.body)
        for delete in made.deletes:
            self.objects.pop((delete.resource.kind, delete.name), None)
        changed = made.writes
        return self._controllers() or changed

    def settle(self, limit: int = 60) -> World:
        for _ in range(limit):
            if not self.step():
                return self
        raise AssertionError(f"does not come to rest: {self.plan()}")

    def run(self, seconds: float, every: float = 5.0) -> World:
        """Settle, again and again, while time goes by."""
        until = self.now + timedelta(seconds=seconds)
        self.settle()
        while self.now < until:
            self.advance(every)
            self.settle()
        return self

    def _create(self, body: Json) -> None:
        meta = body["metadata"]
        key = (body["kind"], meta["name"])
        if key in self.objects:
            return
        self.version += 1
        meta |= {
            "uid": f"uid-{body['kind']}-{meta['name']}-{self.version}",
            "resourceVersion": str(self.version),
            "generation": 1,
            "creationTimestamp": self.stamp,
        }
        self.objects[key] = body

    @property
    def stamp(self) -> str:
        return self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _patch(self, target: Json, patch: Any) -> None:
        self.version += 1
        _merge(target, patch)
        target["metadata"]["resourceVersion"] = str(self.version)
        target["metadata"]["generation"] = target["metadata"].get("generation", 1) + 1

    def _controllers(self) -> bool:
        before = repr((self.pods, self.objects))
        for (kind, name), obj in list(self.objects.items()):
            if kind == "Deployment":
                self._replicas(name, obj)
            elif kind == "Job":
                self._answer(name, obj)
            elif kind == "HTTPRoute":
                self._parents(obj)
        known = {name for kind, name in self.objects if kind in ("Deployment", "Job")}
        self.pods = {n: p for n, p in self.pods.items() if p["owner"] in known}
        self.most_pods = max(self.most_pods, len(self.engine_pods()))
        return repr((self.pods, self.objects)) != before

    def _replicas(self, name: str, deployment: Json) -> None:
        wanted = deployment["spec"]["replicas"]
        mine = sorted(n for n, p in self.pods.items() if p["owner"] == name)
        for extra in mine[wanted:]:
            del self.pods[extra]
        for number in range(wanted):
            pod = f"{name}-rs-{number}"
            if pod not in self.pods or (self.pods[pod]["placed"] is False and self._placed() < self.room):
                self.pods[pod] = self._engine(pod, name, deployment)

    def _placed(self) -> int:
        return sum(p["placed"] for p in self.pods.values() if p.get("placed"))

    def _engine(self, pod: str, name: str, deployment: Json) -> Json:
        placed = self._placed() < self.room
        conditions = [
            {"type": "PodScheduled", "status": str(placed), "reason": "Unschedulable", "message": "0/2 nodes: no gpu"},
            {"type": "Ready", "status": str(placed), "lastTransitionTime": self.stamp},
        ]
        status: Json = {"phase": "Running" if placed else "Pending", "conditions": conditions}
        if placed:
            status["podIP"] = f"10.0.0.{len(self.pods) + 1}"
        return {
            "kind": "Pod",
            "owner": name,
            "placed": placed,
            "metadata": {
                "name": pod,
                "namespace": "team-a",
                "uid": f"uid-{pod}-{self.version}",
                "labels": deployment["spec"]["template"]["metadata"]["labels"],
                "creationTimestamp": self.stamp,
                "ownerReferences": [{"kind": "ReplicaSet", "name": f"{name}-rs", "uid": "rs", "controller": True}],
            },
            "status": status,
        }

    def _answer(self, name: str, job: Json) -> None:
        if any(p["owner"] == name for p in self.pods.values()):
            return
        config = json.loads(job["spec"]["template"]["metadata"]["annotations"]["finetune.dev/run-config"])
        role = job["metadata"]["labels"][LABEL_ROLE]
        report = {"at": self.stamp, **(self.verify if role == "verifier" else self.check)(config)}
        if role == "verifier" and report["exitCode"] == 0:
            report.setdefault("digest", config.get("expectedDigest") or DIGEST_1)
        ended = {
            "exitCode": report["exitCode"],
            "reason": "Completed",
            "message": json.dumps(report),
            "finishedAt": self.stamp,
        }
        self.pods[f"{name}-pod"] = {
            "kind": "Pod",
            "owner": name,
            "metadata": {
                "name": f"{name}-pod",
                "namespace": "team-a",
                "uid": f"uid-{name}-pod-{self.version}",
                "labels": job["metadata"]["labels"],
                "creationTimestamp": self.stamp,
                "ownerReferences": [{"kind": "Job", "uid": job["metadata"]["uid"], "controller": True}],
            },
            "status": {
                "phase": "Succeeded" if report["exitCode"] == 0 else "Failed",
                "containerStatuses": [{"name": "main", "state": {"terminated": ended}, "restartCount": 0}],
            },
        }
        done = "Complete" if report["exitCode"] == 0 else "Failed"
        job["status"] = {"conditions": [{"type": done, "status": "True", "lastTransitionTime": self.stamp}]}

    def _parents(self, route: Json) -> None:
        ok = str(self.route_accepts)
        route["status"] = {
            "parents": [
                {
                    "parentRef": parent,
                    "controllerName": "test/gateway",
                    "conditions": [
                        {
                            "type": kind,
                            "status": ok,
                            "reason": "Accepted" if self.route_accepts else "NotAllowedByListeners",
                            "message": "" if self.route_accepts else "the listener does not allow this namespace",
                            "observedGeneration": route["metadata"]["generation"],
                        }
                        for kind in ("Accepted", "ResolvedRefs")
                    ],
                }
                for parent in route["spec"]["parentRefs"]
            ]
        }

    def engine_pods(self, revision: str | None = None) -> list[Json]:
        return [
            p
            for p in self.pods.values()
            if "placed" in p and (revision is None or p["metadata"]["labels"][LABEL_REVISION] == revision)
        ]

    def weights(self) -> dict[str, int]:
        """By served model's job, as the route has it."""
        route = next((o for (k, _), o in self.objects.items() if k == "HTTPRoute"), None)
        if route is None:
            return {}
        return {
            ref["name"].removeprefix("bot-"): ref.get("weight", 1)
            for rule in route["spec"]["rules"]
            for ref in rule["backendRefs"]
        }

    def condition(self, kind: str) -> Json:
        assert self.status is not None
        return next(c for c in self.status["conditions"] if c["type"] == kind)

    def rewrite(self, pod: str, **status: Any) -> World:
        """Change a pod's status."""
        self.pods[pod]["status"] = {**self.pods[pod]["status"], **status}
        return self


def _merge(target: Json, patch: Any) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def serving(job: str = "one", **more: Any) -> Json:
    """A spec with quick steps."""
    rollout = {
        "steps": [{"weight": 20, "pause": "30s"}, {"weight": 50, "pause": "30s"}],
        **more.pop("rollout", {}),
    }
    return {"model": {"fineTuneJobRef": {"name": job}}, "rollout": rollout, **more}


def only(world: World, name: str) -> World:
    """With these FineTuneJobs only."""
    return replace(world, jobs=[j for j in world.jobs if j["metadata"]["name"] == name])
