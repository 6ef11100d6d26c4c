"""The data plane: run directories with fences and checkpoints, and pods that train, preflight and publish.

A gang trains one step per `step_seconds` once all its pods run, commits every `interval` steps, and on the first
SIGTERM or stop request agrees on the current step, commits it and exits 85. What the real trainer promises is taken
for granted here (it has its own tests); what the operator makes of it is under test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fakeapi.controllers import Process, Program

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import (
    CheckpointReport,
    LastWords,
    PreflightReport,
    Progress,
    PublishedModel,
    PublishReport,
    Stage,
)

Obj = dict[str, Any]


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Gang:
    """One attempt: its pods, and what it has reached. All times are the cluster's."""

    run: RunDirectory
    attempt: int
    size: int
    members: dict[int, Process] = field(default_factory=dict)
    started: float | None = None
    start_step: int = 0
    stop_at: float | None = None
    stop_requested: float | None = None
    broken_at: float | None = None
    stop_reasons: list[str] = field(default_factory=list)
    refused_at: float | None = None

    def join(self, index: int, process: Process, now: float) -> None:
        if not self.members and not self.run.claim(self, now):
            self.refused_at = now  # a newer attempt, or one of the same number, has begun before
        self.members[index] = process
        if self.refused_at is not None:
            return
        if len(self.members) == self.size and self.started is None and self.broken_at is None:
            self.started = now
            self.start_step = self.run.resume_step(self.attempt, now)

    def end_of_steps(self, now: float) -> float:
        """Until when steps were taken."""
        return min(t for t in (now, self.stop_at, self.broken_at) if t is not None)

    def step(self, now: float) -> int:
        if self.started is None:
            return 0
        taken = int(max(0.0, self.end_of_steps(now) - self.started) / self.run.step_seconds + 1e-6)
        return min(self.run.total, self.start_step + taken)

    def committed(self, now: float) -> int:
        """The newest step in the run directory by this attempt; a newer fence refuses commits from its moment on."""
        fenced = self.run.fenced_at(self.attempt)
        until = now if fenced is None else min(now, fenced)
        if self.started is None or until < self.started:
            return 0
        step = self.step(until)
        if self.stop_at is not None and until >= self.stop_at and self.broken_at is None:
            return step  # the agreed step
        if step >= self.run.total:
            return step
        done = step // self.run.interval * self.run.interval
        return done if done > self.start_step else 0

    def request_stop(self, now: float, reason: str) -> None:
        """Any number of requests are one."""
        if self.stop_requested is None:
            self.stop_requested = now
            self.stop_reasons.append(reason)
            if self.broken_at is None and self.started is not None:
                self.stop_at = now + self.run.save_seconds

    def break_up(self, now: float) -> None:
        """A member died: nobody takes another step."""
        if self.broken_at is None:
            self.broken_at = now

    def checkpoint(self, now: float) -> CheckpointReport | None:
        step = self.committed(now)
        if step == 0:
            return None
        assert self.started is not None
        at = self.started + (step - self.start_step) * self.run.step_seconds
        if self.stop_at is not None and now >= self.stop_at and self.broken_at is None:
            at = self.stop_at
        return CheckpointReport(
            step=step,
            attempt=self.attempt,
            uri=f"sim://run/step-{step}-a{self.attempt}",
            bytes=1,
            seconds=self.run.save_seconds,
            digest=f"d{step}",
            at=stamp(at),
        )


@dataclass
class RunDirectory:
    total: int = 60
    interval: int = 10
    step_seconds: float = 1.0
    save_seconds: float = 2.0
    fences: dict[int, float] = field(default_factory=dict)
    gangs: dict[int, Gang] = field(default_factory=dict)
    """Those that hold the fence of their attempt."""
    published: bool = False
    preflight_waits: int = 0
    gate_passes: bool = True
    uri: str = "sim://out"
    _by_job: dict[str, Gang] = field(default_factory=dict)

    @property
    def output(self) -> PublishedModel:
        manifest = f"{self.uri}/manifest.json"
        return PublishedModel(uri=self.uri, digest=f"sha256:{self.uri}", manifest=manifest, merged=True)

    def gang(self, job_uid: str, attempt: int, size: int) -> Gang:
        return self._by_job.setdefault(job_uid, Gang(self, attempt, size))

    def claim(self, gang: Gang, now: float) -> bool:
        """Puts the attempt's fence; False if a higher one exists or somebody else put this one."""
        if any(n >= gang.attempt for n in self.fences):
            return False
        self.fences[gang.attempt] = now
        self.gangs[gang.attempt] = gang
        return True

    def fenced_at(self, attempt: int) -> float | None:
        return min((at for n, at in self.fences.items() if n > attempt), default=None)

    def resume_step(self, attempt: int, now: float) -> int:
        return max((g.committed(now) for n, g in self.gangs.items() if n < attempt), default=0)

    def newest(self, now: float) -> int:
        return max((g.committed(now) for g in self.gangs.values()), default=0)


