"""What is published: a merged model, an adapter, or a fully trained model. No torch: asked before any is loaded."""

from __future__ import annotations

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import MethodType

MERGED, ADAPTER, FULL = "Merged", "Adapter", "Full"


def kind_of(spec: FineTuneJobSpec) -> str:
    if spec.method.type is MethodType.FULL_FINE_TUNE:
        return FULL
    return MERGED if spec.output.merge else ADAPTER
