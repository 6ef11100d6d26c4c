"""SFT's loss: the sum of the targets' negative log-likelihoods. Who calls divides by the targets of the global batch.

Dividing by anything smaller (a micro-batch, a rank) would weigh records by the company they happen to keep, and the
result would change with the world size.
"""

from __future__ import annotations

import torch
from torch import nn

from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.isolation import as_attended


def target_loss_sum(model: nn.Module, batch: Batch) -> torch.Tensor:
    """fp32 scalar. Only target positions (n of them) are lifted to fp32: logits are the largest tensor there is."""
    batch = as_attended(model, batch)
    if batch.positions_bt is None:
        logits_btv = model(input_ids=batch.ids_bt, attention_mask=batch.attention_bt, use_cache=False).logits
    else:
        logits_btv = model(input_ids=batch.ids_bt, position_ids=batch.positions_bt, use_cache=False).logits
    predicts = batch.targets_bt[:, 1:].reshape(-1).nonzero().squeeze(1)
    logits_nv = logits_btv[:, :-1].reshape(-1, logits_btv.shape[-1]).index_select(0, predicts).float()
    labels_n = batch.ids_bt[:, 1:].reshape(-1).index_select(0, predicts)
    return nn.functional.cross_entropy(logits_nv, labels_n, reduction="sum")
