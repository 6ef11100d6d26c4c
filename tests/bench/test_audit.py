"""The stopwatch: what is read from the audit log, and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.audit import BENCH_USER, AuditLog, Call, parse, percentile, policy, refused, stories

OPERATOR = "system:serviceaccount:finetune-system:ft-finetune-operator"


def event(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "stage": "ResponseComplete",
        "verb": "update",
        "user": {"username": OPERATOR, "groups": ["system:authenticated"]},
        "objectRef": {
            "resource": "finetunejobs",
            "namespace": "team-00",
            "name": "job-00007",
            "apiGroup": "finetune.dev",
            "apiVersion": "v1alpha1",
            "subresource": "status",
        },
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.000250Z",
        "stageTimestamp": "2026-01-02T03:04:05.010250Z",
        **changes,
    }


def call(verb: str, resource: str, name: str, at: float, *, user: str = OPERATOR, code: int = 200) -> Call:
    return Call(user, verb, resource, "team-00", name, code, at - 0.001, at)


def test_a_line_gives_who_did_what_to_whom_and_how_long_it_took() -> None:
    got = parse(json.dumps(event()))
    assert (got.user, got.verb, got.resource) == (OPERATOR, "update", "finetunejobs/status")
    assert (got.namespace, got.name, got.code) == ("team-00", "job-00007", 200)
    assert got.answered - got.received == pytest.approx(0.01)


def test_an_event_without_object_or_answer_is_still_a_call() -> None:
    line = event()
    del line["objectRef"], line["responseStatus"]
    got = parse(json.dumps(line))
    assert (got.resource, got.name, got.code, got.job) == ("", "", 0, None)


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("job-00007", "team-00/job-00007"),
        ("job-00007-preflight", "team-00/job-00007"),
        ("job-00007-1-token-0a1b2c3d", "team-00/job-00007"),
        ("job-00007.5f2c", "team-00/job-00007"),
        ("job-000071", None),
        ("finetune-gang", None),
    ],
)
def test_children_are_counted_for_the_job_whose_name_they_carry(name: str, job: str | None) -> None:
    assert call("create", "pods", name, 1.0).job == job


def test_a_line_that_is_still_being_written_waits_for_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    line = json.dumps(event())
    path.write_text(line + "\n" + line[:40])
    log = AuditLog(path)
    assert len(log.read()) == 1
    assert log.read() == []
    with path.open("a") as more:
        more.write(line[40:] + "\n")
    assert len(log.read()) == 1
    assert len(log.calls) == 2


def test_a_story_goes_from_apply_to_the_attempts_job_and_counts_the_writes_between() -> None:
    name = "job-00007"
    calls = [
        call("create", "finetunejobs", name, 10.0, user=BENCH_USER, code=201),
        call("create", "pods", f"{name}-preflight", 10.2, code=201),
        call("get", "pods", f"{name}-preflight", 10.25),
        call("patch", "pods/status", f"{name}-preflight", 10.3, user="finetune-admin"),
        call("patch", "pods/status", f"{name}-preflight", 10.4, user="finetune-admin"),
        call("update", "finetunejobs/status", name, 10.5, code=409),
        call("update", "finetunejobs/status", name, 10.6),
        call("create", "jobs", f"{name}-1", 10.8, code=201),
        call("update", "finetunejobs/status", name, 10.9),
    ]
    told = stories(reversed(calls), OPERATOR)["team-00/job-00007"]
    assert told.applied == pytest.approx(9.999)
    assert (told.preflight_created, told.preflight_over, told.job_created) == (10.2, 10.4, 10.8)
    assert told.writes == {"create pods": 1, "update finetunejobs/status": 2, "create jobs": 1}


def test_a_refused_create_is_no_child() -> None:
    calls = [
        call("create", "finetunejobs", "job-00001", 1.0, user=BENCH_USER, code=201),
        call("create", "jobs", "job-00001-1", 2.0, code=409),
    ]
    told = stories(calls, OPERATOR)["team-00/job-00001"]
    assert not told.complete
    assert told.writes.total() == 1
    assert refused(calls, OPERATOR) == {"409 create jobs": 1}


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 201)]
    assert percentile(values, 0.5) == 100
    assert percentile(values, 0.99) == 198
    assert percentile([3.0], 0.99) == 3.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_the_policy_logs_the_operator_and_the_load_and_nobody_else() -> None:
    rules = policy(OPERATOR)["rules"]
    assert rules[-1] == {"level": "None"}
    assert {user for rule in rules[:-1] for user in rule["users"]} == {OPERATOR, BENCH_USER, "finetune-admin"}
