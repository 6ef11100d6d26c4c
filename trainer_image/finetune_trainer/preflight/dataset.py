"""The dataset as far as a few seconds go: every source is there, and the beginning of each file is valid.

A file up to 64 MiB is read whole, so that a malformed line 17 is found here and not by eight GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import head_of
from finetune_api.runconfig import RunConfig
from finetune_trainer.data.chunks import as_file
from finetune_trainer.data.columns import columns_of
from finetune_trainer.data.labels import classes
from finetune_trainer.data.parts import BadRecord
from finetune_trainer.data.purpose import Kinds, accepted_from
from finetune_trainer.data.read import BadRecords, read_source
from finetune_trainer.data.records import Conversation, answers, content_digest
from finetune_trainer.data.refine import Refiner
from finetune_trainer.data.sources import NamedSource, SourceFile, every_source, list_files
from finetune_trainer.model.quantity import human_bytes
from finetune_trainer.preflight.problems import Problem, storage_in_words, waiting
from finetune_trainer.preflight.reasons import Reason

SAMPLE_PER_FILE = 64 << 20
SAMPLE_TOTAL = 256 << 20

Listed = list[tuple[NamedSource, list[SourceFile]]]


@dataclass
class Sample:
    """What was read. `complete` says whether that is all there is."""

    records: int = 0
    train: list[int] = field(default_factory=list)
    """Content digests of the training records."""
    weights: list[float] = field(default_factory=list)
    """How often each of them comes in an epoch."""
    held_out: int = 0
    replayed: int = 0
    fields: set[str] = field(default_factory=set)
    """Of the sources that have records."""
    conversations: int = 0
    malformed: int = 0
    filtered: int = 0
    duplicates: int = 0
    """Training records that stand before, too."""
    same_ids: list[str] = field(default_factory=list)
    """Places of records whose id another record has."""
    files: int = 0
    bytes: int = 0
    complete: bool = True


def list_sources(config: RunConfig) -> Listed:
    """Every source with its files. Raises Problem (69) when one has none."""
    listed = []
    for named in every_source(config):
        secret = named.source.secret_ref.name if named.source.secret_ref else None
        with storage_in_words(f"{named.field}.uri", secret, missing=Reason.WAITING_FOR_DATASET):
            files = list_files(config, named)
        if not files:
            raise waiting(
                f"{named.field}.uri",
                f"nothing is stored at {named.source.uri}: expected a file of JSON Lines, JSON, CSV, Parquet or text, "
                "or such files below it; upload the data or correct the URI. It is looked for again",
                Reason.WAITING_FOR_DATASET,
            )
        listed.append((named, files))
    return listed


def read_sample(config: RunConfig, listed: Listed) -> Sample:
    """Validates the first 64 MiB of every file, 256 MiB in all. Raises DataError (66), Problem."""
    sample = Sample()
    bad, refiner = BadRecords(config.spec.data.max_bad_records), Refiner(config.spec.data)
    ids = _Ids()
    for named, files in listed:
        taken = 0
        for file in files:
            budget = min(SAMPLE_PER_FILE, SAMPLE_TOTAL - sample.bytes)
            limit = named.source.limit
            if limit is not None and taken >= limit:
                break
            if budget <= 0:
                sample.complete = False
                break
            left = None if limit is None else limit - taken
            kinds = accepted_from(config.spec, named)
            taken += _read_file(named, file, budget, left, bad, sample, kinds, refiner, ids, config.spec)
    sample.duplicates = len(sample.train) - len(set(sample.train))
    sample.malformed, sample.filtered = bad.count, sum(refiner.left_out.values())
    for named, _files in listed:
        if (named.replayed or named.aside) and named.field not in sample.fields and sample.complete:
            raise Problem(
                ExitCode.DATA_INVALID,
                Reason.NO_RECORDS,
                named.field,
                f"{named.source.uri} holds no usable record: write records of what is not to be forgotten into it, "
                f"correct the URI, or remove {named.field.removesuffix('.data')}",
            )
    if not sample.train and sample.complete:
        raise Problem(
            ExitCode.DATA_INVALID,
            Reason.NO_RECORDS,
            "spec.data.train",
            f"{_named(listed)} hold no usable record ({bad.count} malformed, {sample.filtered} filtered out): "
            "write records into them, or correct the URI",
        )
    return sample


class _Ids:
    """Two records of one id and different content: one of them was probably meant to replace the other."""

    def __init__(self, most: int = 200_000) -> None:
        self._seen: dict[int, int] = {}
        self._most = most

    def is_taken(self, name: object, digest: int) -> bool:
        if not isinstance(name, str | int) or isinstance(name, bool):
            return False
        if len(self._seen) < self._most:
            return self._seen.setdefault(hash(name), digest) != digest
        return self._seen.get(hash(name), digest) != digest


def _named(listed: Listed) -> str:
    """`1 file with 0 bytes (s3://b/train.jsonl)`."""
    files = [file for _, found in listed for file in found]
    names = ", ".join(file.name for file in files[:3]) + (", …" if len(files) > 3 else "")
    size = sum(file.entry.size for file in files)
    return f"{len(files)} file{'s' * (len(files) != 1)} with {size} bytes ({names})"


def describe_sample(sample: Sample) -> str:
    """`400 valid in 53 KiB, 12 duplicates, 3 filtered out`."""
    words = f"{sample.records:,} valid in {human_bytes(sample.bytes)}" + (
        "" if sample.complete else " (the beginning only)"
    )
    counts = {"duplicates": sample.duplicates, "filtered out": sample.filtered, "malformed": sample.malformed}
    return words + "".join(f", {count:,} {what}" for what, count in counts.items() if count)


def _read_file(
    named: NamedSource,
    file: SourceFile,
    budget: int,
    limit: int | None,
    bad: BadRecords,
    sample: Sample,
    kinds: Kinds,
    refiner: Refiner,
    ids: _Ids,
    spec: FineTuneJobSpec,
) -> int:
    cut = file.entry.size > budget
    data, head = spec.data, head_of(spec)
    weight = float(getattr(named.source, "weight", None) or 1)
    secret = named.source.secret_ref.name if named.source.secret_ref else None
    taken = 0
    sample.files += 1
    sample.bytes += min(file.entry.size, budget)
    with storage_in_words(f"{named.field}.uri", secret, missing=Reason.WAITING_FOR_DATASET):
        stream = as_file(file.store, file.entry)
        for located in read_source(stream, named, name=file.name, bad=bad, kinds=kinds, budget=budget if cut else None):
            record = refiner.apply(located.record)
            if record is None:
                continue
            try:
                columns_of(located.document, data, named)
                classes(record, head)
            except BadRecord as error:
                bad.add(named.field, located.place, str(error))
                continue
            taken += 1
            digest = content_digest(record)
            if ids.is_taken(located.document.get("id"), digest):
                sample.same_ids.append(f"{located.place} ({located.document['id']!r:.60})")
            sample.records += 1
            sample.fields.add(named.field)
            sample.conversations += isinstance(answers(record)[0], Conversation)
            if named.held_out:
                sample.held_out += 1
            elif named.replayed:
                sample.replayed += 1
            elif not named.aside:
                sample.train.append(digest)
                sample.weights.append(weight)
            if limit is not None and taken >= limit:
                return taken
    sample.complete = sample.complete and not cut
    return taken
