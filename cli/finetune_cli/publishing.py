"""Publishing on this machine: evaluate, merge, ask vLLM where it is installed, gate, upload."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass

from finetune_api.duration import parse_duration
from finetune_api.exitcodes import ExitCode, reason
from finetune_api.reports import PublishReport
from finetune_api.runconfig import PUBLISH_DIR, RunConfig
from finetune_cli.place import Place
from finetune_cli.pod import Pod
from finetune_cli.say import Voice
from finetune_cli.stops import Stops
from finetune_trainer.publish.main import Part

TICK_SECONDS = 0.2
ENGINE = "vllm"
HERE = "vllm on this machine"
"""What stands for the serving image in the manifest of the published model."""


@dataclass(frozen=True)
class Published:
    code: int
    message: str
    report: PublishReport | None


def publish(place: Place, config: RunConfig, voice: Voice, stops: Stops) -> Published:
    """`config` has the run key."""
    check = config.spec.publish.served_check
    wanted = check.enabled is not False and config.spec.output.merge
    engine = importlib.util.find_spec(ENGINE) is not None
    if wanted and not engine:
        said = "publish.servedCheck.enabled asks for it, but " if check.enabled else ""
        voice.stage("publish", f"without the served check: {said}vLLM is not installed here", "yellow")
    told = config.model_copy(update={"attempt": 0, "serving_image": HERE if wanted and engine else None})
    if told.serving_image is None:
        return _part(place, told, Part.ALL, voice, stops)
    prepared = _part(place, told, Part.PREPARE, voice, stops)
    if prepared.code != ExitCode.DONE or (prepared.report is not None and prepared.report.output is not None):
        return prepared
    asked = _ask(place, told, voice, stops)
    return asked or _part(place, told, Part.FINISH, voice, stops)


def _part(place: Place, config: RunConfig, part: Part, voice: Voice, stops: Stops) -> Published:
    scratch = place.scratch(config.run_key or "")
    log = place.work / "logs" / f"{config.run_key}-publish.log"
    arguments = ["-m", "finetune_trainer", "publish", "--part", part.value]
    pod = Pod(arguments, config, scratch, log, place.environment(scratch))
    code = _wait(pod, "evaluating, merging, checking" if part is not Part.FINISH else "gating, uploading", voice, stops)
    report = pod.report(PublishReport)
    if stops.count:
        return Published(ExitCode.STOPPED_UNSAVED, "stopped while publishing; the trained checkpoint stands", None)
    if report is None:
        return Published(code, f"publishing ended with {reason(code)} and no last words; the log: {log}", None)
    return Published(
        code, report.message if code in (0, ExitCode.GATE_FAILED) else f"{report.message}\nthe log: {log}", report
    )


def _ask(place: Place, config: RunConfig, voice: Voice, stops: Stops) -> Published | None:
    """None when the engine has answered, be it with a failure: that is for the gate to judge."""
    scratch = place.scratch(config.run_key or "")
    log = place.work / "logs" / f"{config.run_key}-served-check.log"
    check = config.spec.publish.served_check
    environment = place.environment(scratch) | {item.name: item.value for item in check.env}
    script = str(scratch / PUBLISH_DIR / "served_check.py")
    timeout = str(parse_duration(check.timeout))
    pod = Pod([script, "--timeout", timeout, "--", *check.args], config, scratch, log, environment)
    code = _wait(pod, "asking vLLM", voice, stops)
    if stops.count:
        return Published(ExitCode.STOPPED_UNSAVED, "stopped while publishing; the trained checkpoint stands", None)
    if code != ExitCode.DONE:
        report = pod.report(PublishReport)
        said = report.message if report else reason(code)
        return Published(code, f"served check: {said}\nthe log: {log}", report)
    return None


def _wait(pod: Pod, doing: str, voice: Voice, stops: Stops) -> int:
    try:
        if voice.console.is_terminal:
            with voice.console.status(f"[bold cyan]   publish[/]  {doing}"):
                return _ended(pod, stops)
        voice.stage("publish", doing)
        return _ended(pod, stops)
    finally:
        if pod.process.poll() is None:
            pod.kill()


def _ended(pod: Pod, stops: Stops) -> int:
    while pod.process.poll() is None and not stops.count:
        time.sleep(TICK_SECONDS)
    if pod.process.poll() is None:
        pod.kill()
    code = pod.process.returncode
    return code if code >= 0 else 128 - code
