"""What is known of the engines of one ModelDeployment, look by look: sums per revision, and each pod's health.

The sums of a window begin with the look after the window was named: what an engine counted before is only where the
differences start from. They live here and nowhere else; an operator that is started anew begins the window anew.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from finetune_operator.core.serving.types import Engines, EngineView, Scrape, Target
from finetune_operator.kube.engine_client import EngineFailed, Mark
from finetune_operator.kube.engine_metrics import EngineSample
from finetune_operator.kube.engine_sums import Change, Owed, Sums, change, take_out


@dataclass
class _Pod:
    revision: str
    last: EngineSample | None = None
    last_at: datetime | None = None
    moved: bool = False
    """Whether something that others asked for came out of it between the two newest looks."""
    failed: int = 0
    busy_since: datetime | None = None
    error: str | None = None
    owed: Owed = field(default_factory=Owed)

    def view(self) -> EngineView:
        return EngineView(
            revision=self.revision,
            failed_scrapes=self.failed,
            running=self.last.running if self.last is not None else 0,
            waiting=self.last.waiting if self.last is not None else 0,
            busy_since=self.busy_since,
            synthetic_error=self.error,
            scraped_at=self.last_at,
        )


class EngineWatch:
    def __init__(self, scrape: Scrape, now: datetime) -> None:
        self.scrape = scrape
        self._since = now
        self._pods: dict[str, _Pod] = {}
        self._away: dict[str, _Pod] = {}
        """Not looked at now (not ready, for a moment); where their differences start from must not be lost."""
        self._totals: defaultdict[str, Sums] = defaultdict(Sums)
        self._step_totals: defaultdict[str, Sums] = defaultdict(Sums)
        self._looks = 0
        self._window_begun = self._step_begun = False

    def follow(self, scrape: Scrape, now: datetime) -> bool:
        """Takes in what the newest plan asks for; whether sums begin anew."""
        old, self.scrape = self.scrape, scrape
        wanted = {target.uid for target in scrape.targets}
        for uid in [uid for uid in self._pods if uid not in wanted]:
            self._away[uid] = self._pods.pop(uid)
        if scrape.window != old.window:
            self._totals.clear()
            self._away.clear()
            self._looks, self._since = 0, now
            self._window_begun = False
        if (scrape.window, scrape.step) != (old.window, old.step):
            self._step_totals.clear()
            self._step_begun = False
            for pod in self._away.values():
                pod.last = None
            return True
        return False

    def seen(self, target: Target, sample: EngineSample, now: datetime) -> None:
        """A look at one engine that succeeded."""
        pod = self._pod(target)
        pod.failed = 0
        if pod.last is not None:
            found = change(pod.last, sample)
            if sample.started != pod.last.started:
                pod.owed = Owed()
            take_out(pod.owed, found)
            self._add(target.revision, found)
            pod.moved = found.moved
            self._judge(pod, sample, now)
        pod.last, pod.last_at = sample, now

    def missed(self, target: Target) -> None:
        """A look at one engine that failed. Before the sums begin, its differences then start from a later look."""
        pod = self._pod(target)
        pod.failed += 1
        if not (self._window_begun and self._step_begun):
            pod.last = None

    def ended(self, now: datetime) -> None:
        """A round of looks is complete."""
        self._looks += 1
        if not self._window_begun:
            self._since = now
        self._window_begun = self._step_begun = True

    def idle(self, target: Target) -> bool:
        """Only a request of our own would tell whether this engine still works."""
        return not self._pod(target).moved

    def answered(self, target: Target, seconds: float) -> None:
        """Our own completion ended well."""
        if (pod := self._pods.get(target.uid)) is not None:
            pod.error = pod.busy_since = None
            pod.owed.answered.append(seconds)

    def well(self, target: Target) -> None:
        """Others' requests show that it works."""
        self._pod(target).error = None

    def unanswered(self, target: Target, error: EngineFailed) -> None:
        if (pod := self._pods.get(target.uid)) is not None:
            pod.error = str(error)
            pod.owed.refused += error.mark is Mark.REFUSED
            pod.owed.given_up += error.mark is Mark.GIVEN_UP

    def engines(self) -> Engines | None:
        """None before the window's first round."""
        if not self._window_begun:
            return None
        return Engines(
            window=self.scrape.window,
            step=self.scrape.step,
            since=self._since,
            totals={revision: sums.totals() for revision, sums in self._totals.items()},
            step_totals={revision: sums.totals() for revision, sums in self._step_totals.items()},
            pods={uid: pod.view() for uid, pod in self._pods.items()},
            looks=self._looks,
        )

    def _pod(self, target: Target) -> _Pod:
        if target.uid not in self._pods:
            back = self._away.pop(target.uid, None)
            pod = self._pods[target.uid] = _Pod(target.revision)
            if back is not None:
                pod.last, pod.last_at, pod.owed = back.last, back.last_at, back.owed
        return self._pods[target.uid]

    def _add(self, revision: str, found: Change) -> None:
        if self._window_begun:
            self._totals[revision].add(found)
        if self._step_begun:
            self._step_totals[revision].add(found)

    def _judge(self, pod: _Pod, sample: EngineSample, now: datetime) -> None:
        before = pod.last
        assert before is not None
        if pod.moved or not (sample.running or sample.waiting):
            pod.busy_since = None
        elif pod.busy_since is None:
            pod.busy_since = pod.last_at if before.running or before.waiting else now
