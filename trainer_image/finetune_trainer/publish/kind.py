"""What is published: a merged model, an adapter, or a fully trained model. No torch: asked before any is loaded."""

from __future__ import annotations

from finetune_api.allowed import ADAPTER, FULL, MERGED, published_kind
from finetune_api.finetunejob import FineTuneJobSpec

__all__ = ["ADAPTER", "FULL", "MERGED", "kind_of"]


def kind_of(spec: FineTuneJobSpec) -> str:
    return published_kind(spec.method, merge=spec.output.merge)
