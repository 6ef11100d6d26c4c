"""What a data source's URI stands for: one file, or all files of one kind below a prefix.

Preflight and the trainer look through this one function, so that what was validated is what is trained on; the
fingerprint over names, sizes and ETags says whether it still is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from finetune_api.data import DataSource
from finetune_api.runconfig import RunConfig
from finetune_artifacts import Entry, InvalidUri, NotFound, Store, split_uri
from finetune_artifacts import fingerprint as artifacts_fingerprint
from finetune_trainer.common.stores import Tenant, open_for
from finetune_trainer.data.files import KINDS

_FORMAT = 1
_GLOB = "*?["
KL_TO_BASE, EWC = "kl-to-base", "ewc"
"""Folders of what is read aside."""


@dataclass(frozen=True)
class NamedSource:
    """A source and its path in the spec, `spec.data.train[0]`."""

    field: str
    folder: str
    """The name of its folder in the local copy."""
    source: DataSource
    held_out: bool
    replayed: bool = False
    """Mixed into the training records at a percentage, and never held out."""
    aside: bool = False
    """Read for itself (`data.retained`): neither trained on nor held out."""


@dataclass(frozen=True)
class SourceFile:
    store: Store
    entry: Entry

    @property
    def name(self) -> str:
        """As the user knows it."""
        return self.store.uri_of(self.entry.path)


def named_sources(config: RunConfig) -> list[NamedSource]:
    """Training sources, then validation sources, in the order of the spec; then what is replayed."""
    data, retention = config.spec.data, config.spec.retention
    train = [NamedSource(f"spec.data.train[{i}]", f"train-{i}", s, False) for i, s in enumerate(data.train)]
    held_out = [
        NamedSource(f"spec.data.validation.sources[{i}]", f"validation-{i}", s, True)
        for i, s in enumerate(data.validation.sources or [])
    ]
    replay = retention.replay if retention else None
    replayed = [NamedSource("spec.retention.replay.data", "replay-0", replay.data, False, True)] if replay else []
    return train + held_out + replayed


def retained_sources(config: RunConfig) -> list[NamedSource]:
    """What terms against forgetting read."""
    retention = config.spec.retention
    terms = ((KL_TO_BASE, "klToBase", retention.kl_to_base), (EWC, "ewc", retention.ewc)) if retention else ()
    return [
        NamedSource(f"spec.retention.{name}.data", folder, term.data, False, aside=True)
        for folder, name, term in terms
        if term
    ]


def every_source(config: RunConfig) -> list[NamedSource]:
    """All that a pod fetches."""
    return named_sources(config) + retained_sources(config)


def list_files(config: Tenant, named: NamedSource) -> list[SourceFile]:
    """The source's files, sorted by path; none is not an error here. `*`, `?` and `[…]` in the last name of the URI
    choose among the files beside each other there. Raises ArtifactError."""
    source = named.source
    secret = source.secret_ref.name if source.secret_ref else None
    try:
        parent, name = split_uri(source.uri)
    except InvalidUri:  # a whole bucket or claim
        name = ""
    if name and not source.uri.endswith("/"):
        store = open_for(config, parent, secret)
        try:
            return [SourceFile(store, store.head(name))]
        except NotFound:
            if any(sign in name for sign in _GLOB):
                entries = [entry for entry in store.list() if fnmatchcase(entry.path, name) and "/" not in entry.path]
                return [SourceFile(store, entry) for entry in of_one_kind(entries)]
    store = open_for(config, source.uri.rstrip("/"), secret)
    return [SourceFile(store, entry) for entry in of_one_kind(list(store.list()))]


def of_one_kind(entries: Sequence[Entry]) -> list[Entry]:
    """Those of the first kind of which there are any: an upgrade that reads more kinds adds no file to a set of
    *.jsonl, and a data set's description beside its Parquet files is no data."""
    for endings in KINDS:
        found = [entry for entry in entries if entry.path.lower().endswith(endings)]
        if endings == KINDS[0]:
            found = [entry for entry in found if entry.path.endswith(endings)]
        if found:
            return found
    return []


def fingerprint(listed: Sequence[tuple[NamedSource, Sequence[SourceFile]]]) -> str:
    """`sha256:<hex>` over every source's place in the spec and its files' names, sizes and ETags (or contents)."""
    form = [[named.field, artifacts_fingerprint(f.entry for f in files)] for named, files in listed]
    text = json.dumps({"format": _FORMAT, "sources": form}, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
