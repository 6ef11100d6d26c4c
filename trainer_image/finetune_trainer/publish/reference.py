"""The trainer's own answers to the fixed prompts: what every engine that serves the model must agree with.

Computed from the exported folder as transformers loads it, in float32, one prompt at a time: no padding that an
engine would not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from finetune_api.served import ChatMessage, ReferencePrompt, ServedReference
from finetune_trainer.common import log
from finetune_trainer.publish.prompts import CHATS, TEXTS

MAX_TOKENS = 128
NEW_TOKENS = 8


def make_reference(model: Any, tokenizer: Any, device: torch.device, *, pad_id: int) -> ServedReference:
    """Prompts are cut to what the model has positions for. Raises ValueError when it has room for none."""
    import transformers

    room = min(MAX_TOKENS, _positions(model) - NEW_TOKENS)
    prompts = []
    for text, messages, ids in _tokenized(tokenizer):
        row = ids[:room]
        if len(row) < 2:
            continue
        continuation, written = _greedy(model, row, device, tokenizer.eos_token_id, pad_id)
        prompts.append(
            ReferencePrompt(
                text=text,
                messages=messages,
                token_ids=row,
                logprobs=_logprobs(model, row, device),
                continuation=continuation,
                continuation_logprobs=written,
            )
        )
    if not prompts:
        raise ValueError(f"the model has positions for {_positions(model)} tokens: too few for any prompt")
    return ServedReference(prompts=prompts, transformers=transformers.__version__)


def _tokenized(tokenizer: Any) -> Iterator[tuple[str | None, list[ChatMessage] | None, list[int]]]:
    for text in TEXTS:
        yield text, None, [int(token) for token in tokenizer(text)["input_ids"]]
    if tokenizer.chat_template is None:
        return
    from jinja2 import TemplateError

    for chat in CHATS:
        messages = [message.to_wire() for message in chat]
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            log.warning("the chat template refuses a prompt of the served check; it is left out", cause=str(error))
            continue
        yield None, list(chat), [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def _logprobs(model: Any, row: list[int], device: torch.device) -> list[float]:
    ids = torch.tensor(row, device=device)
    with torch.inference_mode():
        log_p_tv = model(input_ids=ids.unsqueeze(0)).logits[0, :-1].float().log_softmax(-1)
        return [float(value) for value in log_p_tv.gather(-1, ids[1:].unsqueeze(-1)).squeeze(-1).cpu()]


def _greedy(
    model: Any, row: list[int], device: torch.device, eos_id: int | None, pad_id: int
) -> tuple[list[int], list[float]]:
    from transformers import GenerationConfig

    ids = torch.tensor([row], device=device)
    greedy = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=NEW_TOKENS, eos_token_id=eos_id, pad_token_id=pad_id
    )
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            generation_config=greedy,
            output_logits=True,
            return_dict_in_generate=True,
        )
    written = [int(token) for token in made.sequences[0, len(row) :].tolist()]
    logprobs = [
        float(logits[0].float().log_softmax(-1)[token]) for token, logits in zip(written, made.logits, strict=True)
    ]
    return written, logprobs


def _positions(model: Any) -> int:
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or MAX_TOKENS + NEW_TOKENS)
