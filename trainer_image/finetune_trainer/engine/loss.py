"""SFT's loss: the sum of the targets' negative log-likelihoods. Who calls divides by the targets of the global batch.

Dividing by anything smaller (a micro-batch, a rank) would weigh records by the company they happen to keep, and the
result would change with the world size.

Legend of suffixes: b rows, t tokens of the longest one, n targets of the batch, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import nn

from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.head import only_at
from finetune_trainer.engine.isolation import as_attended, ignores_padding


def target_loss_sum(model: nn.Module, batch: Batch) -> torch.Tensor:
    """fp32 scalar. Logits are computed, and lifted to fp32, at the n target positions only."""
    batch = batch.located()
    assert batch.labels_n is not None
    return nn.functional.cross_entropy(target_logits(model, batch), batch.labels_n, reduction="sum")


def smoothed_loss_sums(model: nn.Module, batch: Batch, smoothing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """fp32 scalars: the cross-entropy against targets of which the share `smoothing` is spread evenly over the
    vocabulary (Szegedy et al. 2016, section 7), and `target_loss_sum` without gradient."""
    batch = batch.located()
    assert batch.labels_n is not None
    log_probs_nv = nn.functional.log_softmax(target_logits(model, batch), dim=-1)
    told = nn.functional.nll_loss(log_probs_nv, batch.labels_n, reduction="sum")
    spread = -log_probs_nv.mean(dim=-1).sum()
    return (1 - smoothing) * told + smoothing * spread, told.detach()


def row_log_probs(model: nn.Module, batch: Batch) -> torch.Tensor:
    """fp32 (b,): the log-likelihood of each row's targets together, 0 for a row without any."""
    batch = batch.located()
    assert batch.labels_n is not None
    loss_n = nn.functional.cross_entropy(target_logits(model, batch), batch.labels_n, reduction="none")
    return -summed_by_row(loss_n, batch.row_n, len(batch.ids_bt))


def summed_by_row(of_n: torch.Tensor, row_n: torch.Tensor, rows: int) -> torch.Tensor:
    """fp32 (rows,): 0 for a row without any."""
    return torch.zeros(rows, device=of_n.device).index_add(0, row_n, of_n)


def target_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """fp32 (n, v) of a located batch."""
    batch = as_attended(model, batch)
    assert batch.predicts_n is not None
    inputs = {"input_ids": batch.ids_bt}
    if batch.positions_bt is not None:
        inputs["position_ids"] = batch.positions_bt
    elif not ignores_padding(model):
        inputs["attention_mask"] = batch.attention_bt
    with only_at(model, batch.predicts_n):
        logits = model(**inputs, use_cache=False).logits
    if logits.ndim == 3:
        logits = logits.reshape(-1, logits.shape[-1]).index_select(0, batch.predicts_n)
    found: torch.Tensor = logits.float()
    return found
