"""How much each trained weight matters to what is to be kept: the diagonal of the empirical Fisher information.

Of weight i it is the mean over records of (d log p(answer | prompt) / d weight_i)^2 at the base model, all targets of a
record together. It is measured before the first step and kept in the run directory: an attempt that resumes reads the
same bits, whatever its world size. A file that is damaged is measured anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from finetune_api.layout import RETENTION_DIR
from finetune_artifacts import NotFound, Store
from finetune_trainer.checkpoint.digest import trainable_digest
from finetune_trainer.checkpoint.snapshot import trainable_parameters
from finetune_trainer.common import log
from finetune_trainer.data.dataset import Examples
from finetune_trainer.engine.agree import Agreement
from finetune_trainer.engine.batch import Examples as Records
from finetune_trainer.engine.batch import collate
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loss import target_loss_sum
from finetune_trainer.engine.order import mix
from finetune_trainer.engine.strategy.base import Strategy

Fisher = dict[str, torch.Tensor]
"""fp32, by parameter and shaped like it."""


def chosen(records: Examples, samples: int) -> list[int]:
    """So many of the records (or all), by their contents: the order of files has no say."""
    return [int(row) for row in np.argsort(mix(records.digests), kind="stable")[:samples]]


def fisher(
    records: Examples,
    samples: Sequence[int],
    strategy: Strategy,
    run: Store,
    scratch: Path,
    place: Place,
    agreement: Agreement,
    *,
    pad_id: int,
    alive: Callable[[], None],
) -> Fisher:
    """Equal on every rank, while `strategy` holds the base model. `scratch`: a folder for the file."""
    scratch.mkdir(parents=True, exist_ok=True)
    name = f"fisher-{_key(records, samples)}.safetensors"
    parameters = trainable_parameters(strategy.model)
    found = _read(run, name, scratch, parameters, alive) if place.rank == 0 else None
    if not agreement.tell(int(found is not None)):
        found = measure(records, samples[place.rank :: place.world_size], strategy, place, pad_id=pad_id, alive=alive)
        for part in found.values():
            dist.all_reduce(part)
            part /= len(samples)
        if place.rank == 0:
            _write(run, name, scratch, found, alive)
            log.event("what matters to the records to be kept is written down", records=len(samples))
        agreement.barrier()
        return found
    if found is None:
        found = {name: torch.empty_like(p, dtype=torch.float32) for name, p in parameters.items()}
    result = {name: part.to(place.device) for name, part in found.items()}
    for part in result.values():
        dist.broadcast(part, src=0)
    return result


def measure(
    records: Records,
    indices: Sequence[int],
    strategy: Strategy,
    place: Place,
    *,
    pad_id: int,
    alive: Callable[[], None],
) -> Fisher:
    """Sums over the records, of squares; without dropout."""
    parameters = trainable_parameters(strategy.model)
    found = {name: torch.zeros_like(p, dtype=torch.float32).detach() for name, p in parameters.items()}
    model = strategy.model.eval()
    try:
        for index in indices:
            alive()
            batch = collate(records, [index], pad_id).to(place.device)
            with strategy.precision():
                loss = target_loss_sum(model, batch)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    found[name] += gradient.float().square()
    finally:
        model.train()
    return found


def _key(records: Examples, samples: Sequence[int]) -> str:
    """The run directory already stands for the model and the data; this says which records of it."""
    rows = np.asarray(samples, dtype=np.int64)
    return hashlib.sha256(records.digests[rows].tobytes() + records.lengths[rows].tobytes()).hexdigest()[:16]


def _write(run: Store, name: str, scratch: Path, found: Fisher, alive: Callable[[], None]) -> None:
    tensors = {key: part.cpu().contiguous() for key, part in found.items()}
    save_file(tensors, scratch / name, metadata={"digest": trainable_digest(tensors)})
    run.upload_file(scratch / name, f"{RETENTION_DIR}/{name}", progress=lambda _bytes: alive())


def _read(
    run: Store, name: str, scratch: Path, parameters: Mapping[str, nn.Parameter], alive: Callable[[], None]
) -> Fisher | None:
    """On the CPU. None when it is not there or not whole: it can be measured again."""
    path = f"{RETENTION_DIR}/{name}"
    try:
        size = run.head(path).size
        run.download_file(path, scratch / name, size=size, progress=lambda _bytes: alive())
        with safe_open(scratch / name, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            digest = (file.metadata() or {}).get("digest")
    except (NotFound, SafetensorError):
        return None
    fits = {key: part.shape for key, part in tensors.items()} == {key: p.shape for key, p in parameters.items()}
    if not fits or digest != trainable_digest(tensors):
        log.warning("the stored measure of what matters is damaged; it is made again", file=run.uri_of(path))
        return None
    return {key: tensors[key] for key in parameters}
