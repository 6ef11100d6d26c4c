"""What the Gateway costs, on the cluster that is up: a weight on its way to the data plane, and requests a second.

Two pods that only say their name stand for two revisions, behind one HTTPRoute as the operator writes it; requests
come from this host to the Gateway's and the Services' addresses. An engine needs a hundred times as long for an answer,
so that what is measured is the Gateway and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from bench import asker, audit, procfs, report
from e2e.cluster import Cluster, NotUp, chart
from e2e.cluster.process import wait_for

NAMESPACE = "bench-gateway"
HOST = "bench.models.test"
NAMES = ("old", "new")
FLIPS = 40
SECONDS = 8.0
Json = dict[str, Any]


def backend(name: str, image: str) -> list[Json]:
    labels = {"bench": name}
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", (Path(__file__).parent / "echo.py").read_text()],
        "env": [{"name": "NAME", "value": name}],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
    }
    meta = {"name": name, "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta | {"labels": labels}, "spec": {"containers": [container]}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
        },
    ]


def rules(**weights: int) -> list[Json]:
    """As the operator writes them: who has no weight is left out."""
    refs = [
        {"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight} for name, weight in weights.items()
    ]
    return [{"matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}], "backendRefs": refs}]


def route() -> Json:
    parent = {
        "group": "gateway.networking.k8s.io",
        "kind": "Gateway",
        "namespace": chart.NAMESPACE,
        "name": "finetune",
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "bench", "namespace": NAMESPACE},
        "spec": {"parentRefs": [parent], "hostnames": [HOST], "rules": rules(old=100)},
    }


class Api:
    """The administrator's own connection, kept open: a kubectl would take longer than what is measured."""

    def __init__(self, kubeconfig: Path) -> None:
        found = yaml.safe_load(kubeconfig.read_text())
        cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
        self._server = cluster["server"]
        self._tls = ssl.create_default_context(cadata=_data(cluster, "certificate-authority").decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(_data(user, "client-certificate") + b"\n" + _data(user, "client-key"))
            pair.flush()
            self._tls.load_cert_chain(pair.name)

    async def __aenter__(self) -> Api:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def weigh(self, **weights: int) -> None:
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes/bench"
        headers = {"Content-Type": "application/merge-patch+json"}
        body = json.dumps({"spec": {"rules": rules(**weights)}})
        async with self._session.patch(self._server + path, data=body, headers=headers) as answer:
            answer.raise_for_status()
            await answer.read()


def _data(entry: Json, key: str) -> bytes:
    if f"{key}-data" in entry:
        return base64.b64decode(entry[f"{key}-data"])
    return Path(entry[key]).read_bytes()


async def measure(cluster: Cluster, gateway: str, direct: str) -> Json:
    figures: Json = {"load before": procfs.load_average(), "backend": "two pods that answer with their name"}
    firsts, lasts = [], []
    async with Api(cluster.kubeconfig) as api, asker.Asker(gateway, HOST) as one:
        await asker.until_answered_by(one, "old", time.perf_counter())
        for number in range(FLIPS):
            # Traefik gathers changes for a while; a weight may come at any moment of that.
            await asyncio.sleep(random.Random(number).uniform(0.5, 2.5))
            name = NAMES[(number + 1) % 2]
            began = time.perf_counter()
            await api.weigh(**{name: 100})
            first, last = await asker.until_answered_by(one, name, began)
            firsts.append(1000 * first)
            lasts.append(1000 * last)
        await api.weigh(old=80, new=20)
        await asyncio.sleep(3.0)
        answers = [(await one.ask())[1] for _ in range(2000)]
    figures["share at weight 20, percent of 2,000"] = 100 * answers.count(b"new") / len(answers)
    for share in (0.5, 0.99):
        figures[f"route written to first answer p{share * 100:.0f} ms"] = audit.percentile(firsts, share)
        figures[f"route written to last old answer p{share * 100:.0f} ms"] = audit.percentile(lasts, share)
    for connections in (1, 16):
        for what, address in (("Gateway", gateway), ("direct", direct)):
            found = await asker.rate(address, HOST, connections=connections, seconds=SECONDS)
            label = f"{what}, {connections} connection{'s' * (connections > 1)}"
            figures[f"{label}: requests/s"] = found.per_second
            figures[f"{label}: p50 ms"] = found.p50_ms
            figures[f"{label}: p99 ms"] = found.p99_ms
            figures[f"{label}: failed"] = found.failed
    return figures | {"load": procfs.load_average()}


def run(cluster: Cluster) -> Json:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    try:
        cluster.apply(*(obj for name in NAMES for obj in backend(name, cluster.images["operator"])), route())
        cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
        address = cluster.get("service", "old", "-n", NAMESPACE)["spec"]["clusterIP"]
        wait_for("the Gateway to take the route", lambda: _accepted(cluster), 60, lambda: "it does not report on it")
        return asyncio.run(measure(cluster, cluster.gateway, f"{address}:80"))
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def _accepted(cluster: Cluster) -> bool:
    parents = (cluster.get("httproute", "bench", "-n", NAMESPACE).get("status") or {}).get("parents") or []
    return any(c["type"] == "Accepted" and c["status"] == "True" for p in parents for c in p["conditions"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--keep-results", action="store_true", help="leave bench/RESULTS.md and results.json alone")
    arguments = parser.parse_args()
    try:
        figures = run(Cluster.current())
    except NotUp as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(figures, indent=2))
    if not arguments.keep_results:
        stamp = report.stamped("gateway", figures) | {"command": "python -m bench.gateway"}
        report.write(report.load() | {"gateway": stamp})
    return 0


if __name__ == "__main__":
    sys.exit(main())
