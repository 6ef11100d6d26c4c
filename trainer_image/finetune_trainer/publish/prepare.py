"""The first part of publishing: from the last checkpoint to the folder that would be uploaded, measured and checked.

    find checkpoint → cached metrics fail the gate? end → fetch base and data → build → export → check → evaluate → gate

A cached evaluation that fails the gate ends it before anything is built. What the metrics already refuse is never
loaded in the serving image.
"""

from __future__ import annotations

from pathlib import Path

from finetune_api.exitcodes import ExitCode
from finetune_api.manifests import CheckpointManifest
from finetune_api.publishing import PublishedCheckpoint
from finetune_api.reports import PublishReport
from finetune_artifacts import Store
from finetune_trainer.checkpoint.fences import list_fences
from finetune_trainer.checkpoint.find import by_held_out_loss, committed, first_valid, newest_valid
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.files import write_json
from finetune_trainer.common.models import fetch_model
from finetune_trainer.common.stores import open_checkpoints, open_for, open_run
from finetune_trainer.publish.cache import artefact_key, cache_key, read_answer, read_metrics
from finetune_trainer.publish.finish import already_published, blocked, gate_passes
from finetune_trainer.publish.gate import evaluate_gate
from finetune_trainer.publish.kind import ADAPTER, WRITES_NOTHING, kind_of
from finetune_trainer.publish.session import Session
from finetune_trainer.publish.upload import refuse_taken
from finetune_trainer.publish.volume import Prepared


def prepare(session: Session) -> Prepared | PublishReport:
    """A report when publishing ends here, well or badly. Raises RunError, ArtifactError."""
    config, spec = session.config, session.config.spec
    kind = kind_of(spec)
    session.volume.clear()
    if config.serving_image is not None:
        # Also where publishing ends here: the next container is started all the same, and finds nothing to do.
        session.volume.leave_scripts()
    session.enter("Claiming")
    output = open_for(config, config.output_uri, config.output_secret)
    already = refuse_taken(output, config)
    if already is not None:
        return already_published(session, output, already)
    run = open_run(config)
    session.enter("Fetching")
    checkpoint, checkpoint_folder = _checkpoint(session)
    key = cache_key(spec, checkpoint.trainable_digest, kind)
    cached = read_metrics(run, key)
    if cached is not None:
        log.event("evaluation taken from an earlier try", key=key)
        session.metrics = cached
        if not _good_so_far(session, run):
            return blocked(session)
    base = fetch_model(config, session.places.model, _ignore)
    from finetune_trainer.publish.build import build

    build(session, run, kind, base, checkpoint_folder, key, evaluate=cached is None)
    if cached is None and not _good_so_far(session, run):
        return blocked(session)
    return Prepared(
        kind=kind, checkpoint=checkpoint, metrics=session.metrics, served_key=_served_check(session, run, kind)
    )


def _good_so_far(session: Session, run: Store) -> bool:
    """Says whether the metrics let it go on; leaves gate.json in the run directory."""
    session.enter("Gate")
    session.gate = evaluate_gate(session.config.spec.evaluation.gate, session.metrics)
    return gate_passes(session, run)


def _served_check(session: Session, run: Store, kind: str) -> str | None:
    """Under which key the engine's answer is kept; leaves the answer if an earlier try has it."""
    image = session.config.serving_image
    if image is None or kind in (ADAPTER, *WRITES_NOTHING):
        return None
    key = artefact_key(session.volume.model, image, session.config.spec.publish.served_check)
    answer = read_answer(run, key)
    if answer is not None:
        log.event("the serving image's answer was taken from an earlier try", key=key)
        write_json(session.volume.answer, answer)
    return key


def _checkpoint(session: Session) -> tuple[CheckpointManifest, Path]:
    run = open_run(session.config)
    found = newest_valid(open_checkpoints(session.config), list_fences(run), session.places.resume)
    where = session.config.checkpoints_uri
    if found is None:
        raise RunError(ExitCode.NO_CHECKPOINT, f"no valid checkpoint at {where}; there is nothing to publish")
    manifest = found.manifest
    if manifest.step < manifest.total_steps:
        raise RunError(
            ExitCode.NO_CHECKPOINT,
            f"the newest valid checkpoint at {where} is of step {manifest.step}, training ends at step "
            f"{manifest.total_steps}: the final checkpoint is missing or damaged",
        )
    if session.config.spec.output.checkpoint is PublishedCheckpoint.BEST:
        manifest, folder = _best(session)
    elif wanted := session.config.spec.output.average:
        manifest, folder = _average(session, wanted.last_k)
    else:
        folder = found.folder
    log.event("checkpoint found", step=manifest.step, attempt=manifest.attempt, digest=manifest.trainable_digest)
    return manifest, folder


def _best(session: Session) -> tuple[CheckpointManifest, Path]:
    """Of the lowest held-out loss in training; training has ended."""
    run, checkpoints = open_run(session.config), open_checkpoints(session.config)
    fences = list_fences(run)
    order = by_held_out_loss(checkpoints, committed(checkpoints, fences))
    found = first_valid(checkpoints, order, fences, session.places.scratch / "best")
    if found is None:
        raise RunError(
            ExitCode.NO_CHECKPOINT,
            f"spec.output.checkpoint is Best, and no valid checkpoint at {session.config.checkpoints_uri} has a "
            "held-out loss; set output.checkpoint: Last to publish the last one",
        )
    log.event("the best checkpoint", step=found.manifest.step, eval_loss=found.manifest.eval_loss)
    return found.manifest, found.folder


def _average(session: Session, count: int) -> tuple[CheckpointManifest, Path]:
    from finetune_trainer.publish.average import average, last_valid  # imports torch

    checkpoints, fences = open_checkpoints(session.config), list_fences(open_run(session.config))
    scratch = session.places.scratch
    found = last_valid(checkpoints, fences, scratch / "averaging", count=count)
    manifest, folder = average(found, scratch / "average")
    log.event("checkpoints averaged", steps=manifest.averaged_steps)
    return manifest, folder


def _ignore(_bytes: int) -> None:
    """Nobody judges hangs of a publish pod by its downloads; the kubelet's deadline does."""
