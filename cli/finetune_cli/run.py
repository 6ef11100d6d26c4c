"""`finetune run`: preflight, attempts, publishing; the run directory is the cluster's, so a second run resumes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from finetune_api.exitcodes import ExitCode, reason
from finetune_api.reports import PublishReport
from finetune_cli import place as places
from finetune_cli.examining import preflight
from finetune_cli.jobs import one_job, refuse_custom
from finetune_cli.plot import curve
from finetune_cli.publishing import publish
from finetune_cli.say import Voice
from finetune_cli.stops import Stops
from finetune_cli.training import Trained, train
from finetune_trainer.common.errors import RunError


@dataclass(frozen=True)
class Options:
    files: list[str]
    given: places.Given
    name: str | None = None
    assignments: tuple[str, ...] = ()
    processes: int | None = None
    publish: bool = True
    command: str = "finetune run"
    """To be repeated to go on."""


def run(options: Options, voice: Voice) -> int:
    """The trainer's exit codes. Raises RunError."""
    manifest, spec = one_job(options.files, options.name, list(options.assignments))
    refuse_custom(spec)
    gpus = places.count_gpus() if spec.resources.gpus_per_node else 0
    devices, processes = places.shape(spec, options.processes, gpus)
    voice.stage("run", f"{manifest.namespace}/{manifest.name} on this machine: {_devices(devices, processes)}")
    if spec.resources.gpus_per_node and not devices:
        voice.stage("warning", "the manifest asks for GPUs and there is none here: it trains on the CPU", "yellow")
    local = places.on_this_machine(spec, devices, processes)
    with places.prepared(manifest, local, options.given) as place, places.locked(place):
        try:
            found = preflight(place.config, voice)
        except KeyboardInterrupt:
            raise RunError(ExitCode.STOPPED_UNSAVED, "stopped in preflight; nothing was begun") from None
        config = place.config.model_copy(
            update={
                "run_key": found.run_key,
                "model_revision": found.model_revision,
                "data_fingerprint": found.data_fingerprint,
                "teacher_revision": found.teacher_revision,
                "pins": found.pins,
            }
        )
        outcome: dict[str, Any] = {"name": manifest.name, "namespace": manifest.namespace, "runKey": found.run_key}
        outcome["runDirectory"] = config.run_uri.removeprefix("file://")
        if found.published is not None:
            message = f"this run is already published at {found.published.uri}; set spec.runId to train it once more"
            return _over(
                voice, outcome | {"output": found.published.to_wire()}, ExitCode.DONE, message, "AlreadyPublished"
            )
        voice.stage("directory", str(outcome["runDirectory"]))
        with Stops() as stops:
            trained = train(place, config, found, voice, stops)
            _picture(voice, trained)
            outcome |= {"attempts": trained.attempts, "step": trained.words.step if trained.words else 0}
            if trained.points:
                outcome |= {"firstLoss": trained.points[0][1], "lastLoss": trained.points[-1][1]}
            if trained.code != ExitCode.DONE or not options.publish:
                if trained.code in (ExitCode.STOPPED, ExitCode.STOPPED_UNSAVED):
                    trained.message += f"\nthe same command goes on from there: {options.command}"
                return _over(voice, outcome, trained.code, trained.message)
            voice.stage("trained", trained.message, "green")
            done = publish(place, config, voice, stops)
        if done.report is not None:
            _measured(voice, done.report)
            outcome |= _wire(done.report)
        message = done.message
        if done.code == ExitCode.DONE:
            shutil.rmtree(place.scratch(found.run_key or ""), ignore_errors=True)
        elif done.code == ExitCode.STOPPED_UNSAVED:
            message += f"\nthe same command publishes it: {options.command}"
        return _over(voice, outcome, done.code, message)


def _devices(gpus: int, processes: int) -> str:
    if gpus:
        return f"{gpus} GPU{'s' if gpus > 1 else ''}"
    return f"CPU, {processes} process{'es' if processes > 1 else ''}"


def _picture(voice: Voice, trained: Trained) -> None:
    width = min(64, voice.console.size.width - 14)
    picture = curve(trained.points, width=width) if width >= 16 else ""
    for line in picture.splitlines():
        voice.line(f"    {line}", "green")


def _measured(voice: Voice, report: PublishReport) -> None:
    for name, value in report.metrics.items():
        base = f"{value.base:.4g} → " if value.base is not None else ""
        voice.stage("metric", f"{name} {base}{value.final:.4g} over {value.samples:,}")
    for gate in report.gate:
        word, style = ("gate", "green") if gate.passed else ("gate", "red")
        voice.stage(word, f"{'passed' if gate.passed else 'failed'}: {gate.message}", style)


def _wire(report: PublishReport) -> dict[str, Any]:
    wire = report.to_wire()
    return {name: wire[name] for name in ("metrics", "gate", "gatePassed", "output") if name in wire}


def _over(voice: Voice, outcome: dict[str, Any], code: int, message: str, why: str | None = None) -> int:
    good = code == ExitCode.DONE
    first, _, rest = message.partition("\n")
    voice.stage(
        "done" if good else "ended",
        first + ("" if good else f" ({reason(code)}, exit {code})"),
        "green" if good else "red",
    )
    for line in rest.splitlines():
        voice.line(f"            {line}")
    voice.document(outcome | {"exitCode": int(code), "reason": why or reason(code), "message": message})
    return int(code)
