"""The attempts of a run on this machine, one after the other, until one completes or nothing more may be tried."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from finetune_api import layout
from finetune_api.duration import format_seconds
from finetune_api.exitcodes import ExitCode, reason
from finetune_api.reports import LastWords, PreflightReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import ArtifactError
from finetune_cli.again import Ended, GiveUp, decide
from finetune_cli.place import Place
from finetune_cli.plot import Points
from finetune_cli.pod import Pod
from finetune_cli.say import Voice
from finetune_cli.screen import Screen
from finetune_cli.stops import Stops
from finetune_trainer.common.stores import open_run

TICK_SECONDS = 0.2
STOPPING = "stopping at an agreed step; its checkpoint is being committed. Ctrl-C once more: stop at once"


@dataclass
class Trained:
    code: int
    message: str
    attempts: int = 0
    words: LastWords | None = None
    points: Points = field(default_factory=list)


def train(place: Place, config: RunConfig, found: PreflightReport, voice: Voice, stops: Stops) -> Trained:
    """`config` has the run key. The exit code is the trainer's."""
    before = last_words(config, found.highest_fence)
    if before is not None and before.exit_code == ExitCode.DONE:
        return Trained(ExitCode.DONE, f"training was complete before ({before.step:,} steps)", words=before)
    trained = Trained(ExitCode.FAILED, "")
    required = before is not None and before.checkpoint is not None
    ended: list[Ended] = []
    micro = config.micro_batch_size
    while True:
        trained.attempts += 1
        attempt = found.highest_fence + trained.attempts
        told = config.model_copy(update={"attempt": attempt, "micro_batch_size": micro, "require_checkpoint": required})
        pod, code = _attempt(place, told, voice, stops, trained)
        words = pod.report(LastWords)
        trained.words, trained.code = words, code
        trained.message = words.message if words else f"the trainer ended with {reason(code)}; see {pod.log}"
        if code == ExitCode.DONE:
            return trained
        if stops.count:
            trained.code, trained.message = _stopped(code, stops, words)
            return trained
        required = required or (words is not None and words.checkpoint is not None)
        ended.append(Ended(code, words))
        following = decide(config.spec, ended, micro)
        if isinstance(following, GiveUp):
            trained.code, trained.message = following.code, f"{following.why}\nthe log: {pod.log}"
            return trained
        micro = following.micro_batch_size
        voice.stage("failed", f"attempt {attempt}: {reason(code)} (exit {code}): {following.why}", "yellow")
        if not _wait(following.delay, voice, stops):
            trained.code, trained.message = ExitCode.STOPPED_UNSAVED, "stopped between two attempts"
            return trained


def last_words(config: RunConfig, attempt: int) -> LastWords | None:
    """What the run directory keeps of an older attempt."""
    try:
        return LastWords.model_validate_json(open_run(config).get_bytes(layout.exit_path(attempt, 0)))
    except (ArtifactError, ValueError):
        return None


def _attempt(place: Place, config: RunConfig, voice: Voice, stops: Stops, trained: Trained) -> tuple[Pod, int]:
    scratch = place.scratch(config.run_key or "")
    log = place.work / "logs" / f"{config.run_key}-attempt-{config.attempt}.log"
    pod = Pod(["-m", "finetune_trainer", "train"], config, scratch, log, place.environment(scratch))
    older = trained.points
    asked = 0
    try:
        with Screen(voice) as screen:
            while pod.process.poll() is None:
                if stops.count != asked:
                    asked = stops.count
                    if asked > 1:
                        pod.kill()
                        break
                    pod.stop()
                    screen.note = STOPPING
                    if not voice.console.is_terminal:
                        voice.stage("stopping", STOPPING, "yellow")
                points = joined(older, pod.losses()) if screen.wants_points() else None
                screen.show(pod.progress(), points)
                time.sleep(TICK_SECONDS)
    finally:
        if pod.process.poll() is None:
            pod.kill()
    trained.points = joined(older, pod.losses())
    code = pod.process.returncode
    return pod, code if code >= 0 else 128 - code


def joined(older: Points, newer: Points) -> Points:
    """A later attempt repeats the steps that an earlier one had not saved."""
    return [point for point in older if not newer or point[0] < newer[0][0]] + newer


def _stopped(code: int, stops: Stops, words: LastWords | None) -> tuple[int, str]:
    if code == ExitCode.STOPPED and words is not None and words.checkpoint is not None:
        return code, f"stopped at step {words.step:,}; its checkpoint is committed"
    if stops.count > 1:
        return ExitCode.STOPPED_UNSAVED, "stopped at once; the newest committed checkpoint stands"
    return code, words.message if words else "stopped before training had begun"


def _wait(seconds: float, voice: Voice, stops: Stops) -> bool:
    """False when somebody asked for the end meanwhile."""
    if seconds:
        voice.stage("waiting", f"{format_seconds(seconds)} before the next attempt", "yellow")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stops.count:
        time.sleep(TICK_SECONDS)
    return not stops.count
