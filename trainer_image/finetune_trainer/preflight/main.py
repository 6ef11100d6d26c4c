"""Preflight: every mistake that can be found without a GPU, found before one is taken.

It runs in the small image, as the tenant, in seconds, and stops at the first thing that is wrong, in the order in
which a user would fix it: Secrets, storage, model, data, what they add up to. Its termination message is a
`PreflightReport`; what it prints is for people.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from finetune_api.exitcodes import ExitCode
from finetune_api.objective import judge_of, objective_of
from finetune_api.reports import PreflightReport, PublishedModel
from finetune_api.runconfig import RunConfig
from finetune_api.runkey import run_key
from finetune_artifacts import ArtifactError, check_writable
from finetune_trainer.checkpoint.fences import highest_attempt
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.config import secrets_dir
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.lastwords import write_termination
from finetune_trainer.common.stores import open_for
from finetune_trainer.data.sources import fingerprint as data_fingerprint
from finetune_trainer.model.published import OutputTaken, find_published
from finetune_trainer.model.quantity import human_bytes
from finetune_trainer.preflight import consistency, custom, hub
from finetune_trainer.preflight.capacity import check_capacity
from finetune_trainer.preflight.dataset import describe_sample, list_sources, read_sample
from finetune_trainer.preflight.hub import find_pins
from finetune_trainer.preflight.models import Found, describe, look_at, look_at_judge, look_at_teacher, look_at_top_k
from finetune_trainer.preflight.problems import storage_in_words, wrong
from finetune_trainer.preflight.reasons import Reason
from finetune_trainer.preflight.secrets import check_secrets

T = TypeVar("T")


def preflight(config: RunConfig) -> int:
    """The exit code: 0, 64 (spec), 66 (data), 69 (may still arrive), 74 (storage)."""
    print(f"preflight of FineTuneJob {config.namespace}/{config.name}", flush=True)
    try:
        report = examine(config)
    except RunError as error:
        report = PreflightReport(
            exit_code=int(error.code),
            reason=error.reason,
            message=error.message,
            field=getattr(error, "field", None),
            at=timestamp(),
        )
        print(f"FAIL   {error.reason} (exit {int(error.code)})\n       {error.message}", flush=True)
    except ArtifactError as error:
        report = PreflightReport(
            exit_code=int(ExitCode.STORAGE), reason=Reason.STORAGE, message=str(error), at=timestamp()
        )
        print(f"FAIL   {Reason.STORAGE} (exit {int(ExitCode.STORAGE)})\n       {error}", flush=True)
    write_termination(report)
    return report.exit_code


def examine(config: RunConfig) -> PreflightReport:
    """Raises RunError or ArtifactError at the first thing that is wrong."""
    spec = config.spec
    if spec.is_custom:
        return _examine_custom(config)
    consistency.check_gate(spec)
    consistency.check_watch(spec)
    _step("secrets", lambda: check_secrets(config, secrets_dir()), lambda names: ", ".join(names) or "none needed")
    _step("storage", lambda: _writable_places(config), lambda uris: "writable: " + ", ".join(uris))
    pins = _step("hub", lambda: find_pins(config), hub.describe)
    config = config.model_copy(update={"pins": pins})
    base = _step("model", lambda: look_at(config, "spec.model.uri", spec.model), describe)
    model, revision = base.info, base.revision
    settings = objective_of(spec).distill
    taught: Found | None = None
    if settings and (teacher := settings.teacher):
        taught = _step("teacher", lambda: look_at_teacher(config, teacher, base), describe)
    if judge := judge_of(spec):
        field, source = judge
        taught = _step("judge", lambda: look_at_judge(config, f"{field}.uri", source, base), describe)
    answers = None
    if settings and (top_k := settings.top_k):
        answers = _step("top-k", lambda: look_at_top_k(config, top_k, model), str)
    consistency.check_method(spec, model)
    consistency.check_length(spec, model)
    listed = _step(
        "dataset", lambda: list_sources(config), lambda found: f"{sum(len(files) for _, files in found)} files"
    )
    sample = _step(
        "records",
        lambda: read_sample(config, listed),
        describe_sample,
    )
    consistency.check_chat_template(sample, model)
    plan = consistency.check_batches(config, sample)
    found = check_capacity(replace(model, teacher=taught.info) if taught else model, spec, plan)
    estimate = found.estimate
    _say(
        "estimate",
        f"{estimate.trainable_parameters:,} trainable parameters, {found.memory_words}; "
        f"checkpoint {human_bytes(estimate.checkpoint_bytes)}",
    )
    with storage_in_words("spec.data", None, missing=Reason.WAITING_FOR_DATASET):
        data_print = data_fingerprint(listed)
    from_whom = taught or answers
    teacher_revision = from_whom.revision if from_whom else None
    key = run_key(spec, model_revision=revision, data_fingerprint=data_print, teacher_revision=teacher_revision)
    resolved = config.model_copy(update={"run_key": key})
    published = _published(resolved)
    warnings = found.warnings + consistency.warnings(spec, model, sample, plan)
    for warning in warnings:
        _say("warning", warning)
    message = (
        f"{model.architecture} with {model.parameters:,} parameters, {estimate.trainable_parameters:,} trainable; "
        f"{sample.records:,} records checked"
        + ("" if sample.complete else " (a sample)")
        + "".join(f". {warning}" for warning in found.warnings)
    )
    reason = Reason.ACCEPTED
    if published is not None:
        reason, message = Reason.ALREADY_PUBLISHED, f"run {key} is already published at {published.uri}"
    _say("done", f"run key {key}: {message}")
    return PreflightReport(
        exit_code=int(ExitCode.DONE),
        reason=reason,
        message=message,
        run_key=key,
        model_revision=revision,
        data_fingerprint=data_print,
        teacher_revision=teacher_revision,
        pins=pins,
        sampled_records=sample.records,
        estimate=estimate,
        highest_fence=highest_attempt(open_for(resolved, resolved.run_uri, resolved.runs_secret)),
        published=published,
        warnings=warnings[:8],
        at=timestamp(),
    )


def _examine_custom(config: RunConfig) -> PreflightReport:
    _step("secrets", lambda: check_secrets(config, secrets_dir()), lambda names: ", ".join(names) or "none needed")
    _step("storage", lambda: _writable_places(config), lambda uris: "writable: " + ", ".join(uris))
    config = config.model_copy(update={"pins": _step("hub", lambda: find_pins(config), hub.describe)})
    revision = _step("model", lambda: custom.model_revision(config), str)
    listed = _step("dataset", lambda: list_sources(config), lambda found: f"{sum(len(f) for _, f in found)} files")
    resolved = custom.identify(config, revision, listed)
    report = custom.report(resolved, _published(resolved), sum(len(files) for _, files in listed))
    _say("done", f"run key {report.run_key}: {report.message}")
    return report


def _writable_places(config: RunConfig) -> list[str]:
    """The run directory, and the user's own places for checkpoints and output, are there and take writes."""
    spec = config.spec
    places: list[tuple[str | None, str, str | None]] = [(None, config.runs_uri, config.runs_secret)]
    if spec.checkpoint.uri is not None:
        places.append(("spec.checkpoint.uri", spec.checkpoint.uri, config.checkpoints_secret))
    if spec.output.uri is not None:
        places.append(("spec.output.uri", spec.output.uri, config.output_secret))
    for field, uri, secret in places:
        with storage_in_words(field, secret):
            check_writable(open_for(config, uri, secret))
    return [uri for _, uri, _ in places]


def _published(config: RunConfig) -> PublishedModel | None:
    field = "spec.output.uri" if config.spec.output.uri else None
    with storage_in_words(field, config.output_secret):
        store = open_for(config, config.output_uri, config.output_secret)
        try:
            return find_published(store, config.run_key or "")
        except OutputTaken as error:
            raise wrong(field, str(error), Reason.OUTPUT_TAKEN) from None


def _step(name: str, work: Callable[[], T], words: Callable[[T], str]) -> T:
    started = time.monotonic()
    result = work()
    _say(name, f"{words(result)} ({time.monotonic() - started:.2f} s)")
    return result


def _say(name: str, words: str) -> None:
    print(f"{name:<10} {words}", flush=True)
