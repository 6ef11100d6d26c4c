"""As exact.py, in FP16 and compiled. Run by test_engine_resume_speed.py, once per rank."""

from __future__ import annotations

import json

import torch
import torch.distributed as dist

from finetune_trainer.engine import loss_scale
from tests.trainer import tiny
from tests.trainer.exact import FULL, LORA, Ranks

FSDP = {"parallelism": {"strategy": "FSDP"}}
FP16 = {"training": {"precision": "FP16"}}
COMPILED = {"training": {"compile": True}}
HUGE = 2.0**19
"""FP16 ends at 2**16: some steps are left out until the scale has come down."""


def two_ranks(ranks: Ranks) -> None:
    ranks.train("fp32", 1, {**LORA, "training": {"precision": "FP32"}})
    ranks.train("fp16-whole", 1, {**LORA, **FP16})
    ranks.train("fp16-middle", 1, {**LORA, **FP16}, stop=(4, 0))
    ranks.train("fp16-middle", 2, {**LORA, **FP16})
    ranks.train("fp16-fsdp-whole", 1, {**FULL, **FSDP, **FP16})
    ranks.train("fp16-fsdp-middle", 1, {**FULL, **FSDP, **FP16}, stop=(4, 1))
    ranks.train("fp16-fsdp-middle", 2, {**FULL, **FSDP, **FP16})
    first, loss_scale.FIRST = loss_scale.FIRST, HUGE
    ranks.train("overflow-whole", 1, {**FULL, **FP16})
    ranks.train("overflow-middle", 1, {**FULL, **FP16}, stop=(3, 1))
    ranks.train("overflow-fsdp", 1, {**FULL, **FSDP, **FP16})
    loss_scale.FIRST = first
    ranks.train("overflow-middle", 2, {**FULL, **FP16})
    ranks.train("fp16-shrink", 1, {**LORA, **FP16}, stop=(5, 1))
    compiled(ranks)


def compiled(ranks: Ranks) -> None:
    """Each attempt compiles for itself, as in a pod of its own."""
    for name, changes in (("compiled", LORA), ("compiled-fsdp", {**FULL, **FSDP})):
        ranks.train(f"{name}-plain", 1, changes)
        for part, attempt, stop in (("whole", 1, None), ("middle", 1, (4, 1)), ("middle", 2, None)):
            torch._dynamo.reset()
            ranks.train(f"{name}-{part}", attempt, {**changes, **COMPILED}, stop=stop)


def main() -> None:
    ranks = Ranks.started()
    folder, rank = ranks.folder, ranks.rank
    ranks.phase(2)
    if rank == 0:
        tiny.write_model(folder / "tiny" / "model")
        tiny.write_data(folder / "tiny" / "data" / "train.jsonl", 20)
    ranks.agreement.barrier()
    two_ranks(ranks)
    if ranks.phase(1):
        ranks.train("fp16-shrink", 2, {**LORA, **FP16})
        dist.destroy_process_group()
    if rank == 0:
        (folder / "results.json").write_text(json.dumps(ranks.results))


if __name__ == "__main__":
    main()
