"""Traefik itself with exactly the chart's arguments and rights: it starts, takes routes, and is refused nothing."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import ApiServer
from e2e.ports import free_ports
from tests.chart.helm import CHART, NAMESPACE, Helm, is_gateway, one

pytestmark = [pytest.mark.apiserver, pytest.mark.nightly]
NAME = "finetune-operator-gateway"
KINDS = "gateway.networking.k8s.io"


class Traefik:
    def __init__(self, api: ApiServer, binary: Path, folder: Path) -> None:
        self.api, self._binary, self._log = api, binary, folder / "traefik.log"
        self._config = folder / "traefik.kubeconfig"
        self.port, self._own = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, args: list[str]) -> None:
        """Its probes' port may be taken on this machine; nothing else is changed."""
        config = yaml.safe_load(self.api.kubeconfig.read_text())
        token = self.api.kubectl("-n", NAMESPACE, "create", "token", NAME).strip()
        for user in config["users"]:
            user["user"] = {"token": token}
        self._config.write_text(json.dumps(config))
        assert args.count("--entrypoints.traefik.address=:8080") == 1
        args = [a.replace("=:8080", f"=127.0.0.1:{self._own}") for a in args]
        with self._log.open("wb") as out:
            env = {"KUBECONFIG": str(self._config), "PATH": "/usr/bin:/bin"}
            self._process = subprocess.Popen([str(self._binary), *args], env=env, stdout=out, stderr=out)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        return self._log.read_text()

    def conditions(self, kind: str, name: str, namespace: str = NAMESPACE) -> dict[str, str]:
        """Of the object, or of a route's only parent."""
        found = json.loads(self.api.kubectl("-n", namespace, "get", f"{kind}.{KINDS}", name, "-o", "json"))
        status = found.get("status", {})
        parents = status.get("parents", [])
        entries = parents[0]["conditions"] if parents else status.get("conditions", [])
        return {
            e["type"]: e["status"] for e in entries if e.get("observedGeneration") == found["metadata"]["generation"]
        }

    def finalizers(self, kind: str, name: str) -> list[str]:
        found = json.loads(self.api.kubectl("-n", NAMESPACE, "get", f"{kind}.{KINDS}", name, "-o", "json"))
        return list(found["metadata"].get("finalizers", []))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self._process is not None
            assert self._process.poll() is None, f"Traefik ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"{what} did not come\n{self.log()}"
            time.sleep(0.2)

    def answer(self, host: str) -> int:
        """What a client is told; 0 when nobody listens."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/models", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0


def route(namespace: str, host: str) -> dict[str, Any]:
    """As the operator makes it, but for the weights."""
    return {
        "apiVersion": f"{KINDS}/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "bot", "namespace": namespace},
        "spec": {
            "parentRefs": [{"name": "finetune", "namespace": NAMESPACE}],
            "hostnames": [host],
            "rules": [{"backendRefs": [{"name": "bot", "port": 80}]}],
        },
    }


def backend(namespace: str) -> list[dict[str, Any]]:
    """A Service without a pod."""
    named = {"namespace": namespace, "name": "bot"}
    labels = {"labels": {"kubernetes.io/service-name": "bot"}}
    ports = [{"port": 80, "targetPort": 8000}]
    none: dict[str, Any] = {"addressType": "IPv4", "endpoints": [], "ports": [{"port": 8000}]}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": named, "spec": {"ports": ports}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": named | labels, **none},
    ]


def apply(api: ApiServer, *objects: dict[str, Any]) -> None:
    api.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))


@pytest.fixture
def traefik(need: Callable[[str], Path], tmp_path: Path) -> Iterator[Traefik]:
    for binary in ("etcd", "kube-apiserver", "kubectl"):
        need(binary)
    program = need("traefik")
    crds = str(CHART / "charts" / "gateway-api" / "crds")
    with ApiServer() as api:
        api.kubectl("apply", "--server-side", "-f", crds)
        api.kubectl("wait", "--for=condition=Established", "-f", crds)
        for namespace in (NAMESPACE, "team-a", "team-b"):
            api.kubectl("create", "namespace", namespace)
        for namespace in ("team-a", "team-b"):
            apply(api, *backend(namespace))
        running = Traefik(api, program, tmp_path)
        try:
            yield running
        finally:
            running.stop()


def install(traefik: Traefik, helm: Helm, *args: str) -> None:
    settings = [
        "--set",
        f"gateway.install=true,gateway.listenerPort={traefik.port}",
        "--set",
        "crds.enabled=false",
        *args,
    ]
    traefik.api.kubectl("apply", "--server-side", "-f", "-", input=helm.text(*settings))
    objects = [o for o in helm.template(*settings) if is_gateway(o)]
    traefik.start(one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"])


def test_it_takes_a_route_of_any_namespace_and_is_refused_nothing(traefik: Traefik, helm: Helm) -> None:
    install(traefik, helm)
    apply(traefik.api, route("team-a", "bot.team-a.models.example.com"))
    taken = {"Accepted": "True", "ResolvedRefs": "True"}
    traefik.until(lambda: traefik.conditions("httproute", "bot", "team-a") == taken, "the route's acceptance")
    traefik.until(lambda: traefik.conditions("gateway", "finetune").get("Programmed") == "True", "the Gateway")
    traefik.until(lambda: traefik.conditions("gatewayclass", "finetune-operator") == {"Accepted": "True"}, "the class")
    # A route without endpoints is 503, no route at all 404: so Traefik serves the listener's port by the route's host.
    traefik.until(lambda: traefik.answer("bot.team-a.models.example.com") == 503, "an answer for the route")
    assert traefik.answer("bot.team-b.models.example.com") == 404
    assert "orbidden" not in traefik.log()
    # Nothing holds what `helm uninstall` deletes.
    assert traefik.finalizers("gatewayclass", "finetune-operator") + traefik.finalizers("gateway", "finetune") == []


def test_namespaces_it_does_not_watch_are_none_of_its_business(traefik: Traefik, helm: Helm) -> None:
    install(traefik, helm, "--set", "gateway.watchNamespaces={team-a}")
    apply(traefik.api, route("team-b", "bot.team-b.models.example.com"))
    apply(traefik.api, route("team-a", "bot.team-a.models.example.com"))
    taken = {"Accepted": "True", "ResolvedRefs": "True"}
    traefik.until(lambda: traefik.conditions("httproute", "bot", "team-a") == taken, "the route's acceptance")
    traefik.until(lambda: traefik.answer("bot.team-a.models.example.com") == 503, "an answer for the route")
    assert traefik.conditions("httproute", "bot", "team-b") == {}
    assert traefik.answer("bot.team-b.models.example.com") == 404
    assert "orbidden" not in traefik.log()
