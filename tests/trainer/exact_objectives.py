"""As exact.py, with other objectives than SFT. Run by test_objectives_resume.py, once per rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from finetune_api.objective import Head
from finetune_trainer.engine.model import load_base
from tests.trainer import tiny
from tests.trainer.exact import FULL, LORA, Ranks
from tests.trainer.preferences import (
    classification,
    write_labeled,
    write_manners,
    write_preferences,
    write_ratings,
    write_texts,
)

SEEDS = (1, 2, 3)
FSDP = {"parallelism": {"strategy": "FSDP"}}
DPO = {"objective": {"type": "DPO", "dpo": {"beta": "0.5"}}}
KTO = {"objective": {"type": "KTO", "kto": {"beta": "0.5"}}}
REWARD = {"objective": {"type": "Reward"}}
CLASSES = {"objective": classification(classWeights={"billing": "2"})}
PRETRAIN = {"objective": {"type": "Pretrain"}}


def policy(kind: str, **fields: Any) -> dict[str, Any]:
    """Learning to use a letter; `generations` are few where only exactness is looked at."""
    rewards = [{"type": "Regex", "pattern": "u"}, {"type": "ExactMatch", "weight": "0.5"}]
    settings = {"rewards": rewards, "generations": 2, "maxNewTokens": 6, **fields}
    return {"objective": {"type": kind, kind.lower(): settings}}


def write_judge(folder: Path) -> None:
    """A reward model: the base with a head that was drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model: Any = load_base(folder / "model", torch.float32, head=Head())
        torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(folder / "judge")


def judged(folder: Path, **fields: Any) -> dict[str, Any]:
    """Learning what a reward model likes."""
    model = {"type": "Model", "model": {"uri": f"file://{folder / 'tiny' / 'judge'}"}}
    return policy("GRPO", rewards=[model], **fields)


def data(folder: Path, name: str, **changes: Any) -> dict[str, Any]:
    source = {"uri": f"file://{folder / 'tiny' / 'data' / name}.jsonl"}
    return {"data": {"train": [source], "maxLength": 64, "validation": {"percent": 20}, **changes}}


def rated(folder: Path, name: str) -> dict[str, Any]:
    found = data(folder, name)
    found["data"]["train"][0]["format"] = "Preference"
    return found


