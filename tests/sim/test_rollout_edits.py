"""People change their minds: any edits of a spec, at any moment, and then back to what it was.

The state is then the one that was never left: same revision, same weights, same pods; and nobody noticed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from opsim import Sim
from test_rollout_crash import QUICK

EDITS: list[dict[str, Any]] = [
    {"model": {"uri": "s3://models/v2"}},
    {"model": {"uri": "s3://models/v3"}},
    {"model": {"servedName": "other"}},
    {"model": {"requireGate": False}},
    {"engine": {"args": ["--enforce-eager"]}},
    {"engine": {"maxModelLen": 128}},
    {"engine": {"image": "vllm:9"}},
    {"resources": {"gpus": 2}},
    {"replicas": 1},
    {"replicas": 3},
    {"rollout": {"steps": []}},
    {"rollout": {"steps": [{"weight": 34, "pause": "Manual"}]}},
    {"rollout": {"maxSurge": 3}},
    {"rollout": {"verify": {"prompts": ["another"]}}},
    {"rollout": {"analysis": {"interval": "7s", "metrics": []}}},
    {"rollout": {"history": 0}},
    {"traffic": {"hostnames": ["bot.team.example.test"]}},
    {"traffic": {"hostnames": ["bot.somebody-else.test"]}},
]
_CONDITIONS_OF_THE_WAY = ("Promoted", "RolledBack")


def essence(status: dict[str, Any]) -> dict[str, Any]:
    kept = {k: status.get(k) for k in ("phase", "reason", "stable", "ready", "replicas", "selector", "url", "rejected")}
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    return kept | {"conditions": {k: v for k, v in conditions.items() if k not in _CONDITIONS_OF_THE_WAY}}


def edited(edits: list[tuple[dict[str, Any], float]], number: int) -> None:
    with Sim(number, nodes=6, serves=True) as sim:
        sim.publish("s3://models/v3")
        sim.deploy(rollout=QUICK, rate=3.0)
        sim.start_operator()
        sim.until(lambda: sim.md_phase() == "Healthy", within=300)
        sim.settle(30)
        status, spec, weights = essence(sim.md_status()), copy.deepcopy(sim.md()["spec"]), sim.route_weights()
        for changes, wait in edits:
            sim.edit_md(**changes)
            sim.run_for(wait)
        sim.world.api.put("finetune.dev", "modeldeployments", {**sim.md(), "spec": spec})
        sim.run_for(1)
        sim.until(lambda: not (sim.md_status().get("rollout") or sim.md_status()["draining"]), within=3000)
        sim.settle(40)
        assert essence(sim.md_status()) == status
        assert sim.route_weights() == weights
        sizes = {r: d["spec"]["replicas"] for r, d in sim.engine_deployments().items()}
        assert {r: n for r, n in sizes.items() if n} == {sim.stable(): 2}
        assert sim.lost() == {}
        mark = sim.world.server.writes.mark()
        sim.kill()
        sim.start_operator()
        sim.run_for(30)
        assert sim.operator_writes(mark) == [], "a second pass writes nothing"


_SCRIPTS = st.lists(st.tuples(st.sampled_from(EDITS), st.sampled_from([0.0, 0.3, 4.0, 15.0, 40.0])), max_size=7)
_COMMON: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
    "database": None,
}


@seed(1)
@settings(max_examples=8, phases=[Phase.generate], **_COMMON)
@given(_SCRIPTS, st.integers(0, 2**16))
def test_back_to_what_it_was(edits: list[tuple[dict[str, Any], float]], number: int) -> None:
    edited(edits, number)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@seed(2)
@settings(max_examples=30, phases=[Phase.generate, Phase.shrink], **_COMMON)
@given(_SCRIPTS, st.integers(0, 2**16))
def test_back_to_what_it_was_at_length(edits: list[tuple[dict[str, Any], float]], number: int) -> None:
    edited(edits, number)
