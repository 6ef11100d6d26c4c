"""Are the models there, the base and the one it is to learn from, and can they be worked with?"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch

from finetune_api.objective import objective_of
from finetune_api.objective_distill import TopK as TopKSource
from finetune_api.runconfig import RunConfig
from finetune_api.storage import Stored
from finetune_artifacts import Entry, Store, fingerprint
from finetune_trainer.common.errors import RunError
from finetune_trainer.common.stores import open_for
from finetune_trainer.data.top_k_header import FIELD as TOP_K
from finetune_trainer.data.top_k_header import PATTERN, Header, require_alike
from finetune_trainer.model.headers import read_header, read_metadata
from finetune_trainer.model.inspect import Incomplete, ModelInfo, NotAModel, inspect_model
from finetune_trainer.model.quantity import human_bytes
from finetune_trainer.model.vocabulary import difference, read_vocabulary
from finetune_trainer.preflight.problems import storage_in_words, waiting, wrong
from finetune_trainer.preflight.reasons import Reason

TEACHER = "spec.objective.distill.teacher.uri"


@dataclass(frozen=True)
class Found:
    info: ModelInfo
    revision: str
    """Over names, sizes and ETags of its files."""
    store: Store
    entries: list[Entry]


@dataclass(frozen=True)
class Answers:
    k: int
    files: int
    revision: str

    def __str__(self) -> str:
        return f"the {self.k} likeliest tokens at each target, {self.files} files"


def look_at(config: RunConfig, field: str, source: Stored, *, scores: bool = False) -> Found:
    """With the source's own credentials; `scores`: as a reward model. Raises Problem (64, 69), which names `field`."""
    with storage_in_words(field, _secret(source), missing=Reason.WAITING_FOR_MODEL):
        store = open_for(config, source.uri, _secret(source))
        entries = list(store.list())
        if not entries:
            raise waiting(
                field,
                f"nothing is stored at {source.uri}: expected a Hugging Face model directory; upload the model or "
                "correct the URI. It is looked for again",
                Reason.WAITING_FOR_MODEL,
            )
        try:
            return Found(inspect_model(store, entries, scores=scores), fingerprint(entries), store, entries)
        except Incomplete as error:
            raise waiting(
                field,
                f"{source.uri} is incomplete: {error}. It is looked at again",
                Reason.WAITING_FOR_MODEL,
            ) from None
        except NotAModel as error:
            raise wrong(field, f"{source.uri} {error}", Reason.INVALID_MODEL) from None


def look_at_teacher(config: RunConfig, source: Stored, base: Found) -> Found:
    """Raises Problem (64) also for a teacher whose tokens are not the base model's."""
    found = look_at(config, TEACHER, source)
    if unlike := _unlike(TEACHER, source, base, found):
        raise wrong(
            TEACHER,
            f"{source.uri} cannot teach this model: {unlike}. Name a teacher with the same tokenizer and vocab_size",
            Reason.INVALID_MODEL,
        )
    return found


def look_at_judge(config: RunConfig, field: str, source: Stored, base: Found) -> Found:
    """A reward model. Raises Problem (64) also for one that does not read the base model's tokens."""
    found = look_at(config, field, source, scores=True)
    if unlike := _unlike(field, source, base, found):
        raise wrong(
            field,
            f"{source.uri} cannot judge what this model writes: {unlike}. Name a reward model with the same tokenizer "
            "and vocab_size",
            Reason.INVALID_MODEL,
        )
    return found


def _unlike(field: str, source: Stored, base: Found, other: Found) -> str | None:
    with storage_in_words(field, _secret(source), missing=Reason.WAITING_FOR_MODEL):
        ours, theirs = (read_vocabulary(m.store, m.entries, m.info) for m in (base, other))
    return difference(ours, theirs)


def look_at_top_k(config: RunConfig, source: TopKSource, base: ModelInfo) -> Answers:
    """A teacher's answers instead of it: every file's header, and what was asked. Raises Problem (64, 69)."""
    settings = objective_of(config.spec).distill
    assert settings is not None
    field = f"{TOP_K}.uri"
    with storage_in_words(field, _secret(source), missing=Reason.WAITING_FOR_DATASET):
        store = open_for(config, source.uri, _secret(source))
        entries = list(store.list())
        files = [entry for entry in entries if fnmatch(entry.path, PATTERN)]
        if not files:
            raise waiting(
                field,
                f"no {PATTERN} is stored at {source.uri}; put there what `finetune teach` made. It is looked for again",
                Reason.WAITING_FOR_DATASET,
            )
        try:
            for entry in files:
                read_header(store, entry.path, entry.size)
                header = Header.of(read_metadata(store, entry.path, entry.size))
                require_alike(header, base.number("vocab_size"), settings)
        except (ValueError, KeyError) as error:
            raise wrong(field, f"{source.uri}/{entry.path} is not usable: {error}; make the files anew") from None
        except RunError as error:
            raise wrong(None, error.message) from None
    return Answers(header.k, len(files), fingerprint(entries))


def describe(found: Found) -> str:
    model = found.info
    return f"{model.architecture}, {model.parameters:,} parameters, {human_bytes(model.bytes)}"


def _secret(source: Stored) -> str | None:
    return source.secret_ref.name if source.secret_ref else None
