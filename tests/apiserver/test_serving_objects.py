"""What the serving builders make, as a real API server takes it: valid, restricted, and settled once it is stored."""

from __future__ import annotations

import copy
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import ApiServer
from finetune_operator.core.serving.builders.engine import build_engine, build_engine_policy, build_service
from finetune_operator.core.serving.builders.jobs import build_checker, build_verifier
from finetune_operator.core.serving.builders.route import build_route, route_patch, weights
from tests.core.serving.leaves import CONFIG, modeldeployment, record, source, spec_of

pytestmark = pytest.mark.apiserver

GATEWAY_CRDS = Path(__file__).resolve().parents[2] / "helm/finetune-operator/charts/gateway-api/crds"
RICH: dict[str, Any] = {
    "engine": {
        "maxModelLen": 8192,
        "dtype": "BF16",
        "args": ["--max-num-seqs=64"],
        "env": [{"name": "A", "value": "b"}],
    },
    "resources": {
        "gpus": 8,
        "requests": {"cpu": 8, "memory": "64Gi"},
        "limits": {"memory": "128Gi"},
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "imagePullSecrets": [{"name": "registry"}],
        "sharedMemory": "16Gi",
    },
    "rollout": {
        "verify": {"prompts": ["Who are you?"]},
        "analysis": {
            "quality": [{"data": {"uri": "pvc://prompts/own.jsonl", "secretRef": {"name": "own"}}, "min": "0.8"}]
        },
    },
}


class Namespace:
    def __init__(self, api: ApiServer, name: str) -> None:
        self._api, self.name = api, name

    def create(self, obj: dict[str, Any], *flags: str) -> dict[str, Any]:
        wire = copy.deepcopy(obj)
        wire["metadata"]["namespace"] = self.name
        out = self._api.kubectl("create", "-f", "-", "-o", "json", *flags, input=json.dumps(wire))
        stored: dict[str, Any] = json.loads(out)
        return stored

    def patch(self, what: str, body: Any) -> dict[str, Any]:
        text = json.dumps(body)
        out = self._api.kubectl("patch", what, "-n", self.name, "--type=merge", "-p", text, "-o", "json")
        stored: dict[str, Any] = json.loads(out)
        return stored


@pytest.fixture(scope="module")
def gateway_api(apiserver: ApiServer) -> ApiServer:
    apiserver.kubectl("apply", "--server-side", "-f", str(GATEWAY_CRDS))
    deadline = time.monotonic() + 30
    while True:
        try:
            apiserver.kubectl("get", "httproutes", "--all-namespaces")
            return apiserver
        except subprocess.CalledProcessError:
            assert time.monotonic() < deadline, "HTTPRoute is not served after 30 s"
            time.sleep(0.1)


@pytest.fixture
def restricted(gateway_api: ApiServer) -> Iterator[Namespace]:
    name = f"serving-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}},
    ]
    gateway_api.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    yield Namespace(gateway_api, name)
    gateway_api.kubectl("delete", "namespace", name, "--wait=false")


def made(spec: dict[str, Any], uri: str) -> dict[str, dict[str, Any]]:
    md = modeldeployment(spec)
    parsed, one = spec_of(md), record(model=source(uri=uri))
    return {
        "engine": build_engine(md, parsed, one, CONFIG, 2),
        "service": build_service(md, one),
        "policy": build_engine_policy(md),
        "verifier": build_verifier(md, parsed, one.model, "kkkkkkkkkk", CONFIG),
        "checker": build_checker(md, parsed, one, record("ssssssssss"), CONFIG),
    }


@pytest.mark.parametrize("spec", [{}, RICH], ids=["shortest", "rich"])
@pytest.mark.parametrize("uri", ["s3://models/bot", "pvc://models/bots/v2"])
def test_every_object_is_valid_and_every_pod_restricted(restricted: Namespace, spec: dict[str, Any], uri: str) -> None:
    for what, obj in made(spec, uri).items():
        stored = restricted.create(obj)
        template = obj["spec"].get("template")
        if template is None:
            continue
        assert_kept(obj["spec"]["template"], stored["spec"]["template"], what)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": what, **template["metadata"]},
            "spec": template["spec"],
        }
        restricted.create(pod, "--dry-run=server")


def assert_kept(ours: Any, stored: Any, where: str) -> None:
    """The API server adds defaults and changes nothing; a sleep before the stop that it did not know would be gone."""
    if isinstance(ours, dict):
        for key, value in ours.items():
            assert key in stored, f"{where}.{key}"
            assert_kept(value, stored[key], f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(stored), where
        for n, (a, b) in enumerate(zip(ours, stored, strict=True)):
            assert_kept(a, b, f"{where}[{n}]")
    else:
        assert str(ours) == str(stored), where


def test_an_unrestricted_pod_would_have_been_refused(restricted: Namespace) -> None:
    template = made({}, "s3://models/bot")["engine"]["spec"]["template"]
    del template["spec"]["initContainers"][0]["securityContext"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
    with pytest.raises(subprocess.CalledProcessError):
        restricted.create(pod, "--dry-run=server")


@pytest.mark.parametrize(
    "traffic",
    [
        {},
        {"path": "/chat"},
        {"hostnames": ["a.example.com", "b.example.com"], "parentRefs": [{"name": "own", "sectionName": "web"}]},
    ],
)
def test_a_stored_route_is_settled_and_a_patch_settles_it_again(restricted: Namespace, traffic: dict[str, Any]) -> None:
    def route(weight: int, traffic: dict[str, Any], notes: dict[str, str]) -> dict[str, Any]:
        md = modeldeployment({"traffic": traffic})
        return build_route(md, spec_of(md), CONFIG, [("old", 100 - weight), ("new", weight)], notes)

    first = route(5, traffic, {"finetune.dev/stable": "old", "finetune.dev/rollout": "new/1"})
    stored = restricted.create(first)
    assert route_patch(stored, first) is None
    for wanted in (
        route(25, traffic, {"finetune.dev/stable": "old", "finetune.dev/rollout": "new/2"}),
        route(0, {"path": "/other"}, {"finetune.dev/stable": "old"}),
        route(100, {"hostnames": ["c.example.com"]}, {"finetune.dev/stable": "new"}),
    ):
        patch = route_patch(stored, wanted)
        assert patch is not None
        stored = restricted.patch("httproute/bot", patch.body)
        assert route_patch(stored, wanted) is None
        assert weights(stored) == weights(wanted)
        assert stored["metadata"]["annotations"] == wanted["metadata"]["annotations"]
    with pytest.raises(subprocess.CalledProcessError):  # an outdated resourceVersion changes nothing
        restricted.patch("httproute/bot", patch.body)
