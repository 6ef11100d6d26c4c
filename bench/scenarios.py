"""The scenarios: which parts are measured, in which order, against which lab."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from bench import bursts, events, holding, procfs, rollouts, seed, workload
from bench.bursts import Figures
from bench.client import Plain
from bench.lab import Lab
from bench.operator_process import OperatorProcess


@dataclass(frozen=True)
class Scenario:
    name: str
    words: str
    jobs: int
    queued: bool = False
    """The attempts' Jobs stay suspended, so there are no trainer pods."""
    rate: float = 0.0
    """FineTuneJobs a second; 0: all at once."""
    active: int | None = None
    """Not None: the jobs are there before the operator starts (`seed`), so many of them with a running pod."""
    serving: bool = False
    """ModelDeployments in place of FineTuneJobs: served, then rolled out anew."""
    hold: bool = False
    """Afterwards: a no-op pass over all and a restart."""
    event_samples: int = 0
    """Afterwards: so many pods deleted, then a node reclaimed."""

    @property
    def patience(self) -> float:
        """Seconds before a burst is given up: far more than the slowest machine that is worth a figure."""
        return 120 + self.jobs * (3 if self.serving else 0.5)

    async def run(self, folder: Path, profile: Path | None = None, server_profile: Path | None = None) -> Figures:
        figures: Figures = {"load before": procfs.load_average()}
        seeded = self.active is not None
        with Lab(self.jobs, queued=self.queued, folder=folder, seeded=seeded, serving=self.serving) as lab:
            async with Plain(lab.api) as plain:
                figures["raw creates/s"] = await bursts.raw_creates(plain)
                if self.active is not None:
                    await self._held(lab, plain, OperatorProcess(lab, folder, profile=profile), figures, self.active)
                    return figures
                sampling = asyncio.create_task(_sample(plain, server_profile)) if server_profile else None
                await self._from_nothing(lab, plain, OperatorProcess(lab, folder, profile=profile), figures)
                if sampling is not None:
                    await sampling
                if self.hold:
                    figures |= holding.restart(lab, OperatorProcess(lab, folder), self.jobs)
        return figures

    async def _from_nothing(self, lab: Lab, plain: Plain, operator: OperatorProcess, figures: Figures) -> None:
        with operator:
            figures["idle RSS MiB"] = operator.memory()[0]
            if self.serving:
                figures |= await rollouts.rollouts(lab, operator, plain, self.jobs, patience=self.patience)
            elif self.rate:
                figures |= await bursts.reaction(
                    lab, operator, plain, self.jobs, rate=self.rate, patience=self.patience
                )
            else:
                figures |= await bursts.burst(lab, operator, plain, self.jobs, patience=self.patience)
            if self.hold:
                figures |= await holding.noop(lab, operator, plain, self.jobs)
            if self.event_samples:
                figures |= await self._events(lab, operator, plain)
            figures["complaints"] = dict(operator.complaints())

    async def _held(self, lab: Lab, plain: Plain, operator: OperatorProcess, figures: Figures, active: int) -> None:
        await seed.Seeder(plain, lab.plan_config()).fill(range(self.jobs), active=active)
        figures["jobs"], figures["namespaces"] = self.jobs, len(workload.namespaces(self.jobs))
        lab.audit.read()
        first, began = len(lab.audit.calls), time.perf_counter()
        with operator:
            figures |= holding.started(lab, operator, self.jobs, began=began, first=first, active=active)
            figures |= await holding.noop(lab, operator, plain, self.jobs, active)
            figures |= await self._events(lab, operator, plain)
            figures["complaints"] = dict(operator.complaints())

    async def _events(self, lab: Lab, operator: OperatorProcess, plain: Plain) -> Figures:
        active = self.jobs if self.active is None else self.active
        return await events.event_to_status(lab, operator, plain, active, samples=self.event_samples, rate=5.0)


async def _sample(plain: Plain, target: Path, seconds: int = 20) -> None:
    """The API server's own CPU profile of the first seconds; read it with `go tool pprof -top FILE`."""
    async with plain.session.get(f"{plain.url}/debug/pprof/profile?seconds={seconds}") as answer:
        answer.raise_for_status()
        await asyncio.to_thread(target.write_bytes, await answer.read())


def _table(*scenarios: Scenario) -> dict[str, Scenario]:
    return {scenario.name: scenario for scenario in scenarios}


SCENARIOS = _table(
    Scenario("reaction", "120 jobs, 2 a second", 120, rate=2.0),
    Scenario("burst-1000-queued", "1,000 jobs at once, no trainer pods", 1000, queued=True, hold=True),
    Scenario("burst-1000-pods", "1,000 jobs at once, with pods", 1000, event_samples=150),
    Scenario("held-10000", "10,000 jobs there already, 1,000 of them active", 10_000, active=1000, event_samples=150),
    Scenario("rollouts-1000", "1,000 ModelDeployments, each served, then rolled out anew", 1000, serving=True),
    Scenario("burst-10000-queued", "10,000 jobs at once, no trainer pods", 10_000, queued=True, hold=True),
    Scenario("burst-10000-pods", "10,000 jobs at once, with pods", 10_000),
)
QUICK = _table(
    Scenario("quick-queued", "100 jobs at once, no trainer pods", 100, queued=True, hold=True),
    Scenario("quick-pods", "50 jobs at once, with pods", 50, event_samples=10),
    Scenario("quick-rollouts", "20 ModelDeployments, each served, then rolled out anew", 20, serving=True),
    Scenario("quick-held", "100 jobs there already, 50 of them active", 100, active=50, event_samples=10),
)
