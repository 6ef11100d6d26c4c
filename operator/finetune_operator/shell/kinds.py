"""What differs between the kinds that are planned: what is looked at, which plan decides, and who is asked meanwhile.

Everything else (the queue, the executor, backoff, conflicts) is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from finetune_operator.core.serving.types import DeploymentObserved, Engines, Scrape
from finetune_operator.core.types import Config, Obj, Observed, Plan, Probe, Sample
from finetune_operator.kube.client import Client
from finetune_operator.kube.keys import Key
from finetune_operator.kube.observe_deployment import observe_deployment, observe_deployment_fresh
from finetune_operator.kube.observe_job import observe_job, observe_job_fresh
from finetune_operator.kube.store import Store
from finetune_operator.shell.lanes import Lane

PlanFn = Callable[[Observed, datetime, Config], Plan]
DeploymentPlanFn = Callable[[DeploymentObserved, datetime, Config], Plan]
Conflicts = Mapping[str, str]


class Polls(Protocol):
    """What FineTuneJobs need of a prober."""

    def sample(self, key: Key) -> Sample | None: ...

    def want(self, key: Key, probe: Probe | None) -> None: ...

    def forget(self, key: Key) -> None: ...


class Scrapes(Protocol):
    """What ModelDeployments need of a scraper."""

    def engines(self, key: Key) -> Engines | None: ...

    def want(self, key: Key, scrape: Scrape | None) -> None: ...

    def forget(self, key: Key) -> None: ...


class NoPolls:
    """Polls nothing."""

    def sample(self, key: Key) -> Sample | None:
        return None

    def want(self, key: Key, probe: Probe | None) -> None:
        return None

    def forget(self, key: Key) -> None:
        return None


class NoScrapes:
    """Looks at no engine."""

    def engines(self, key: Key) -> Engines | None:
        return None

    def want(self, key: Key, scrape: Scrape | None) -> None:
        return None

    def forget(self, key: Key) -> None:
        return None


class Kind(Protocol):
    """`timers`: the lane of a plan that comes back by time alone."""

    timers: Lane

    def look(self, key: Key, conflicts: Conflicts) -> Any | None: ...

    async def look_freshly(self, key: Key, conflicts: Conflicts) -> Any | None: ...

    def plan(self, observed: Any, now: datetime, config: Config) -> Plan: ...

    def subject(self, observed: Any) -> Obj: ...

    def want(self, key: Key, plan: Plan) -> None: ...

    def forget(self, key: Key) -> None: ...


class FineTuneJobs:
    timers = Lane.PROGRESS
    """Nearly all of them are the time of the next progress write."""

    def __init__(self, client: Client, store: Store, plan: PlanFn, polls: Polls) -> None:
        self._client, self._store, self._plan, self._polls = client, store, plan, polls

    def look(self, key: Key, conflicts: Conflicts) -> Observed | None:
        return observe_job(self._store, key, sample=self._polls.sample(key), conflicts=conflicts)

    async def look_freshly(self, key: Key, conflicts: Conflicts) -> Observed | None:
        sample = self._polls.sample(key)
        return await observe_job_fresh(self._client, self._store, key, sample=sample, conflicts=conflicts)

    def plan(self, observed: Observed, now: datetime, config: Config) -> Plan:
        return self._plan(observed, now, config)

    def subject(self, observed: Observed) -> Obj:
        return observed.job

    def want(self, key: Key, plan: Plan) -> None:
        self._polls.want(key, plan.probe)

    def forget(self, key: Key) -> None:
        self._polls.forget(key)


class ModelDeployments:
    timers = Lane.CHANGE
    """The end of a pause, of a drain, of somebody's patience."""

    def __init__(
        self, client: Client, store: Store, plan: DeploymentPlanFn, scrapes: Scrapes, *, gateway_api: bool
    ) -> None:
        self._client, self._store, self._plan, self._scrapes = client, store, plan, scrapes
        self._gateway_api = gateway_api

    def look(self, key: Key, conflicts: Conflicts) -> DeploymentObserved | None:
        return observe_deployment(self._store, key, engines=self._scrapes.engines(key), conflicts=conflicts)

    async def look_freshly(self, key: Key, conflicts: Conflicts) -> DeploymentObserved | None:
        return await observe_deployment_fresh(
            self._client,
            self._store,
            key,
            engines=self._scrapes.engines(key),
            conflicts=conflicts,
            gateway_api=self._gateway_api,
        )

    def plan(self, observed: DeploymentObserved, now: datetime, config: Config) -> Plan:
        return self._plan(observed, now, config)

    def subject(self, observed: DeploymentObserved) -> Obj:
        return observed.deployment

    def want(self, key: Key, plan: Plan) -> None:
        self._scrapes.want(key, plan.scrape)

    def forget(self, key: Key) -> None:
        self._scrapes.forget(key)
