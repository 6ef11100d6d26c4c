"""Preflight of a custom trainer: storage, Secrets, model and data are there. Image, command and what the script makes
of its data cannot be known before it runs; neither can its memory."""

from __future__ import annotations

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import PreflightReport, PublishedModel
from finetune_api.runconfig import RunConfig
from finetune_api.runkey import run_key
from finetune_artifacts import fingerprint
from finetune_trainer.checkpoint.fences import highest_attempt
from finetune_trainer.common.clock import timestamp
from finetune_trainer.common.stores import open_for
from finetune_trainer.data.sources import fingerprint as data_fingerprint
from finetune_trainer.preflight.dataset import Listed
from finetune_trainer.preflight.problems import storage_in_words, waiting
from finetune_trainer.preflight.reasons import Reason


def model_revision(config: RunConfig) -> str:
    """Raises Problem (69) while nothing is stored there."""
    source = config.spec.model
    secret = source.secret_ref.name if source.secret_ref else None
    with storage_in_words("spec.model.uri", secret, missing=Reason.WAITING_FOR_MODEL):
        entries = list(open_for(config, source.uri, secret).list())
        if not entries:
            raise waiting(
                "spec.model.uri",
                f"nothing is stored at {source.uri}; upload the model or correct the URI. It is looked for again",
                Reason.WAITING_FOR_MODEL,
            )
        return fingerprint(entries)


def identify(config: RunConfig, revision: str, listed: Listed) -> RunConfig:
    """With its run key."""
    with storage_in_words("spec.data", None, missing=Reason.WAITING_FOR_DATASET):
        data = data_fingerprint(listed)
    key = run_key(config.spec, model_revision=revision, data_fingerprint=data)
    return config.model_copy(update={"run_key": key, "model_revision": revision, "data_fingerprint": data})


def report(config: RunConfig, published: PublishedModel | None, files: int) -> PreflightReport:
    reason, message = (
        Reason.ACCEPTED,
        f"{files} data files are there; the script in {config.spec.trainer.image} is the judge",
    )
    if published is not None:
        reason, message = Reason.ALREADY_PUBLISHED, f"run {config.run_key} is already published at {published.uri}"
    return PreflightReport(
        exit_code=int(ExitCode.DONE),
        reason=reason,
        message=message,
        run_key=config.run_key,
        model_revision=config.model_revision,
        data_fingerprint=config.data_fingerprint,
        pins=config.pins,
        highest_fence=highest_attempt(open_for(config, config.run_uri, config.runs_secret)),
        published=published,
        at=timestamp(),
    )
