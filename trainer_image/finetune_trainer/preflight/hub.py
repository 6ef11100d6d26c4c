"""What the branches of the Hub that a job names stand for, now and for the rest of its life."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from finetune_api.objective import taught_from
from finetune_api.runconfig import RunConfig
from finetune_api.storage import Stored
from finetune_trainer.common.pins import moving
from finetune_trainer.common.stores import open_for
from finetune_trainer.data.sources import every_source
from finetune_trainer.preflight.problems import storage_in_words, wrong
from finetune_trainer.preflight.reasons import Reason

LIMIT = 8
"""They travel in a termination message of 4 KiB."""


def find_pins(config: RunConfig) -> dict[str, str]:
    """As RunConfig.pins. Raises Problem (64, 69)."""
    pins: dict[str, str] = {}
    for field, source, missing in _read(config):
        secret = source.secret_ref.name if source.secret_ref else None
        with storage_in_words(field, secret, missing=missing):
            repository = moving(source.uri)
            if repository is None or repository in pins:
                continue
            from finetune_artifacts.hub import HubStore

            store = open_for(config, source.uri, secret)
            assert isinstance(store, HubStore)
            pins[repository] = store.commit
        if len(pins) > LIMIT:
            raise wrong(
                field,
                f"{repository} is the {len(pins)}th repository of the Hub without a commit, and {LIMIT} can be kept in "
                "mind; write some as hf://…@<commit>",
            )
    return pins


def describe(pins: Mapping[str, str]) -> str:
    return ", ".join(f"{repository} at {commit[:12]}" for repository, commit in pins.items()) or "none used"


def _read(config: RunConfig) -> Iterator[tuple[str, Stored, Reason]]:
    yield "spec.model.uri", config.spec.model, Reason.WAITING_FOR_MODEL
    if taught := taught_from(config.spec):
        yield f"{taught[0]}.uri", taught[1], Reason.WAITING_FOR_MODEL
    for named in every_source(config):
        yield f"{named.field}.uri", named.source, Reason.WAITING_FOR_DATASET
