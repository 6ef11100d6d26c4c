"""How a classifier sorts texts it was not trained on: its loss, its accuracy, its F1, and each label by itself.

F1 is the mean over labels (macro): a rare label counts like a frequent one. Labels that neither stand in the held-out
texts nor were decided are left out of it, as scikit-learn's `f1_score(average="macro")` does. A base has no labels, so
nothing is compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from finetune_api.objective_classification import ClassificationSettings
from finetune_api.publishing import Metric
from finetune_trainer.common import log
from finetune_trainer.engine.scorer import row_logits
from finetune_trainer.objectives.classification import Classification
from finetune_trainer.objectives.labeled import LabeledTexts

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Counts:
    """Of one label, over all texts."""

    right: int
    wrong: int
    """Decided where the text has it not."""
    missed: int

    @property
    def f1(self) -> float:
        return 2 * self.right / max(1, 2 * self.right + self.wrong + self.missed)

    @property
    def occurs(self) -> bool:
        return bool(self.right + self.wrong + self.missed)


def judge(
    settings: ClassificationSettings,
    model: Any,
    texts: LabeledTexts,
    batches: Iterable[list[int]],
    *,
    pad_id: int,
    device: torch.device,
    progress: Progress,
) -> dict[str, tuple[float, int]]:
    """Metric → (value, texts)."""
    objective, count = Classification(settings), len(texts)
    decided_tc, given_tc = (np.zeros((count, len(settings.labels)), dtype=np.bool_) for _ in range(2))
    loss, done = 0.0, 0
    with torch.inference_mode():
        for indices in batches:
            batch = objective.collate(texts, indices, pad_id).to(device)
            assert batch.classes_bc is not None
            logits_bc = row_logits(model, batch)
            loss += float(objective.compare(logits_bc, batch.classes_bc, batch.targets_bt.any(1)).loss)
            decided_tc[indices] = objective.decided(logits_bc).cpu().numpy()
            given_tc[indices] = batch.classes_bc.bool().cpu().numpy()
            done += len(indices)
            progress(done, count)
    found = counts(decided_tc, given_tc)
    for label, of_label in zip(settings.labels, found, strict=True):
        if of_label.occurs:
            log.event(
                "label",
                name=label,
                texts=of_label.right + of_label.missed,
                precision=round(of_label.right / max(1, of_label.right + of_label.wrong), 4),
                recall=round(of_label.right / max(1, of_label.right + of_label.missed), 4),
                f1=round(of_label.f1, 4),
            )
    return {
        Metric.LOSS.value: (loss / count, count),
        Metric.ACCURACY.value: (float((decided_tc == given_tc).all(1).mean()), count),
        Metric.F1.value: (macro_f1(found), count),
    }


def counts(decided_tc: npt.NDArray[np.bool_], given_tc: npt.NDArray[np.bool_]) -> list[Counts]:
    """Of each label; rows are texts."""
    sums = ((decided_tc & given_tc).sum(0), (decided_tc & ~given_tc).sum(0), (~decided_tc & given_tc).sum(0))
    return [Counts(*map(int, of_label)) for of_label in zip(*sums, strict=True)]


def macro_f1(found: Iterable[Counts]) -> float:
    occurring = [of_label.f1 for of_label in found if of_label.occurs]
    return float(np.mean(occurring)) if occurring else 1.0
