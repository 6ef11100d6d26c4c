"""A base model, a tokenizer and a data set, small enough for tests and real enough to learn: made here, never fetched.

The task: route a customer's message to its queue. The base model is random and knows nothing; the queue follows from
one word of the message, so a tiny model learns it in seconds and held-out messages show it.
Everything is a function of the seed.
"""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUEUES = {
    "billing": ("invoice", "refund", "payment", "charge", "receipt", "price"),
    "shipping": ("parcel", "delivery", "courier", "package", "address", "tracking"),
    "account": ("password", "login", "profile", "email", "username", "security"),
    "repairs": ("screen", "battery", "charger", "keyboard", "speaker", "camera"),
}
OPENINGS = ("Hello,", "Hi,", "Good morning,", "Dear team,", "Please help,", "Hey,", "Greetings,", "Excuse me,")
MIDDLES = ("my {} is wrong.", "I ask about my {}.", "the {} does not work.", "where is the {}?", "please check my {}.",
           "nobody answers about the {}.", "I need a new {}.", "can you explain the {}?")  # fmt: skip
CLOSINGS = ("Thanks.", "It is urgent.", "Please reply.", "Best wishes.", "I have waited for days.")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Tiny:
    model: Path
    data: Path


def messages(seed: int = 0) -> list[tuple[str, str]]:
    """(message, queue), shuffled; 1,920 of them."""
    found = [
        (f"{opening} {middle.format(word)} {closing}", queue)
        for (queue, words), opening, middle, closing in itertools.product(QUEUES.items(), OPENINGS, MIDDLES, CLOSINGS)
        for word in words
    ]
    random.Random(seed).shuffle(found)
    return found[: 4 * 480]


def record(message: str, queue: str, data_format: str = "PromptCompletion") -> dict[str, Any]:
    prompt = f"Message: {message} Queue:"
    if data_format == "Messages":
        return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": queue}]}
    if data_format == "Alpaca":
        return {"instruction": "Route the message.", "input": message, "output": queue}
    return {"prompt": prompt, "completion": f" {queue}"}


def write_data(path: Path, rows: int = 400, *, seed: int = 0, data_format: str = "PromptCompletion") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = messages(seed)[:rows]
    path.write_text("".join(json.dumps(record(m, q, data_format)) + "\n" for m, q in chosen))
    return path


def write_model(folder: Path, *, seed: int = 0, hidden: int = 128, layers: int = 2, tied: bool = False) -> Path:
    """A Llama of about 0.5 M parameters (2 heads of 64, so that vLLM serves it) with a byte-level BPE of 512 tokens."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"Message: {m} Queue: {q}" for m, q in messages(seed)), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=512
    )
    fast.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=512,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=tied,
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def build(folder: Path, *, rows: int = 400, seed: int = 0, data_format: str = "PromptCompletion") -> Tiny:
    model = write_model(folder / "model", seed=seed)
    return Tiny(model, write_data(folder / "data" / "train.jsonl", rows, seed=seed, data_format=data_format))


if __name__ == "__main__":
    import sys

    print(build(Path(sys.argv[1])))
