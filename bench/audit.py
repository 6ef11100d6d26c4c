"""The API server's audit log as the stopwatch and the tally: exact times of each call, at no cost to the operator.

Only calls of the operator and of the benchmark's own client are logged. Times are those of the API server: when it
received a request, and when the answer was complete.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

BENCH_USER = "finetune-bench"
_JOB_NAME = re.compile(r"^(job-\d{5})(?=$|[-.])")
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def policy(operator_user: str) -> dict[str, Any]:
    verbs = sorted(WRITES | {"get", "list"})
    job_writes = {"group": "finetune.dev", "resources": ["finetunejobs"]}
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "omitManagedFields": True,
        "rules": [
            {"level": "Metadata", "users": [operator_user], "verbs": verbs},
            {"level": "Metadata", "users": [BENCH_USER], "verbs": ["create"], "resources": [job_writes]},
            # kwok's last patch of a preflight pod is where the operator's second reaction begins.
            {
                "level": "Metadata",
                "users": ["finetune-admin"],
                "verbs": ["patch"],
                "resources": [{"group": "", "resources": ["pods/status"]}],
            },
            {"level": "None"},
        ],
    }


@dataclass(frozen=True, slots=True)
class Call:
    user: str
    verb: str
    resource: str
    """With its subresource: `finetunejobs/status`."""
    namespace: str
    name: str
    code: int
    received: float
    answered: float

    @property
    def job(self) -> str | None:
        """The FineTuneJob it is about, by the names that the operator derives from it."""
        match = _JOB_NAME.match(self.name)
        return f"{self.namespace}/{match[1]}" if match else None

    @property
    def ok(self) -> bool:
        return self.code < 400

    @property
    def write(self) -> bool:
        return self.verb in WRITES


def parse(line: str | bytes) -> Call:
    event = json.loads(line)
    ref = event.get("objectRef") or {}
    sub = ref.get("subresource")
    return Call(
        user=event["user"]["username"],
        verb=event["verb"],
        resource=ref.get("resource", "") + (f"/{sub}" if sub else ""),
        namespace=ref.get("namespace", ""),
        name=ref.get("name", ""),
        code=int((event.get("responseStatus") or {}).get("code", 0)),
        received=_seconds(event["requestReceivedTimestamp"]),
        answered=_seconds(event["stageTimestamp"]),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


class AuditLog:
    """Reads what was appended since the last look; a line that is still being written waits for the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.calls: list[Call] = []

    def read(self) -> list[Call]:
        """Only the new ones; all of them are in `calls`."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        new = [parse(line) for line in complete.splitlines()]
        self.calls.extend(new)
        return new


@dataclass
class Story:
    """What happened to one FineTuneJob until its attempt's Job stood."""

    applied: float
    preflight_created: float | None = None
    preflight_over: float | None = None
    job_created: float | None = None
    writes: Counter[str] = field(default_factory=Counter)
    """Of the operator, by `verb resource`, up to and including the Job's create."""

    @property
    def complete(self) -> bool:
        return self.job_created is not None


def stories(calls: Iterable[Call], operator_user: str) -> dict[str, Story]:
    """By `namespace/name`. Refused writes count as writes."""
    found: dict[str, Story] = {}
    for call in sorted(calls, key=lambda c: c.answered):
        key = call.job
        if key is None:
            continue
        if call.user == BENCH_USER:
            if call.ok and call.resource == "finetunejobs":
                found[key] = Story(call.received)
            continue
        story = found.get(key)
        if story is None or story.complete:
            continue
        if call.user == operator_user:
            _tell(story, call)
        elif call.name.endswith("-preflight"):
            story.preflight_over = call.answered
    return found


def _tell(story: Story, call: Call) -> None:
    if not call.write:
        return
    story.writes[f"{call.verb} {call.resource}"] += 1
    if not call.ok or call.verb != "create":
        return
    if call.resource == "pods" and story.preflight_created is None:
        story.preflight_created = call.answered
    if call.resource == "jobs":
        story.job_created = call.answered


def refused(calls: Iterable[Call], user: str) -> Counter[str]:
    """Answers of 400 and above, by `code verb resource`."""
    return Counter(f"{c.code} {c.verb} {c.resource}" for c in calls if c.user == user and not c.ok)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]
