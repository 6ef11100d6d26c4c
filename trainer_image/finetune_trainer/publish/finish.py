"""The last part of publishing: the gate over the final artefact, then the upload, manifest last. No torch.

The gate goes from cheap to dear: the metrics first, then what the serving image answered. All of it is in gate.json.
"""

from __future__ import annotations

import json

from finetune_api.allowed import MERGED, METHODS, SERVED_RANKS, not_servable, published_lora, served_rank
from finetune_api.exitcodes import ExitCode
from finetune_api.layout import GATE
from finetune_api.method import Method
from finetune_api.publishing import OnGateFailure
from finetune_api.reports import PublishedModel, PublishReport
from finetune_api.served import ServedResult
from finetune_artifacts import Store
from finetune_trainer.common import log
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.stores import open_for, open_run
from finetune_trainer.model.published import read_manifest
from finetune_trainer.publish.cache import write_answer
from finetune_trainer.publish.gate import evaluate_gate, in_words, passed
from finetune_trainer.publish.kind import ADAPTER, SCORER, WRITES_NOTHING
from finetune_trainer.publish.served import gate_line, judge, read_reference, take_answer
from finetune_trainer.publish.session import Session
from finetune_trainer.publish.upload import refuse_taken, upload
from finetune_trainer.publish.volume import Prepared


def finish(session: Session, prepared: Prepared | None = None) -> PublishReport:
    """`prepared` is read from the shared volume when another container made it. Raises RunError, ArtifactError."""
    config = session.config
    session.enter("Claiming")
    output = open_for(config, config.output_uri, config.output_secret)
    already = refuse_taken(output, config)
    if already is not None:
        return already_published(session, output, already)
    prepared = prepared or session.volume.take()
    session.metrics = prepared.metrics
    run = open_run(config)
    session.enter("Gate")
    session.gate = evaluate_gate(config.spec.evaluation.gate, session.metrics)
    served, unchecked = _served(session, run, prepared)
    if served is not None:
        session.gate.append(gate_line(served))
    if not gate_passes(session, run):
        return blocked(session)
    session.enter("Uploading")
    return _upload(session, output, prepared, served, unchecked)


def gate_passes(session: Session, run: Store) -> bool:
    """Also with a failed gate, when it only warns. Leaves gate.json in the run directory."""
    evaluation = session.config.spec.evaluation
    good = passed(session.gate)
    document = {
        "format": 1,
        "passed": good,
        "onGateFailure": evaluation.on_gate_failure.value,
        "results": [result.to_wire() for result in session.gate],
        "at": timestamp(),
    }
    run.put_bytes(GATE, json.dumps(document).encode())
    for result in session.gate:
        log.event("gate", passed=result.passed, result=result.message)
    return good or evaluation.on_gate_failure is OnGateFailure.WARN


def blocked(session: Session) -> PublishReport:
    message = f"gate failed: {in_words(session.gate)}"
    log.error(message, exit_code=int(ExitCode.GATE_FAILED))
    return session.report(ExitCode.GATE_FAILED, "GateFailed", message, gate_passed=False)


def already_published(session: Session, output: Store, model: PublishedModel) -> PublishReport:
    manifest = read_manifest(output)
    session.metrics, session.gate = (manifest.metrics, manifest.gate) if manifest else ({}, [])
    message = f"this run is already published at {model.uri}"
    log.event(message, digest=model.digest)
    good = manifest.gate_passed if manifest else None
    return session.report(ExitCode.DONE, "AlreadyPublished", message, gate_passed=good, output=model)


def _served(session: Session, run: Store, prepared: Prepared) -> tuple[ServedResult | None, str | None]:
    """(the verdict, why there is none). Both None where nobody asked for one."""
    image, check = session.config.serving_image, session.config.spec.publish.served_check
    if prepared.kind in WRITES_NOTHING:
        model = "a reward model" if prepared.kind == SCORER else "a classifier"
        return None, f"{model} writes nothing that a serving image could be asked for"
    if prepared.kind == ADAPTER:
        return None, adapter_words(session.config.spec.method)
    if prepared.served_key is None or image is None:
        return None, None
    answer = take_answer(session.volume.answer)
    if answer.skipped is not None:
        advice = "set spec.publish.servedCheck.resources.gpus, or spec.publish.servedCheck.image to one for this node"
        if check.enabled:
            raise RunError(ExitCode.INVALID_SPEC, f"served check: {answer.skipped}; {advice}", reason="NoDevice")
        log.warning("no served check", cause=answer.skipped, advice=advice)
        return None, answer.skipped
    if answer.error is None:
        # Kept before it is judged: with another limit the same answer is judged anew.
        write_answer(run, prepared.served_key, answer.to_wire(), timestamp())
    return judge(read_reference(session.volume.model), answer, image=image, limit=check.max_logprob_delta), None


def adapter_words(method: Method) -> str:
    """Why an adapter was not asked in its engine, and whether vLLM can load it."""
    why = not_servable(method)
    if why is not None:
        advice = "; set output.merge: true to serve it" if MERGED in METHODS[method.type].published else ""
        return f"an adapter is not served by itself, and {why}{advice}"
    rank = next(r for r in SERVED_RANKS if r >= served_rank(published_lora(method)))
    return (
        "an adapter is not served by itself (output.merge: false); vLLM loads it with --enable-lora "
        f"--max-lora-rank={rank}"
    )


def _upload(
    session: Session, output: Store, prepared: Prepared, served: ServedResult | None, unchecked: str | None
) -> PublishReport:
    good = passed(session.gate)
    model = upload(
        output,
        session.volume.model,
        config=session.config,
        kind=prepared.kind,
        checkpoint=prepared.checkpoint,
        metrics=session.metrics,
        gate=session.gate,
        gate_passed=good,
        served=served,
    )
    session.enter("Done")
    words = in_words(session.gate) if session.gate else "no gate was set"
    if unchecked is not None:
        words += f"; no served check: {unchecked}"
    warning = "" if good else " (published all the same: onGateFailure is Warn)"
    step = prepared.checkpoint.step
    message = f"{prepared.kind.lower()} model of step {step} published at {model.uri}; {words}{warning}"
    log.event(message, digest=model.digest)
    return session.report(ExitCode.DONE, "Published", message, gate_passed=good, output=model)
