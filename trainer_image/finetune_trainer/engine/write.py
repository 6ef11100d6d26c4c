"""What a model writes after a prompt: token by token, for evaluation and for objectives that learn from it.

Where something is drawn, every row has random numbers of its own (`seeds`), made from a counter: so an answer does not
depend on which rows are written beside it, and no state has to be kept for a run to go on.

Legend of suffixes: b rows, t tokens of the longest prompt, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from finetune_trainer.engine.batch import Example
from finetune_trainer.engine.mode import answering

Tokens = list[int]


@dataclass(frozen=True)
class Drawn:
    """How tokens are drawn instead of taking the likeliest."""

    seeds: Sequence[int]
    """Of every row."""
    temperature: float = 1.0


def write(
    model: Any,
    prompts: Sequence[Tokens],
    *,
    stops: Sequence[int],
    max_new_tokens: int,
    pad_id: int,
    device: torch.device,
    drawn: Drawn | None = None,
    alive: Callable[[], object] = lambda: None,
) -> list[Tokens]:
    """Every prompt's answer, the token that ends it included; at most `max_new_tokens`. The model is asked as it
    stands, without dropout and without gradients. `alive` is called at every token."""
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    # What a base's own generation_config says must not change what is measured or learned.
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stops),
        pad_token_id=pad_id,
        use_cache=True,
    )
    ids_bt, attention_bt = pad_left(prompts, pad_id)
    with answering(model), torch.no_grad():
        written_bt = model.generate(
            input_ids=ids_bt.to(device),
            attention_mask=attention_bt.to(device),
            generation_config=settings,
            logits_processor=LogitsProcessorList([_noise(drawn, device)] if drawn else []),
            stopping_criteria=StoppingCriteriaList([_beating(alive)]),
        )
    return [_ended(row, stops) for row in written_bt[:, ids_bt.shape[1] :].tolist()]


def _noise(drawn: Drawn, device: torch.device) -> Any:
    """The likeliest token after adding Gumbel noise is a draw from the softmax (Gumbel 1954; Maddison et al. 2014,
    "A* Sampling", section 2)."""
    generators = [torch.Generator(device).manual_seed(seed) for seed in drawn.seeds]

    def process(_ids_bt: torch.Tensor, logits_bv: torch.Tensor) -> torch.Tensor:
        noise_bv = torch.empty_like(logits_bv, dtype=torch.float32)
        for row, generator in zip(noise_bv, generators, strict=True):
            row.exponential_(generator=generator)
        return logits_bv.float() / drawn.temperature - noise_bv.log()

    return process


def _beating(alive: Callable[[], object]) -> Any:
    def stop(ids_bt: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
        alive()
        return torch.zeros(len(ids_bt), dtype=torch.bool, device=ids_bt.device)

    return stop


def _ended(row: Tokens, stops: Sequence[int]) -> Tokens:
    end = next((i + 1 for i, token in enumerate(row) if token in stops), len(row))
    return row[:end]


def last_answer(targets: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Where a record's last trained part begins and ends."""
    end = int(np.flatnonzero(targets)[-1]) + 1
    gaps = np.flatnonzero(~targets[:end])
    return (int(gaps[-1]) + 1 if len(gaps) else 0), end


def stop_ids(examples: Iterable[Example], tokenizer: Any) -> list[int]:
    """The eos, and whatever special token ends the records' trained parts (a chat template's end of turn)."""
    special = set(tokenizer.all_special_ids)
    last = {int(ids[np.flatnonzero(targets)[-1]]) for ids, targets in examples}
    return sorted((last & special) | {tokenizer.eos_token_id})


def as_text(tokenizer: Any, ids: Tokens) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def pad_left(rows: Sequence[Tokens], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids_bt = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    attention_bt = torch.zeros((len(rows), width), dtype=torch.int64)
    for index, row in enumerate(rows):
        ids_bt[index, width - len(row) :] = torch.tensor(row)
        attention_bt[index, width - len(row) :] = 1
    return ids_bt, attention_bt
