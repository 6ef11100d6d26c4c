"""The Lua health check, run as Argo CD runs it: Lua 5.1, a global `obj`, a table in return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

lua51 = pytest.importorskip("lupa.lua51", reason="lupa (a Lua for Python) is not installed; `uv sync` brings it")

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "gitops"
JOB, DEPLOYMENT = "health.lua", "health-modeldeployment.lua"


def health(status: dict[str, Any] | None, generation: int = 1, script: str = JOB) -> tuple[str, str]:
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    obj: dict[str, Any] = {"metadata": {"generation": generation}}
    if status is not None:
        obj["status"] = status
    lua.globals().obj = lua.table_from(obj, recursive=True)
    answer = lua.execute((FOLDER / script).read_text())
    return answer["status"], answer["message"]


def conditions(**states: bool) -> list[dict[str, str]]:
    return [{"type": t, "status": str(s)} for t, s in states.items()]


@pytest.mark.parametrize("script", [JOB, DEPLOYMENT])
def test_new(script: str) -> None:
    assert health(None, script=script) == ("Progressing", "waiting for the operator")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"phase": "Pending", "reason": "WaitingForSecret", "message": "no Secret 'x'"}, "Progressing"),
        ({"phase": "Queued", "conditions": conditions(Ready=False, Reconciling=True)}, "Progressing"),
        ({"phase": "Running", "conditions": conditions(Ready=True)}, "Healthy"),
        ({"phase": "Recovering", "conditions": conditions(Ready=True)}, "Healthy"),
        ({"phase": "Succeeded", "conditions": conditions(Complete=True, Ready=True)}, "Healthy"),
        ({"phase": "Suspended", "conditions": conditions(Ready=True)}, "Suspended"),
        ({"phase": "Failed", "conditions": conditions(Ready=False, Stalled=True)}, "Degraded"),
    ],
)
def test_states(status: dict[str, Any], expected: str) -> None:
    assert health(status)[0] == expected


def test_the_message_is_the_jobs_own() -> None:
    status = {"phase": "Failed", "message": "perplexity 9 > max 5", "conditions": conditions(Stalled=True)}
    assert health(status) == ("Degraded", "perplexity 9 > max 5")


@pytest.mark.parametrize("script", [JOB, DEPLOYMENT])
def test_an_old_status_says_nothing_about_a_new_spec(script: str) -> None:
    status = {"phase": "Failed", "observedGeneration": 1, "conditions": conditions(Stalled=True)}
    assert health(status, generation=2, script=script)[0] == "Progressing"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"phase": "Pending", "reason": "WaitingForFineTuneJob", "conditions": conditions(Ready=False)}, "Progressing"),
        ({"phase": "Progressing", "conditions": conditions(Ready=False, Reconciling=True)}, "Progressing"),
        ({"phase": "Healthy", "conditions": conditions(Ready=True, Stalled=False)}, "Healthy"),
        ({"phase": "Paused", "conditions": conditions(Ready=False, Reconciling=True)}, "Suspended"),
        ({"phase": "RollingBack", "conditions": conditions(Ready=False, Reconciling=True)}, "Progressing"),
        # Stable serves, but it is not what Git asks for.
        ({"phase": "Healthy", "reason": "AnalysisFailed", "conditions": conditions(Stalled=True)}, "Degraded"),
        ({"phase": "Degraded", "reason": "EnginesNotReady", "conditions": conditions(Reconciling=True)}, "Degraded"),
    ],
)
def test_states_of_a_deployment(status: dict[str, Any], expected: str) -> None:
    assert health(status, script=DEPLOYMENT)[0] == expected


@pytest.mark.parametrize("script", [JOB, DEPLOYMENT])
def test_the_page_names_the_script(script: str) -> None:
    assert f"-- the text of docs/gitops/{script}" in (FOLDER / "argocd.md").read_text()
