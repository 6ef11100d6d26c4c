"""As exact.py, with other objectives than SFT. Run by test_objectives_resume.py, once per rank."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tests.trainer import tiny
from tests.trainer.exact import FULL, LORA, Ranks
from tests.trainer.preferences import write_manners, write_preferences, write_ratings, write_texts

SEEDS = (1, 2, 3)
FSDP = {"parallelism": {"strategy": "FSDP"}}
DPO = {"objective": {"type": "DPO", "dpo": {"beta": "0.5"}}}
KTO = {"objective": {"type": "KTO", "kto": {"beta": "0.5"}}}
REWARD = {"objective": {"type": "Reward"}}
PRETRAIN = {"objective": {"type": "Pretrain"}}


def data(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    source = {"uri": f"file://{folder / 'tiny' / 'data' / name}.jsonl"}
    return {"data": {"train": [source], "maxLength": 64, "validation": {"percent": 20}, **changes}}


def rated(folder: Path, name: str) -> dict[str, Any]:
    found = data(folder, name)
    found["data"]["train"][0]["format"] = "Preference"
    return found


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    os.environ["LOCAL_RANK"] = "0"
    ranks = Ranks(folder, rank, [int(port) for port in sys.argv[2:]])
    ranks.phase(2)
    if rank == 0:
        tiny.write_model(folder / "tiny" / "model")
        write_preferences(folder / "tiny" / "data" / "pairs.jsonl", 28)
        write_manners(folder / "tiny" / "data" / "many.jsonl", 160)
        write_ratings(folder / "tiny" / "data" / "rated.jsonl", 28)
        write_ratings(folder / "tiny" / "data" / "judged.jsonl", 160)
        write_texts(folder / "tiny" / "data" / "texts.jsonl", 48)
    ranks.agreement.barrier()
    pairs, texts = data(folder, "pairs"), data(folder, "texts")
    lora, full, text = {**LORA, **DPO, **pairs}, {**FULL, **DPO, **pairs}, {**LORA, **PRETRAIN, **texts}
    ranks.train("dpo-whole", 1, lora)
    ranks.train("dpo-middle", 1, lora, stop=(4, 1))
    ranks.train("dpo-middle", 2, lora)
    ranks.train("full-whole", 1, full)
    ranks.train("full-middle", 1, full, stop=(4, 0))
    ranks.train("full-middle", 2, full)
    ranks.train("fsdp-whole", 1, {**full, **FSDP})
    ranks.train("text-whole", 1, text)
    ranks.train("text-middle", 1, text, stop=(4, 0))
    ranks.train("text-middle", 2, text)
    ranks.train("shrink", 1, full, stop=(5, 1))
    kto = {**LORA, **KTO, **rated(folder, "rated")}
    kto_full = {**kto, **FULL}
    # Without dropout, whose draws follow from how a batch is cut.
    kto_still = {**kto, "method": {"type": "LoRA", "lora": {"rank": 4, "alpha": 8}}}
    ranks.train("kto-whole", 1, kto)
    ranks.train("kto-middle", 1, kto, stop=(4, 1))
    ranks.train("kto-middle", 2, kto)
    ranks.train("kto-full-whole", 1, kto_full)
    ranks.train("kto-full-middle", 1, kto_full, stop=(4, 0))
    ranks.train("kto-full-middle", 2, kto_full)
    ranks.train("kto-fsdp-whole", 1, {**kto_full, **FSDP})
    ranks.train("kto-still", 1, kto_still)
    ranks.train("kto-micro", 1, {**kto_still, "training": {"microBatchSize": 4}})
    ranks.train("kto-shrink", 1, kto, stop=(5, 1))
    reward, reward_full = {**LORA, **REWARD, **pairs}, {**FULL, **REWARD, **pairs}
    ranks.train("reward-whole", 1, reward)
    ranks.train("reward-middle", 1, reward, stop=(4, 1))
    ranks.train("reward-middle", 2, reward)
    ranks.train("reward-full-whole", 1, reward_full)
    ranks.train("reward-full-middle", 1, reward_full, stop=(4, 0))
    ranks.train("reward-full-middle", 2, reward_full)
    ranks.train("reward-shrink", 1, reward_full, stop=(5, 1))
    if ranks.phase(1):
        ranks.train("shrink", 2, full)
        ranks.train("grow", 1, lora, stop=(5, 0))
        for seed in SEEDS:
            training = {"seed": seed, "maxSteps": 12, "learningRate": "2e-3", "microBatchSize": 8}
            ranks.train(f"toy-{seed}", 1, {**lora, **data(folder, "many"), "training": training})
            ranks.train(f"kto-toy-{seed}", 1, {**kto, **rated(folder, "judged"), "training": training})
            ranks.train(f"reward-toy-{seed}", 1, {**reward, **data(folder, "many"), "training": training})
        ranks.train("kto-shrink", 2, kto)
        ranks.train("reward-shrink", 2, reward_full)
    ranks.phase(2)
    ranks.train("grow", 2, lora)
    if rank == 0:
        (folder / "results.json").write_text(json.dumps(ranks.results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
