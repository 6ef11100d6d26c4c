"""The demo's own tokenizer and texts with an even smaller, untrained model, and run configs where all is on file://."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from examples.tiny.corpus import Messages, distinct_triage, generic
from finetune_api.runconfig import RunConfig
from finetune_api.runkey import spec_digest

LORA = {"type": "LoRA", "lora": {"rank": 4, "alpha": 8}}
FULL = {"type": "FullFineTune", "lora": None}


@cache
def tokenizer() -> Any:
    from examples.tiny.model import build_tokenizer

    return build_tokenizer(1)


@cache
def _base(seed: int) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = tokenizer()
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def model(seed: int = 0) -> Any:
    """An untrained Llama of 0.2 million parameters; a copy of its own each time."""
    return copy.deepcopy(_base(seed))


def save_model(folder: Path, *, seed: int = 0, dtype: str = "float32") -> Path:
    import torch

    model(seed).to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def conversations(count: int, seed: int = 3) -> list[dict[str, Messages]]:
    """Distinct Messages records of the triage task."""
    return [{"messages": messages} for messages in distinct_triage(seed, count)]


def chatter(count: int, seed: int = 4) -> list[dict[str, Messages]]:
    """Messages records of the generic corpus (not necessarily distinct)."""
    rng = Random(seed)
    return [{"messages": generic(rng)} for _ in range(count)]


def write_jsonl(path: Path, documents: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents))
    return path


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` on top of `base`; nested maps are merged, None removes a key."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def config(root: Path, spec: dict[str, Any] | None = None, **fields: Any) -> RunConfig:
    """A run on `root`: model in `base/`, data in `train.jsonl`, runs in `runs/`. `spec` is merged over the default."""
    document = merged(
        {
            "model": {"uri": f"file://{root}/base"},
            "data": {"train": [{"uri": f"file://{root}/train.jsonl"}], "maxLength": 128},
            "method": LORA,
            "training": {"precision": "FP32"},
            "resources": {"gpusPerNode": 0},
        },
        spec or {},
    )
    draft = RunConfig.model_validate(
        {
            "namespace": "team-a",
            "name": "support-bot",
            "uid": "3c1d9f8e-0000-4000-8000-000000000001",
            "spec": document,
            "specDigest": "unset",
            "runsUri": f"file://{root}/runs",
        }
    )
    return draft.model_copy(update={"spec_digest": spec_digest(draft.spec), **fields})
