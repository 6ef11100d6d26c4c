"""Models that give numbers for a text: a head on the last token, in place of the one that writes.

It is the form that transformers has for it (`AutoModelForSequenceClassification`; with one label, a score), so that a
published model is loaded by everybody. Such a model finds a text's last token by its padding, which its configuration
has to name; bases often leave that to their tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune_api.objective import Head
from finetune_api.objective_classification import Problem
from finetune_trainer.engine.batch import Batch

HEAD = "score"
_PROBLEMS = {
    Problem.SINGLE_LABEL: "single_label_classification",
    Problem.MULTI_LABEL: "multi_label_classification",
}


def load_scorer(folder: Path, dtype: torch.dtype, attention: str, head: Head) -> nn.Module:
    """Raises ValueError for an architecture without such a head."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model: Any = AutoModelForSequenceClassification.from_pretrained(
        str(folder),
        **_named(head),
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        attn_implementation=attention,
    )
    if not isinstance(getattr(model, HEAD, None), nn.Linear):
        raise ValueError(
            f"{type(model).__name__} has no layer named {HEAD}, which objectives Reward and Classification train"
        )
    if model.config.pad_token_id is None:
        padding = AutoTokenizer.from_pretrained(str(folder), local_files_only=True).pad_token_id
        model.config.pad_token_id = 0 if padding is None else padding
    return model  # type: ignore[no-any-return]


def _named(head: Head) -> dict[str, Any]:
    """The head in transformers' words, which stay in the published configuration."""
    if head.problem is None:
        return {"num_labels": 1}
    return {
        "num_labels": head.outputs,
        "id2label": dict(enumerate(head.labels)),
        "label2id": {label: number for number, label in enumerate(head.labels)},
        "problem_type": _PROBLEMS[head.problem],
    }


def is_scorer(model: nn.Module) -> bool:
    """Of a model that no adapter is on yet."""
    return isinstance(getattr(model, HEAD, None), nn.Linear)


def row_scores(model: Any, batch: Batch) -> torch.Tensor:
    """fp32 (b,), of a head with one output."""
    return row_logits(model, batch).squeeze(-1)


def row_logits(model: Any, batch: Batch) -> torch.Tensor:
    """fp32 (b, outputs)."""
    found: torch.Tensor = model(input_ids=batch.ids_bt, attention_mask=batch.attention_bt, use_cache=False).logits
    return found.float()