@dataclass(frozen=True)
class Trainer(Program):
    gang: Gang | None = None
    index: int = 0

    @property
    def _gang(self) -> Gang:
        assert self.gang is not None
        return self.gang

    def on_running(self, process: Process, now: float) -> None:
        self._gang.join(self.index, process, now)

    def done_at(self, process: Process) -> float | None:
        gang = self._gang
        times = []
        if gang.refused_at is not None and process.running is not None:
            times.append(process.running + 0.5)
        if gang.broken_at is not None:
            times.append(gang.broken_at + 3.0)  # survivors notice the lost peer
        elif gang.started is not None:
            if gang.stop_at is not None:
                times.append(gang.stop_at)
            times.append(gang.started + (gang.run.total - gang.start_step) * gang.run.step_seconds)
        return min(times, default=None)

    def on_term(self, process: Process, now: float) -> float:
        gang = self._gang
        gang.request_stop(now, "SIGTERM")
        if gang.stop_at is None or gang.broken_at is not None:
            return 0.5
        return max(0.0, gang.stop_at - now)

    def ending(self, process: Process, how: str, now: float) -> tuple[int, str]:
        gang = self._gang
        fenced = gang.run.fenced_at(gang.attempt)
        if gang.refused_at is not None or (fenced is not None and fenced <= now):
            code = ExitCode.STOPPED_UNSAVED
        elif gang.broken_at is not None:
            code = ExitCode.STOPPED_UNSAVED if how == "term" else ExitCode.DEVICE
        elif gang.started is not None and gang.step(now) >= gang.run.total:
            code = ExitCode.DONE
        elif gang.stop_at is not None:
            code = ExitCode.STOPPED
        else:
            code = ExitCode.STOPPED_UNSAVED
        return int(code), self.words(code, now)

    def words(self, code: int, now: float) -> str:
        gang = self._gang
        return json.dumps(
            LastWords(
                attempt=gang.attempt,
                index=self.index,
                exit_code=int(code),
                reason="Sim",
                message=f"ended with {int(code)}",
                step=gang.step(now),
                start_step=gang.start_step,
                running_at=stamp(gang.started) if gang.started is not None else None,
                checkpoint=gang.checkpoint(now),
                stop_requested_at=stamp(gang.stop_requested) if gang.stop_requested is not None else None,
                at=stamp(now),
            ).to_wire()
        )

    def progress(self, now: float) -> Progress:
        gang = self._gang
        return Progress(
            attempt=gang.attempt,
            index=self.index,
            stage=Stage.TRAINING if gang.started is not None else Stage.STARTING,
            step=gang.step(now),
            total_steps=gang.run.total,
            loss=1.0,
            start_step=gang.start_step,
            running_at=stamp(gang.started) if gang.started is not None else None,
            checkpoint=gang.checkpoint(now),
            stop_requested_at=stamp(gang.stop_requested) if gang.stop_requested is not None else None,
            updated_at=stamp(now),
        )


@dataclass(frozen=True)
class Preflight(Program):
    seconds: float | None = 1.0
    run: RunDirectory | None = None

    def ending(self, process: Process, how: str, now: float) -> tuple[int, str]:
        run = self.run
        assert run is not None
        if how == "term":
            return 143, ""
        if run.preflight_waits > 0:
            run.preflight_waits -= 1
            report = PreflightReport(
                exit_code=int(ExitCode.WAITING), reason="WaitingForData", message="not there yet", at=stamp(now)
            )
            return int(ExitCode.WAITING), json.dumps(report.to_wire())
        report = PreflightReport(
            exit_code=0,
            reason="Accepted",
            message="all is well",
            run_key="k1",
            model_revision="r1",
            data_fingerprint="f1",
            sampled_records=10,
            highest_fence=max(run.fences, default=0),
            published=run.output if run.published else None,
            at=stamp(now),
        )
        return 0, json.dumps(report.to_wire())


@dataclass(frozen=True)
class Publisher(Program):
    seconds: float | None = 5.0
    run: RunDirectory | None = None

    def ending(self, process: Process, how: str, now: float) -> tuple[int, str]:
        run = self.run
        assert run is not None
        if how == "term":
            return int(ExitCode.STOPPED_UNSAVED), ""
        if not run.gate_passes:
            report = PublishReport(
                exit_code=int(ExitCode.GATE_FAILED),
                reason="GateFailed",
                message="gate",
                gate_passed=False,
                at=stamp(now),
            )
            return int(ExitCode.GATE_FAILED), json.dumps(report.to_wire())
        run.published = True
        report = PublishReport(
            exit_code=0, reason="Published", message="published", gate_passed=True, output=run.output, at=stamp(now)
        )
        return 0, json.dumps(report.to_wire())
