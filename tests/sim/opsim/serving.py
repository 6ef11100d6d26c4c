"""What a user does to ModelDeployments and sees of them, the models in storage, and the pods' programs."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

from fakeapi import World, resource_of
from fakeapi.controllers import Program
from fakeapi.kinds import Resource

from finetune_operator.core.names import (
    LABEL_DEPLOYMENT,
    LABEL_REVISION,
    LABEL_ROLE,
    ROLE_CHECKER,
    ROLE_ENGINE,
    ROLE_VERIFIER,
)
from tests.crds import crd

from .clients import Client, Clients
from .engines import Engine, EnginePod
from .models import Checker, Model, Verifier, fetch_report, serve_config
from .rundir import RunDirectory
from .view import NAMESPACE, merge

Obj = dict[str, Any]
MD = ("finetune.dev", "modeldeployments")
DEPLOYMENTS = ("apps", "deployments")
ROUTES = ("gateway.networking.k8s.io", "httproutes")
WEB = "web"
SERVING_SPEC: Obj = {
    "model": {"uri": "s3://models/v1"},
    "replicas": 2,
    "resources": {"gpus": 1},
    "rollout": {
        "steps": [{"weight": 20, "pause": "30s"}, {"weight": 50, "pause": "30s"}],
        "verify": {"prompts": ["hello"]},
        "analysis": {
            "interval": "10s",
            "minSamples": 20,
            "metrics": [{"name": "ErrorRate", "max": "0.05"}, {"name": "E2ELatency", "maxRegressionPercent": 20}],
        },
        "progressDeadline": "2m",
        "stallTimeout": "30s",
        "drainTimeout": "30s",
    },
}


@cache
def kinds() -> tuple[Resource, ...]:
    """ModelDeployment and HTTPRoute. Their CRDs are not stored as objects: nobody reads them, and one is large."""
    return tuple(resource_of(crd(plural)) for plural in ("modeldeployments", "httproutes"))


class DeploymentView:
    world: World
    seed: int
    pace: float
    models: dict[str, Model]
    runs: dict[str, RunDirectory]
    clients: Clients

    def on_edit(self, name: str) -> None:
        raise NotImplementedError

    def on_wipe(self, name: str) -> None:
        """Somebody empties a status."""

    # Models

    def publish(self, uri: str, **facts: Any) -> Model:
        """A model appears in storage."""
        model = self.models[uri] = Model(facts.pop("digest", f"sha256:{uri}"), **facts)
        return model

    # What users do

    def deploy(self, name: str = WEB, *, rate: float = 10.0, **changes: Any) -> Obj:
        """`rate`: requests a second that its clients send once something serves."""
        spec = merge(copy.deepcopy(SERVING_SPEC), changes)
        api_version = "finetune.dev/v1alpha1"
        body = {"apiVersion": api_version, "kind": "ModelDeployment", "metadata": {"name": name}, "spec": spec}
        made = self.world.api.create(*MD, NAMESPACE, body)
        self.clients.want(NAMESPACE, name, rate)
        return made

    def edit_md(self, name: str = WEB, /, **changes: Any) -> Obj:
        found = self.md(name)
        self.on_edit(name)
        return self.world.api.put(*MD, {**found, "spec": merge(copy.deepcopy(found["spec"]), changes)})

    def annotate(self, key: str, value: str | None, name: str = WEB) -> Obj:
        found = self.md(name)
        notes = {**(found["metadata"].get("annotations") or {}), f"finetune.dev/{key}": value}
        notes = {k: v for k, v in notes.items() if v is not None}
        return self.world.api.put(*MD, {**found, "metadata": {**found["metadata"], "annotations": notes}})

    def scale(self, replicas: int, name: str = WEB) -> None:
        """As kubectl scale does."""
        path = f"/apis/finetune.dev/v1alpha1/namespaces/{NAMESPACE}/modeldeployments/{name}/scale"
        headers = {"content-type": "application/merge-patch+json"}
        answer = self.world.frontend.request(
            "PATCH", path, {}, headers, {"spec": {"replicas": replicas}}, client="kubectl"
        )
        assert answer.status == 200, answer.body

    def wipe_status(self, name: str = WEB) -> None:
        self.on_wipe(name)
        found = {k: v for k, v in self.md(name).items() if k != "status"}
        self.world.api.put(*MD, found, "status")

    def traffic(self, rate: float, name: str = WEB) -> Client:
        return self.clients.want(NAMESPACE, name, rate)

    # What they see

    def md(self, name: str = WEB) -> Obj:
        return self.world.get(*MD, NAMESPACE, name)

    def md_status(self, name: str = WEB) -> Obj:
        return dict(self.md(name).get("status") or {})

    def md_phase(self, name: str = WEB) -> str:
        return str(self.md_status(name).get("phase", ""))

    def stable(self, name: str = WEB) -> str:
        return str((self.md_status(name).get("stable") or {}).get("revision", ""))

    def canary(self, name: str = WEB) -> str:
        return str((self.md_status(name).get("canary") or {}).get("revision", ""))

    def step_of(self, name: str = WEB) -> str:
        return str(self.md_status(name).get("step", ""))

    def route_weights(self, name: str = WEB) -> dict[str, int]:
        """Revision -> weight, as the route has it; revisions with 0 left out."""
        route = self.world.find(*ROUTES, NAMESPACE, name)
        refs = [r for rule in (route or {}).get("spec", {}).get("rules") or [] for r in rule.get("backendRefs") or []]
        return {str(r["name"]).removeprefix(f"{name}-"): r["weight"] for r in refs if r["weight"]}

    def engine_deployments(self, name: str = WEB) -> dict[str, Obj]:
        """Revision -> Deployment."""
        return {
            d["metadata"]["labels"][LABEL_REVISION]: d
            for d in self.world.api.objects(*DEPLOYMENTS)
            if (d["metadata"].get("labels") or {}).get(LABEL_DEPLOYMENT) == name
        }

    def engine_pods(self, revision: str | None = None, name: str = WEB) -> list[Obj]:
        return [
            pod
            for pod in self.world.pods()
            if (labels := pod["metadata"].get("labels") or {}).get(LABEL_ROLE) == ROLE_ENGINE
            and labels.get(LABEL_DEPLOYMENT) == name
            and revision in (None, labels.get(LABEL_REVISION))
        ]

    def client(self, name: str = WEB) -> Client:
        self.clients.catch_up()
        return self.clients.of[NAMESPACE, name]

    def lost(self, name: str = WEB) -> dict[tuple[str, str], int]:
        return self.client(name).lost

    # The pods' programs

    def serving_program(self, pod: Obj) -> Program | None:
        role = (pod["metadata"].get("labels") or {}).get(LABEL_ROLE)
        if role not in (ROLE_ENGINE, ROLE_VERIFIER, ROLE_CHECKER):
            return None
        config = serve_config(pod)
        model = self._model(config.model_uri)
        if role == ROLE_VERIFIER:
            return Verifier(start_seconds=self.pace, seconds=2 * self.pace, config=config, model=model)
        if role == ROLE_CHECKER:
            return Checker(start_seconds=self.pace, seconds=3 * self.pace, config=config, model=model)
        assert model is not None, f"an engine for {config.model_uri}, which nobody published"
        return self._engine_pod(pod, model)

    def _model(self, uri: str) -> Model | None:
        """Published by hand or by a FineTuneJob."""
        run = next((r for r in self.runs.values() if r.uri == uri and r.published), None)
        if run is not None and uri not in self.models:
            self.publish(uri, digest=run.output.digest)
        return self.models.get(uri)

    def _engine_pod(self, pod: Obj, model: Model) -> Program:
        (container,) = pod["spec"]["containers"]
        flags = dict(a.partition("=")[::2] for a in container["args"] if a.startswith("--"))
        uid = pod["metadata"]["uid"]
        what = model.behaviour
        served = flags["--served-model-name"]
        engine = self.clients.engines[uid] = Engine(what, served, random.Random(f"{self.seed}/{uid}"))
        return EnginePod(
            start_seconds=self.pace,
            init_seconds=2 * self.pace,
            init_exit_code=what.fetch_exit,
            init_message=fetch_report(what.fetch_exit, self.world.clock.now()),
            image_pull_fails=what.image_missing,
            engine=engine,
            shutdown_timeout=float(flags.get("--shutdown-timeout", "0")),
            catch_up=self.clients.catch_up,
        )
