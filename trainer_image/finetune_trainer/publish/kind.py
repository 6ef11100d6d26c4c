"""What is published: a merged model, an adapter, a fully trained model, or one that scores.

No torch: asked before any is loaded.
"""

from __future__ import annotations

from finetune_api.allowed import ADAPTER, FULL, MERGED, SCORER, published_kind
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import scores

__all__ = ["ADAPTER", "FULL", "MERGED", "SCORER", "kind_of"]


def kind_of(spec: FineTuneJobSpec) -> str:
    return SCORER if scores(spec) else published_kind(spec.method, merge=spec.output.merge)
