"""What both trainers are given: a Llama with random weights, a tokenizer, records of random words."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

VOCABULARY = 8192


@dataclass(frozen=True)
class Task:
    method: str = "LoRA"
    precision: str = "FP32"
    packing: bool = False
    compiled: bool = False
    rows: int = 192
    batch: int = 8
    steps: int = 20
    warm: int = 4
    """Of the steps: not counted."""
    hidden: int = 256
    layers: int = 6
    max_length: int = 256
    learning_rate: str = "1e-4"

    @property
    def title(self) -> str:
        rows = "packed" if self.packing else "one record a row"
        return f"{self.method}, {self.precision}, {rows}{', compiled' if self.compiled else ''}"

    def dump(self) -> str:
        return json.dumps(asdict(self))


def write(folder: Path, task: Task) -> None:
    """`folder/model` and `folder/train.jsonl`; the same for the same task."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *(f"w{n}" for n in range(VOCABULARY - 3))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=4096
    )
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=task.hidden,
        intermediate_size=3 * task.hidden,
        num_hidden_layers=task.layers,
        num_attention_heads=task.hidden // 64,
        num_key_value_heads=task.hidden // 64,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    fast.save_pretrained(folder / "model")
    rng = random.Random(0)
    with (folder / "train.jsonl").open("w") as out:
        for _ in range(task.rows):
            prompt, completion = (
                " ".join(f"w{rng.randrange(VOCABULARY - 3)}" for _ in range(rng.randint(*lengths)))
                for lengths in ((16, 160), (16, 64))
            )
            out.write(json.dumps({"prompt": prompt, "completion": f" {completion}"}) + "\n")
