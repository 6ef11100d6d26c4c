"""The fake API server against the real one: the same random script, the same answers.

Every difference that this test ever found was a bug in the fake. Whatever is in `differential.Writer` is covered;
what clients of this project send and the Writer does not, belongs there.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakeapi import FakeApiServer, install_crd

from tests.apiserver.differential import FakeServer, RealServer, Runner, Server
from tests.apiserver.operations import KINDS, WIDGETS
from tests.apiserver.script import Writer
from tests.crds import crd

pytestmark = pytest.mark.apiserver
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def real(apiserver: Any) -> Iterator[RealServer]:
    server = RealServer(apiserver)
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for manifest in (WIDGETS, crd("httproutes")):
        server.call("POST", crds, {}, manifest)
    deadline = time.monotonic() + 30
    for path in ("/apis/example.test/v1/widgets", "/apis/gateway.networking.k8s.io/v1/httproutes"):
        while server.call("GET", path, {}, None)[0] != 200:
            assert time.monotonic() < deadline, f"{path} is not served after 30 s"
            time.sleep(0.05)
    yield server
    server.close()


@pytest.fixture
def fake() -> FakeServer:
    server = FakeApiServer()
    for manifest in (WIDGETS, crd("httproutes"), crd("modeldeployments")):
        install_crd(server, manifest)
    return FakeServer(server)


def prepare(server: Server, namespace: str) -> Runner:
    runner = Runner(server, namespace)
    for name in (namespace, runner.events):
        server.call("POST", "/api/v1/namespaces", {}, {"metadata": {"name": name}}, "application/json")
    account = {"metadata": {"name": "default"}}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    server.call("POST", path, {}, account, "application/json")
    return runner


def difference(what: str, expected: Any, got: Any) -> str:
    def lines(value: Any) -> list[str]:
        return json.dumps(value, indent=1, sort_keys=True).splitlines()

    import difflib

    diff = "\n".join(difflib.unified_diff(lines(expected), lines(got), "real", "fake", lineterm="", n=4))
    return f"{what}\n{diff}"


@pytest.mark.parametrize("seed", range(12))
def test_same_script_same_answers(real: RealServer, fake: FakeServer, seed: int) -> None:
    namespace = f"diff-{seed}-{uuid.uuid4().hex[:6]}"
    on_real, on_fake = prepare(real, namespace), prepare(fake, namespace)
    for number, op in enumerate(Writer(seed).script(60)):
        if isinstance(op.body, dict) and "involvedObject" in op.body:
            op.body["involvedObject"]["namespace"] = on_real.events
        expected, got = on_real.run(op), on_fake.run(op)
        assert got == expected, f"operation {number} of seed {seed}: {difference(str(op), expected, got)}"


@pytest.mark.parametrize("selector", [{}, {"labelSelector": "x=1"}, {"fieldSelector": "metadata.name=a"}])
@pytest.mark.parametrize("kind", [KINDS[0], KINDS[-1]], ids=lambda k: k.kind)
def test_watch_tells_the_same_story(real: RealServer, fake: FakeServer, selector: dict[str, str], kind: Any) -> None:
    namespace = f"watch-{uuid.uuid4().hex[:6]}"
    runners = [prepare(real, namespace), prepare(fake, namespace)]
    script = [op for op in Writer(100, [kind]).script(150) if op.name]
    starts = [server.call("GET", kind.path(namespace), {}, None)[1] for server in (real, fake)]
    for number, op in enumerate(script):
        expected, got = (runner.run(op) for runner in runners)
        assert got == expected, f"operation {number}: {difference(str(op), expected, got)}"
    stories = []
    for server, runner, start in zip((real, fake), runners, starts, strict=True):
        since = start["metadata"]["resourceVersion"]
        events = server.watch(kind.path(namespace), {**selector, "resourceVersion": since})
        stories.append([(e["type"], runner.normal(e["object"])) for e in events if e["type"] != "BOOKMARK"])
    assert len(stories[0]) > 5
    for number, (expected, got) in enumerate(zip(*stories, strict=False)):
        assert got == expected, f"event {number}: {difference('', expected, got)}"
    assert len(stories[1]) == len(stories[0])


def test_watch_that_begins_too_late_is_told_so_in_an_event(real: RealServer, fake: FakeServer) -> None:
    """The real server's watch cache of the CRD begins after revision 1; the fake's history is compacted."""
    fake.server.store.compact()
    path = "/apis/example.test/v1/widgets"
    deadline = time.monotonic() + 30
    while True:
        expected = real.watch(path, {"resourceVersion": "1"})
        if expected and expected[0]["type"] == "ERROR":
            break
        assert time.monotonic() < deadline
    got = fake.watch(path, {"resourceVersion": "1"})
    assert len(got) == len(expected) == 1
    assert got[0]["type"] == "ERROR"
    for name in ("kind", "code", "reason", "status"):
        assert got[0]["object"][name] == expected[0]["object"][name]
