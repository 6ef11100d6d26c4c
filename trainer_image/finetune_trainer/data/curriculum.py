"""Which records come first in an epoch, where the spec gives them an order (Bengio et al. 2009, curriculum learning).

Nothing here has a state: the order of an epoch follows from the records, the seed and the epoch alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetune_api.curriculum import CurriculumBy, CurriculumOrder
from finetune_api.data import Data
from finetune_trainer.data.dataset import Examples
from finetune_trainer.data.encodings import Encodings

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arrangement:
    places: npt.NDArray[np.float64]
    """Of every training record; smaller ones come first."""
    epochs: float
    """How many epochs are so ordered."""

    def arrange(self, shuffled: Indices, epoch: int) -> Indices:
        """Records of one place stay in the order in which they were shuffled."""
        if epoch >= self.epochs:
            return shuffled
        found: Indices = shuffled[np.argsort(self.places[shuffled], kind="stable")]
        return found


def arrangement(data: Data, train: Examples, store: Encodings) -> Arrangement | None:
    """None where records are shuffled. `store`: of which `train` is a part."""
    wanted = data.curriculum
    if wanted is None:
        return None
    numbers = train.lengths if wanted.by is CurriculumBy.LENGTH else store.places[train.rows]
    places = np.asarray(numbers, dtype=np.float64)
    if wanted.order is CurriculumOrder.DESCENDING:
        places = -places
    return Arrangement(places, math.inf if wanted.epochs is None else wanted.epochs)
