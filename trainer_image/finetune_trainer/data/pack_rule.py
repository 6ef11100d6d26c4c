"""Whether a run packs its records. Three facts decide, in this order: the spec, how the run began, the model.

A run that began before packing existed must go on unpacked after an upgrade: another row is another step, and its
checkpoint would stand for data it never saw. The checkpoint says how it was made, so nothing has to be recorded
elsewhere, and no digest of a stored spec changes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ISOLATING = frozenset(
    {
        "gemma",
        "gemma2",
        "gemma3_text",
        "granite",
        "llama",
        "mistral",
        "mixtral",
        "olmo2",
        "phi3",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "smollm3",
    }
)
"""Model types whose attention keeps records apart by position ids alone; a test builds each one and looks."""


@dataclass(frozen=True)
class PackRule:
    packed: bool
    why: str


def pack_rule(
    asked: bool | None, began: bool | None, model_type: str, *, method: str | None = None, ordered: bool = False
) -> PackRule:
    """`began`: whether the checkpoint to resume from was made packed; None without one. `method`: of those that put
    something before each record. `ordered`: whether data.curriculum is set."""
    if ordered:
        return PackRule(False, "data.curriculum gives each record its place")
    if method is not None:
        return PackRule(False, f"method {method} puts something before each record")
    if asked is not None:
        return PackRule(asked, f"data.packing is {str(asked).lower()}")
    if began is not None:
        return PackRule(began, f"this run began {'packed' if began else 'unpacked'}")
    if model_type in ISOLATING:
        return PackRule(True, "the default")
    return PackRule(
        False,
        f"models of type {model_type or 'unknown'} are not known to keep packed records apart; "
        "set data.packing: true to have it tried",
    )


def model_type(folder: Path) -> str:
    """From config.json; empty when it says nothing."""
    try:
        return str(json.loads((folder / "config.json").read_text()).get("model_type", ""))
    except (OSError, ValueError, AttributeError):
        return ""
