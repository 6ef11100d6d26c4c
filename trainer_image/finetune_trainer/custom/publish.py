"""Publishes what a custom script left: gate, upload, manifest last. No torch, no GPU: the model is taken as it is.

Metrics are what the script wrote to `metrics.json` of its output: {"loss": 1.2} or {"loss": {"final": 1.2, "base": 2.0,
"samples": 100}}; a gate on anything else fails. Pickled files (training_args.bin, optimizer.pt) are left out: whoever
loads one runs its code.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune_api.exitcodes import ExitCode
from finetune_api.layout import MANIFEST
from finetune_api.manifests import CheckpointManifest, MetricValue
from finetune_api.reports import PublishReport
from finetune_api.runconfig import RunConfig
from finetune_artifacts import DigestMismatch, FileDigest, Store
from finetune_trainer.checkpoint.find import read_manifest
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import write_termination
from finetune_trainer.common.places import Places
from finetune_trainer.common.stores import open_for, open_run
from finetune_trainer.custom.companion import OUTPUTS
from finetune_trainer.publish.finish import already_published, blocked, gate_passes
from finetune_trainer.publish.gate import evaluate_gate, in_words, passed
from finetune_trainer.publish.kind import ADAPTER, FULL
from finetune_trainer.publish.session import Session
from finetune_trainer.publish.upload import refuse_taken, upload

METRICS = "metrics.json"
PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
_OUTPUT = re.compile(r"^a([0-9]+)$")


def publish_custom(config: RunConfig) -> int:
    """The exit code: 0, 64, 70, 73, 74 or 76."""
    session = Session(config, Places.here())
    try:
        report = _publish(session)
    except Exception as error:
        report = session.failed(error)
        log.error(report.message, reason=report.reason, exit_code=report.exit_code, stage=report.stage)
    write_termination(report)
    return report.exit_code


def _publish(session: Session) -> PublishReport:
    config = session.config
    session.enter("Claiming")
    output = open_for(config, config.output_uri, config.output_secret)
    already = refuse_taken(output, config)
    if already is not None:
        return already_published(session, output, already)
    session.enter("Fetching")
    run = open_run(config)
    folder = session.volume.model
    manifest = take_output(run.child(OUTPUTS), folder)
    left_out = drop_pickled(folder)
    kind = kind_of(folder)
    session.enter("Gate")
    session.metrics = read_metrics(folder)
    session.gate = evaluate_gate(config.spec.evaluation.gate, session.metrics)
    if not gate_passes(session, run):
        return blocked(session)
    session.enter("Uploading")
    good = passed(session.gate)
    model = upload(
        output,
        folder,
        config=config,
        kind=kind,
        checkpoint=manifest,
        metrics=session.metrics,
        gate=session.gate,
        gate_passed=good,
    )
    session.enter("Done")
    words = in_words(session.gate) if session.gate else "no gate was set"
    if left_out:
        words += f"; left out, because loading a pickle runs its code: {', '.join(left_out)}"
    message = f"what the script left at step {manifest.step} is published at {model.uri} ({kind}); {words}"
    log.event(message, digest=model.digest)
    return session.report(ExitCode.DONE, "Published", message, gate_passed=good, output=model)


def take_output(outputs: Store, folder: Path) -> CheckpointManifest:
    """Downloads the newest committed output, digests verified. Raises RunError (73) when it is gone or damaged."""
    names = sorted((int(m[1]) for n in outputs.list_dirs() if (m := _OUTPUT.match(n))), reverse=True)
    for attempt in names:
        name = f"a{attempt}"
        try:
            manifest = read_manifest(outputs, name)
            if manifest is None:
                continue
            files = [FileDigest(f.path, f.size, f.digest) for f in manifest.files]
            outputs.download_tree(name, folder, files=files)
        except (ValueError, DigestMismatch) as error:
            raise RunError(ExitCode.NO_CHECKPOINT, f"the script's output was damaged in storage: {error}") from None
        return manifest
    raise RunError(ExitCode.NO_CHECKPOINT, f"the script's output is not at {outputs.uri} any more")


def drop_pickled(folder: Path) -> list[str]:
    """Names of what was removed."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in PICKLED)
    for path in found:
        path.unlink()
    return [path.relative_to(folder).as_posix() for path in found]


def kind_of(folder: Path) -> str:
    """Adapter or Full. Raises RunError (64) when it is no model that anything could load."""
    (folder / MANIFEST).unlink(missing_ok=True)
    if not any(folder.glob("*.safetensors")):
        raise _unusable("no *.safetensors file is in it")
    if (folder / "adapter_config.json").is_file():
        return ADAPTER
    if (folder / "config.json").is_file():
        return FULL
    raise _unusable("neither config.json nor adapter_config.json is in it")


def _unusable(why: str) -> RunError:
    return RunError(
        ExitCode.INVALID_SPEC,
        f"the script's output is not a Hugging Face model folder: {why}; save it with save_pretrained or "
        "trainer.save_model to $FINETUNE_OUTPUT_DIR",
        reason="InvalidOutput",
    )


def read_metrics(folder: Path) -> dict[str, MetricValue]:
    """Of `metrics.json`; empty without one. Raises RunError (64) in words."""
    path = folder / METRICS
    if not path.is_file():
        return {}
    try:
        document: Any = json.loads(path.read_text())
        if not isinstance(document, dict):
            raise ValueError("expected an object")
        return {str(name): _metric(value) for name, value in document.items()}
    except (ValueError, ValidationError) as error:
        raise RunError(
            ExitCode.INVALID_SPEC,
            f'the script\'s {METRICS} cannot be read ({error!s:.300}); write {{"loss": 1.2}} or '
            '{"loss": {"final": 1.2, "base": 2.0, "samples": 100}}',
            reason="InvalidMetrics",
        ) from None


def _metric(value: Any) -> MetricValue:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return MetricValue(final=float(value), samples=0)
    return MetricValue.model_validate({"samples": 0} | value if isinstance(value, dict) else value)
