"""Brings every data source to the scratch volume before training begins.

An interrupted download is continued. Data that changed since preflight is refused: the run key names this data, and
an attempt that resumed on other records would silently be another run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetune_api.runconfig import RunConfig
from finetune_artifacts import NotFound
from finetune_trainer.common import log
from finetune_trainer.data.read import DataError
from finetune_trainer.data.sources import NamedSource, SourceFile, every_source, fingerprint, list_files

Heartbeat = Callable[[int], None]
"""Called with the bytes moved since the last call."""


def fetch_data(config: RunConfig, folder: Path, heartbeat: Heartbeat) -> Path:
    """Downloads all sources below `folder`: `train-0/…`, `validation-0/…`. Returns it.

    Raises DataError (66) when a source is gone or changed, ArtifactError when storage fails.
    """
    listed = [(named, _listed(config, named)) for named in every_source(config)]
    if config.data_fingerprint is not None:
        found = fingerprint(listed)
        if found != config.data_fingerprint:
            uris = ", ".join(named.source.uri for named, _ in listed)
            raise DataError(
                "spec.data",
                f"spec.data: the files at {uris} changed since preflight (fingerprint {config.data_fingerprint}, now "
                f"{found}); put them back, or give the changed data a path of its own and a new job",
                reason="DataChanged",
            )
    for named, files in listed:
        for file in files:
            file.store.download_file(
                file.entry.path, local_path(folder, named, file), size=file.entry.size, progress=heartbeat
            )
        log.event("data fetched", source=named.field, files=len(files), bytes=sum(file.entry.size for file in files))
    return folder


def local_path(folder: Path, named: NamedSource, file: SourceFile) -> Path:
    return folder / named.folder / file.entry.path


def local_files(folder: Path, named: NamedSource) -> list[Path]:
    """The fetched files of a source, in the order in which they are read."""
    top = folder / named.folder
    return sorted((p for p in top.rglob("*") if p.is_file()), key=lambda p: p.relative_to(top).as_posix())


def _listed(config: RunConfig, named: NamedSource) -> list[SourceFile]:
    try:
        files = list_files(config, named)
    except NotFound:
        files = []
    if not files:
        raise DataError(
            named.field,
            f"{named.field}: nothing is stored at {named.source.uri} any more; put the data back",
            reason="DatasetMissing",
        )
    return files
