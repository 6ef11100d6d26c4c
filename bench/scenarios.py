"""The scenarios: which parts are measured, in which order, against which lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import bursts, events, holding, procfs
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
    hold: bool = False
    """Afterwards: a no-op pass over all and a restart."""
    event_samples: int = 0
    """Afterwards: so many pods deleted, then a node reclaimed."""

    @property
    def patience(self) -> float:
        """Seconds before a burst is given up: far more than the slowest machine that is worth a figure."""
        return 120 + self.jobs / 2

    async def run(self, folder: Path, profile: Path | None) -> Figures:
        figures: Figures = {"load before": procfs.load_average()}
        with Lab(self.jobs, queued=self.queued, folder=folder) as lab:
            async with Plain(lab.api) as plain:
                figures["raw creates/s"] = await bursts.raw_creates(plain)
                await self._against(lab, plain, folder, profile, figures)
        return figures

    async def _against(self, lab: Lab, plain: Plain, folder: Path, profile: Path | None, figures: Figures) -> None:
        with OperatorProcess(lab, folder, profile=profile) as operator:
            figures["idle RSS MiB"] = operator.memory()[0]
            if self.rate:
                figures |= await bursts.reaction(lab, plain, self.jobs, rate=self.rate, patience=self.patience)
            else:
                figures |= await bursts.burst(lab, operator, plain, self.jobs, patience=self.patience)
            if self.hold:
                figures |= await holding.noop(lab, operator, plain, self.jobs)
            if self.event_samples:
                figures |= await events.event_to_status(
                    lab, operator, plain, self.jobs, samples=self.event_samples, rate=5.0
                )
            figures["complaints"] = dict(operator.complaints())
        if self.hold:
            again, more = holding.restart(lab, self.jobs, folder)
            again.__exit__(None, None, None)
            figures |= more


def _table(*scenarios: Scenario) -> dict[str, Scenario]:
    return {scenario.name: scenario for scenario in scenarios}


SCENARIOS = _table(
    Scenario("reaction", "200 jobs, 2 a second", 200, rate=2.0),
    Scenario("burst-1000-queued", "1,000 jobs at once, no trainer pods", 1000, queued=True, hold=True),
    Scenario("burst-1000-pods", "1,000 jobs at once, with pods", 1000, event_samples=150),
    Scenario("burst-10000-queued", "10,000 jobs at once, no trainer pods", 10_000, queued=True, hold=True),
    Scenario("burst-10000-pods", "10,000 jobs at once, with pods", 10_000, event_samples=150),
)
QUICK = _table(
    Scenario("quick-queued", "100 jobs at once, no trainer pods", 100, queued=True, hold=True),
    Scenario("quick-pods", "100 jobs at once, with pods", 100, event_samples=10),
)
