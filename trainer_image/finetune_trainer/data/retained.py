"""Records that a term against forgetting reads aside: encoded as training records are, but for themselves.

They are no part of an epoch, of the split, or of what is deduplicated, balanced or mixed; filters and the length of a
record apply to them as to all others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finetune_api.runconfig import RunConfig
from finetune_trainer.data.dataset import Examples, Into
from finetune_trainer.data.encode import Encoder
from finetune_trainer.data.encodings import Encodings, EncodingsWriter
from finetune_trainer.data.fetch import local_files
from finetune_trainer.data.once import made_once
from finetune_trainer.data.purpose import accepted_from
from finetune_trainer.data.read import BadRecords, DataError
from finetune_trainer.data.refine import Refiner
from finetune_trainer.data.sources import retained_sources

_FORMAT = 2


def load_retained(
    config: RunConfig, name: str, folder: Path, tokenizer: Any, heartbeat: Callable[[int], None]
) -> Examples:
    """What `fetch_data` put into `folder/<name>`. Raises DataError (66): malformed records, or none that is of use."""
    (named,) = (source for source in retained_sources(config) if source.folder == name)
    data = config.spec.data.model_copy(update={"packing": None, "dedup": None, "balance": None})
    files = local_files(folder, named)
    form = {
        "format": _FORMAT,
        "data": data.to_wire(),
        "source": named.source.to_wire(),
        "files": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files],
        "tokenizer": [tokenizer.name_or_path, len(tokenizer), str(tokenizer.chat_template)],
    }
    key = hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:16]
    place = folder / f"retained-{name}-{key}"

    def make(work: Path) -> None:
        bad, refiner = BadRecords(data.max_bad_records), Refiner(data)
        with EncodingsWriter(work, data) as writer:
            kinds = accepted_from(config.spec, named)
            encoder = Encoder(tokenizer, data.train_on)
            Into(writer, encoder, refiner, bad, kinds, data, heartbeat).source(0, named, files, folder)
            if writer.finish(bad.count, sum(refiner.left_out.values()), {}) == 0:
                raise DataError(
                    named.field,
                    f"{named.field}: {named.source.uri} holds no record to learn from: {writer.records} read, "
                    f"{bad.count} malformed, {writer.dropped} dropped (data.maxLength is {data.max_length}); name "
                    f"other records, or remove {named.field.removesuffix('.data')}",
                    reason="NoRecords",
                )

    made_once(place, make, heartbeat)
    store = Encodings(place)
    return Examples(store, np.arange(len(store.ends), dtype=np.int64))
