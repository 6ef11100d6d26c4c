"""The Lua health check, run as Argo CD runs it: Lua 5.1, a global `obj`, a table in return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

lua51 = pytest.importorskip("lupa.lua51", reason="lupa (a Lua for Python) is not installed; `uv sync` brings it")

HEALTH = (Path(__file__).resolve().parents[2] / "docs" / "gitops" / "health.lua").read_text()


def health(status: dict[str, Any] | None, generation: int = 1) -> tuple[str, str]:
    lua = lua51.LuaRuntime(unpack_returned_tuples=True)
    obj: dict[str, Any] = {"metadata": {"generation": generation}}
    if status is not None:
        obj["status"] = status
    lua.globals().obj = lua.table_from(obj, recursive=True)
    answer = lua.execute(HEALTH)
    return answer["status"], answer["message"]


def conditions(**states: bool) -> list[dict[str, str]]:
    return [{"type": t, "status": str(s)} for t, s in states.items()]


def test_new() -> None:
    assert health(None) == ("Progressing", "waiting for the operator")


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


def test_an_old_status_says_nothing_about_a_new_spec() -> None:
    status = {"phase": "Failed", "observedGeneration": 1, "conditions": conditions(Stalled=True)}
    assert health(status, generation=2)[0] == "Progressing"
