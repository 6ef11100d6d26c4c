"""The operator's own metrics, on a registry of their own, so that tests and two instances in one process stay apart."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from finetune_operator.core.names import KIND_DEPLOYMENT, KIND_JOB
from finetune_operator.shell.lanes import Lane

PREFIX = "finetune_operator_"
DEPLOYMENT_PHASES = ("Pending", "Progressing", "Paused", "Healthy", "RollingBack", "Degraded")
PHASES = (
    "Pending",
    "Queued",
    "Starting",
    "Running",
    "Recovering",
    "Publishing",
    "Succeeded",
    "Failed",
    "Suspended",
)
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        ProcessCollector(registry=r)
        self.reconcile_seconds = Histogram(
            PREFIX + "reconcile_seconds", "One pass over one object.", buckets=_BUCKETS, registry=r
        )
        self.queue_wait = Histogram(
            PREFIX + "queue_wait_seconds", "From when a key is due until a worker takes it.", ["lane"],
            buckets=_BUCKETS, registry=r,
        )  # fmt: skip
        self.passes = Counter(PREFIX + "reconciles", "Passes by result.", ["result"], registry=r)
        self.api_calls = Counter(
            PREFIX + "api_requests", "Calls of the API server by verb, kind and outcome.", ["verb", "kind", "outcome"],
            registry=r,
        )  # fmt: skip
        self.preemptions = Counter(PREFIX + "preemptions", "Preemptions recorded in status.", registry=r)
        self.lost_steps = Counter(PREFIX + "lost_steps", "Optimizer steps that had to be repeated.", registry=r)
        self.restarts = Counter(PREFIX + "restarts", "Restarts recorded in status.", registry=r)
        self.probes = Counter(PREFIX + "probes", "Progress polls by outcome.", ["outcome"], registry=r)
        self.rollouts = Counter(
            PREFIX + "rollouts", "Rollouts of ModelDeployments that ended, by how.", ["result"], registry=r
        )
        self.rollbacks = Counter(PREFIX + "rollbacks", "Rollouts that were taken back, by why.", ["reason"], registry=r)
        self.scrapes = Counter(
            PREFIX + "engine_scrapes", "Looks at engines' metrics by outcome.", ["outcome"], registry=r
        )
        self.synthetic = Counter(
            PREFIX + "synthetic_requests", "Completions asked of engines by outcome.", ["outcome"], registry=r
        )
        self.missed_events = Counter(
            PREFIX + "resync_changes",
            "Changes that a resync found before the watch told of them.",
            ["kind"],
            registry=r,
        )
        self.leader = Gauge(PREFIX + "leader", "1 on the replica that leads.", registry=r)
        self.loop_lag = Gauge(PREFIX + "loop_lag_seconds", "Newest measured delay of the event loop.", registry=r)

    def api_call(self, verb: str, kind: str, outcome: str) -> None:
        self.api_calls.labels(verb, kind, outcome).inc()

    def waited(self, lane: Lane, seconds: float) -> None:
        self.queue_wait.labels(lane.name.lower()).observe(seconds)

    def looked_at_engine(self, what: str, outcome: str) -> None:
        (self.scrapes if what == "scrape" else self.synthetic).labels(outcome).inc()

    def sampled(
        self,
        *,
        queue: Callable[[], Mapping[str, int]],
        resync_age: Callable[[], float],
        objects: Callable[[str], Iterable[Any]],
        progress_interval: Callable[[], float],
    ) -> None:
        """Gauges that are read when somebody scrapes. `objects` of a kind."""
        self.registry.register(_Sampled(queue, resync_age, objects, progress_interval))

    def status_written(self, kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Counts what a status write adds to the one before it."""
        if kind == KIND_DEPLOYMENT:
            self._deployment_written(old, new)
        else:
            self._job_written(old, new)

    def _deployment_written(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        if not old:
            return  # the first status, or one that is rebuilt after it was lost: nothing in it ended just now
        known = {_rollout(entry) for entry in old.get("history") or ()}
        for entry in new.get("history") or ():
            if _rollout(entry) not in known:
                self.rollouts.labels(entry.get("outcome", "")).inc()
                if entry.get("outcome") == "RolledBack":
                    self.rollbacks.labels(entry.get("reason", "")).inc()

    def _job_written(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        before, after = old.get("totals") or {}, new.get("totals") or {}
        for name, counter in (("preemptions", self.preemptions), ("restarts", self.restarts)):
            counter.inc(max(0, int(after.get(name) or 0) - int(before.get(name) or 0)))
        known = {a.get("index") for a in old.get("attempts") or () if a.get("lostSteps") is not None}
        lost = sum(
            int(a["lostSteps"])
            for a in new.get("attempts") or ()
            if a.get("lostSteps") is not None and a.get("index") not in known
        )
        self.lost_steps.inc(max(0, lost))


def _rollout(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry.get("revision"), entry.get("startedAt"), entry.get("finishedAt")


class _Sampled(Collector):
    def __init__(
        self,
        queue: Callable[[], Mapping[str, int]],
        resync_age: Callable[[], float],
        objects: Callable[[str], Iterable[Any]],
        progress_interval: Callable[[], float],
    ) -> None:
        self._queue, self._resync_age, self._objects = queue, resync_age, objects
        self._progress_interval = progress_interval

    def collect(self) -> Iterable[GaugeMetricFamily]:
        depth = GaugeMetricFamily(PREFIX + "queue_depth", "Keys in the work queue by state.", labels=["state"])
        for state, count in self._queue().items():
            depth.add_metric([state], count)
        yield depth
        age = GaugeMetricFamily(PREFIX + "resync_age_seconds", "Since the last complete LIST of everything.")
        age.add_metric([], self._resync_age())
        yield age
        pace = GaugeMetricFamily(
            PREFIX + "progress_write_interval_seconds", "Progress is written at most this often per job, for now."
        )
        pace.add_metric([], self._progress_interval())
        yield pace
        yield self._phases("jobs", KIND_JOB, PHASES)
        yield self._phases("deployments", KIND_DEPLOYMENT, DEPLOYMENT_PHASES)

    def _phases(self, name: str, kind: str, phases: Iterable[str]) -> GaugeMetricFamily:
        family = GaugeMetricFamily(PREFIX + name, f"{kind}s by phase.", labels=["phase"])
        tally = Tally((obj.get("status") or {}).get("phase") or "Pending" for obj in self._objects(kind))
        for phase in phases:
            family.add_metric([phase], tally.get(phase, 0))
        return family
