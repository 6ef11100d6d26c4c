"""Is what was written what was trained? Asked of the folder on disk, as its users will load it.

A merge can go wrong silently (a wrong scale, a layer left out, an unlucky cast): every weight is finite and the loss
looks plausible. So logits are compared, position by position: first those of the merged model with those of the
adapter on, in fp32; then, after rounding to the type that is stored, those of the folder. Rounding itself is no error,
but it is measured and said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune_api.exitcodes import ExitCode
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import head_of
from finetune_trainer.common.errors import RunError
from finetune_trainer.data.dataset import Examples
from finetune_trainer.engine.model import load_base
from finetune_trainer.methods.choose import method_of
from finetune_trainer.model.headers import TensorInfo
from finetune_trainer.publish.kind import ADAPTER

MAX_KL = 1e-4
PROBES = 8
PROBE_TOKENS = 64
_MAY_BE_ABSENT = ("lm_head.weight", ".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".masked_bias")


@dataclass(frozen=True)
class Reference:
    """Log-probabilities of the trained model on a few records; float32 [t, v] each, on the CPU."""

    ids: Sequence[list[int]]
    log_probs: Sequence[torch.Tensor]


def probe_ids(examples: Sequence[Examples]) -> list[list[int]]:
    """The beginnings of the first few records."""
    found: list[list[int]] = []
    for part in examples:
        for index in range(min(len(part), PROBES - len(found))):
            found.append(part[index][0][:PROBE_TOKENS].tolist())
    return found


def reference(model: Any, ids: Sequence[list[int]], device: torch.device) -> Reference:
    return Reference(ids, [_log_probs(model, row, device) for row in ids])


def divergence(model: Any, expected: Reference, device: torch.device) -> float:
    """Mean over positions of KL(expected ‖ model), in nats."""
    total, positions = 0.0, 0
    for row, log_p_tv in zip(expected.ids, expected.log_probs, strict=True):
        log_q_tv = _log_probs(model, row, device)
        kl_t = (log_p_tv.exp() * (log_p_tv - log_q_tv)).sum(-1)
        total += float(kl_t.double().clamp_min(0).sum())
        positions += len(log_p_tv)
    return total / positions


def require_equivalence(model: Any, expected: Reference, device: torch.device, what: str) -> str:
    """The verdict in words. Raises RunError (70) when `what` computes something else than was trained."""
    found = divergence(model, expected, device)
    positions = sum(len(row) for row in expected.ids)
    words = f"KL {found:.2g} over {positions} positions between the trained model and {what}"
    if not found <= MAX_KL:
        raise RunError(
            ExitCode.FAILED,
            f"{words} is above {MAX_KL:g}: this is not the model that was trained; nothing was published. "
            "Publish again, or with output.merge: false",
            reason="MergeNotEquivalent",
        )
    return f"{words} (limit {MAX_KL:g})"


def require_same_layout(
    base: Mapping[str, TensorInfo], exported: Mapping[str, TensorInfo], *, new: Sequence[str] = ("lm_head.weight",)
) -> None:
    """Names, shapes and types are the base's, but for what may be `new`. Raises RunError (70) naming the first that
    differs."""
    missing = [n for n in base if n not in exported and not n.endswith(_MAY_BE_ABSENT)]
    extra = [n for n in exported if n not in base and n not in new]
    changed = [n for n, t in exported.items() if n in base and (t.shape, t.dtype) != (base[n].shape, base[n].dtype)]
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing ({missing[0]})")
    if extra:
        problems.append(f"{len(extra)} are new ({extra[0]})")
    if changed:
        first = changed[0]
        now, then = exported[first], base[first]
        problems.append(
            f"{len(changed)} changed ({first} is {now.dtype}{list(now.shape)}, was {then.dtype}{list(then.shape)})"
        )
    if problems:
        raise RunError(
            ExitCode.FAILED,
            f"the exported model's tensors are not the base's: {', '.join(problems)}; nothing was published",
            reason="LayoutChanged",
        )


def load_exported(
    spec: FineTuneJobSpec, base: Path, folder: Path, kind: str, dtype: torch.dtype, device: torch.device
) -> Any:
    """As a user would: plain transformers, or the adapter on top of the base."""
    if kind != ADAPTER:
        return load_base(folder, dtype, head=head_of(spec)).to(device).eval()
    model: Any = method_of(spec.method).load_adapter(load_base(base, dtype), folder)
    return model.to(device).eval()


def _log_probs(model: Any, ids: list[int], device: torch.device) -> torch.Tensor:
    with torch.inference_mode():
        logits_tv = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0]
    if logits_tv.ndim == 1:
        # Outputs of a head of its own: each compared as the odds against one of 0.
        logits_tv = torch.stack([logits_tv, torch.zeros_like(logits_tv)], -1)
    log_probs_tv: torch.Tensor = logits_tv.float().log_softmax(-1).cpu()
    return log_probs_tv
