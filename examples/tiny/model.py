"""The demo's base model: a two-layer Llama of 0.7 million parameters, made on the spot.

Shapes that real engines accept (heads of 64, vLLM among them), a byte-level BPE with a chat template, safetensors.
It is pre-trained for some seconds on `corpus.generic`: a LoRA adapter cannot teach a random model to speak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples.tiny.corpus import SYSTEM, Messages, generic

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
VOCABULARY = 1024


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the generic corpus: every text can be written, most words are one or two tokens."""
    rng = Random(seed)  # noqa: S311 - texts, not secrets
    texts = [SYSTEM] + [message["content"] for _ in range(2000) for message in generic(rng)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[PAD, END, *ROLES],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=64,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            dtype="float32",
        )
    )
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def pretrain(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    steps: int,
    batch: int = 32,
    peak_lr: float = 3e-3,
    report: Callable[[int, float], None],
) -> None:
    """Next-token prediction on the generic corpus, linear warm-up and cosine decay."""
    rng = Random(seed)  # noqa: S311
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, weight_decay=0.01)
    model.train()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * min(1.0, step / 20) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / steps)))
        inputs = tokenizer(
            [_text(tokenizer, generic(rng)) for _ in range(batch)],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        )
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        loss = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        report(step, float(loss.detach()))
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _text(tokenizer: PreTrainedTokenizerFast, messages: Messages) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False))
