"""KL to the base: what the base predicts on records named for it, the model is held to predict as well (distillation
from the model before training, as in "Learning without Forgetting", Li and Hoiem 2016).

Term: weight times the mean over targets of KL(base || model) = sum over v of base(v) (log base(v) - log model(v)).
Which records a step reads is a function of (seed, step); the ranks share them, and each divides by the targets of all.

Legend of suffixes: n targets of a batch, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune_api.retention import KL_SHARE
from finetune_trainer.data.dataset import Examples
from finetune_trainer.engine.batch import collate, target_tokens
from finetune_trainer.engine.context import Place
from finetune_trainer.engine.loss import target_logits
from finetune_trainer.engine.order import Indices, key, permutation
from finetune_trainer.engine.strategy.base import Strategy
from finetune_trainer.objectives.divergence import divergence_sum

_KL = 0x4B4C
"""Keeps its order apart from the training records'."""

Reference = Callable[[], AbstractContextManager[nn.Module]]
"""Gives the base model, ready to be asked."""


class KLToBase:
    name = "klToBaseLoss"

    def __init__(
        self,
        weight: float,
        examples: Examples,
        reference: Reference,
        place: Place,
        *,
        global_batch: int,
        micro_batch: int,
        seed: int,
        pad_id: int,
        alive: Callable[[], None],
    ) -> None:
        self._weight, self._examples, self._reference, self._place = weight, examples, reference, place
        self._rows, self._micro, self._pad = max(1, global_batch // KL_SHARE), micro_batch, pad_id
        self._seed, self._alive = key(seed, _KL), alive
        self._orders: dict[int, Indices] = {}

    def add(self, strategy: Strategy, step: int) -> torch.Tensor:
        rows = self.rows(step)
        total = torch.zeros((), dtype=torch.float64, device=self._place.device)
        weight = self._weight / target_tokens(self._examples, rows)
        first, last = (len(rows) * rank // self._place.world_size for rank in (self._place.rank, self._place.rank + 1))
        for start in range(first, last, self._micro):
            self._alive()
            rows_of = rows[start : min(start + self._micro, last)]
            batch = collate(self._examples, rows_of, self._pad).to(self._place.device)
            with torch.no_grad(), strategy.precision(), self._reference() as base:
                base_nv = target_logits(base, batch).log_softmax(-1)
            with without_dropout(strategy.model):
                with strategy.precision():
                    model_nv = target_logits(strategy.model, batch).log_softmax(-1)
                    part = weight * divergence_sum(model_nv, base_nv, beta=0)
                strategy.backward(part, last=False)
            total += part.detach()
        return total

    def rows(self, step: int) -> Indices:
        """Of the whole gang, after `step` finished steps: one permutation of all records after another."""
        count = len(self._examples)
        numbers = range(step * self._rows, (step + 1) * self._rows)
        epochs = {number // count for number in numbers}
        known = self._orders
        self._orders = {e: known[e] if e in known else permutation(count, self._seed, e) for e in epochs}
        return np.array([self._orders[number // count][number % count] for number in numbers], dtype=np.int64)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """In training mode all the same, in which layers are computed again. Dropped units would be told from the base's
    answers, and would depend on how rows are cut into batches."""
    modules: list[Any] = list(model.modules())
    dropouts = [m for m in modules if isinstance(m, nn.Dropout) and m.training]
    attentions = [(m, m.attention_dropout) for m in modules if isinstance(getattr(m, "attention_dropout", None), float)]
    try:
        for module in dropouts:
            module.training = False
        for module, _share in attentions:
            module.attention_dropout = 0.0
        yield
    finally:
        for module in dropouts:
            module.training = True
        for module, share in attentions:
            module.attention_dropout = share