def main() -> None:
    ranks = Ranks.started()
    folder, rank = ranks.folder, ranks.rank
    ranks.phase(2)
    if rank == 0:
        tiny.write_model(folder / "tiny" / "model")
        write_judge(folder / "tiny")
        write_preferences(folder / "tiny" / "data" / "pairs.jsonl", 28)
        write_manners(folder / "tiny" / "data" / "many.jsonl", 160)
        write_ratings(folder / "tiny" / "data" / "rated.jsonl", 28)
        write_ratings(folder / "tiny" / "data" / "judged.jsonl", 160)
        write_labeled(folder / "tiny" / "data" / "labeled.jsonl", 160)
        tiny.write_data(folder / "tiny" / "data" / "asked.jsonl", 28)
        tiny.write_data(folder / "tiny" / "data" / "prompts.jsonl", 80)
        write_texts(folder / "tiny" / "data" / "texts.jsonl", 48)
    ranks.agreement.barrier()
    pairs, texts, asked = (data(folder, name) for name in ("pairs", "texts", "asked"))
    lora, full, text = {**LORA, **DPO, **pairs}, {**FULL, **DPO, **pairs}, {**LORA, **PRETRAIN, **texts}
    ranks.resumed("dpo", lora, stop=(4, 1))
    ranks.resumed("full", full, stop=(4, 0))
    ranks.train("fsdp-whole", 1, {**full, **FSDP})
    ranks.resumed("text", text, stop=(4, 0))
    ranks.train("shrink", 1, full, stop=(5, 1))
    kto = {**LORA, **KTO, **rated(folder, "rated")}
    kto_full = {**kto, **FULL}
    # Without dropout, whose draws follow from how a batch is cut.
    kto_still = {**kto, "method": {"type": "LoRA", "lora": {"rank": 4, "alpha": 8}}}
    ranks.resumed("kto", kto, stop=(4, 1))
    ranks.resumed("kto-full", kto_full, stop=(4, 0))
    ranks.train("kto-fsdp-whole", 1, {**kto_full, **FSDP})
    ranks.train("kto-still", 1, kto_still)
    ranks.train("kto-micro", 1, {**kto_still, "training": {"microBatchSize": 4}})
    ranks.train("kto-shrink", 1, kto, stop=(5, 1))
    reward, reward_full = {**LORA, **REWARD, **pairs}, {**FULL, **REWARD, **pairs}
    ranks.resumed("reward", reward, stop=(4, 1))
    ranks.resumed("reward-full", reward_full, stop=(4, 0))
    ranks.train("reward-shrink", 1, reward_full, stop=(5, 1))
    classes, classes_full = (
        {**LORA, **CLASSES, **data(folder, "labeled")},
        {**FULL, **CLASSES, **data(folder, "labeled")},
    )
    ranks.resumed("classes", classes, stop=(4, 1))
    ranks.resumed("classes-full", classes_full, stop=(4, 0))
    ranks.train("classes-shrink", 1, classes_full, stop=(5, 1))
    grpo, grpo_full = {**LORA, **policy("GRPO", beta="0.1"), **asked}, {**FULL, **policy("GRPO"), **asked}
    rloo = {**LORA, **policy("RLOO", beta="0.1"), **asked}
    ranks.resumed("grpo", grpo, stop=(4, 1))
    ranks.resumed("grpo-full", grpo_full, stop=(4, 0))
    ranks.resumed("rloo", rloo, stop=(4, 1))
    still = {"method": {"type": "LoRA", "lora": {"rank": 4, "alpha": 8}}}
    ppo, ppo_full = {**still, **policy("PPO", beta="0.1"), **asked}, {**FULL, **policy("PPO", updates=3), **asked}
    ranks.resumed("ppo", ppo, stop=(4, 1))
    ranks.resumed("ppo-full", ppo_full, stop=(4, 0))
    ranks.train("ppo-micro", 1, {**ppo_full, "training": {"microBatchSize": 1}})
    ranks.train("ppo-again", 1, {**ppo_full, "training": {"activationCheckpointing": "Full"}})
    ranks.train("ppo-shrink", 1, ppo_full, stop=(5, 1))
    ranks.resumed("judged", {**FULL, **judged(folder), **asked}, stop=(4, 0))
    ranks.train("grpo-micro", 1, {**grpo_full, "training": {"microBatchSize": 1}})
    ranks.train("grpo-again", 1, {**grpo_full, "training": {"activationCheckpointing": "Full"}})
    ranks.train("grpo-shrink", 1, grpo_full, stop=(5, 1))
    if ranks.phase(1):
        ranks.train("shrink", 2, full)
        ranks.train("grow", 1, lora, stop=(5, 0))
        for seed in SEEDS:
            training = {"seed": seed, "maxSteps": 12, "learningRate": "2e-3", "microBatchSize": 8}
            ranks.train(f"toy-{seed}", 1, {**lora, **data(folder, "many"), "training": training})
            ranks.train(f"kto-toy-{seed}", 1, {**kto, **rated(folder, "judged"), "training": training})
            ranks.train(f"reward-toy-{seed}", 1, {**reward, **data(folder, "many"), "training": training})
            ranks.train(f"classes-toy-{seed}", 1, {**classes_full, "training": training})
            trying = {**training, "learningRate": "5e-3"}
            for kind in ("GRPO", "RLOO", "PPO"):
                toy = {**FULL, **policy(kind, generations=8), **data(folder, "prompts"), "training": trying}
                ranks.train(f"{kind.lower()}-toy-{seed}", 1, toy)
            trying = {**training, "maxSteps": 30, "learningRate": "2e-2"}
            toy = {**FULL, **judged(folder, generations=8), **data(folder, "prompts"), "training": trying}
            ranks.train(f"judged-toy-{seed}", 1, toy)
        ranks.train("classes-shrink", 2, classes_full)
        ranks.train("grpo-shrink", 2, grpo_full)
        ranks.train("ppo-shrink", 2, ppo_full)
        ranks.train("kto-shrink", 2, kto)
        ranks.train("reward-shrink", 2, reward_full)
    ranks.phase(2)
    ranks.train("grow", 2, lora)
    ranks.finish()


if __name__ == "__main__":
    main()
