"""What is published: a merged model, an adapter, a fully trained model, or one that writes nothing.

No torch: asked before any is loaded.
"""

from __future__ import annotations

from finetune_api.allowed import ADAPTER, CLASSIFIER, FULL, MERGED, SCORER, WRITES_NOTHING, published_kind
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import head_of

__all__ = ["ADAPTER", "FULL", "MERGED", "SCORER", "WRITES_NOTHING", "kind_of"]


def kind_of(spec: FineTuneJobSpec) -> str:
    head = head_of(spec)
    if head is None:
        return published_kind(spec.method, merge=spec.output.merge)
    return CLASSIFIER if head.labels else SCORER
