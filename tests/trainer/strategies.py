"""One rank of up to three that train under every strategy, stop and resume, in one process so that imports are paid once.

Run by test_strategy_resume.py, once per rank, as `python strategies.py <folder>` with RANK set. Rank 0 writes
results.json; its keys are `<run>-<attempt>`.
"""

from __future__ import annotations

from typing import Any

from tests.trainer import tiny
from tests.trainer.exact import FULL, LORA, Ranks

STEPS = 6
"""Epochs are of three steps, the last of them so short that the second rank has no record in it."""
GLOBAL_BATCH = 12
ROWS = 31
METHODS: dict[str, dict[str, Any]] = {"lora": LORA, "full": FULL}
STRATEGIES = ("DDP", "FSDP")
ZERO = ("ZeRO1", "ZeRO2", "ZeRO3")
SKIPS = (1, 4)
"""Steps whose update is left out; the first is before the optimizer has any state."""
MICRO = {"plain": 6, "accumulated": 2}
"""Records per micro-batch: all of a rank's share of two, or a third of it."""


def changes(strategy: str, method: str, micro: str = "accumulated", **parallelism: Any) -> dict[str, Any]:
    training = {"maxSteps": STEPS, "globalBatchSize": GLOBAL_BATCH, "microBatchSize": MICRO[micro]}
    return {**METHODS[method], "training": training, "parallelism": {"strategy": strategy, **parallelism}}


def in_bf16(strategy: str, method: str) -> dict[str, Any]:
    wanted = changes(strategy, method)
    return {**wanted, "training": {**wanted["training"], "precision": "BF16"}}


def computed_again(strategy: str, method: str, how: str = "Full") -> dict[str, Any]:
    wanted = changes(strategy, method)
    return {**wanted, "training": {**wanted["training"], "activationCheckpointing": how}}


def stopped_everywhere(ranks: Ranks, run: str, wanted: dict[str, Any]) -> None:
    """Undisturbed, and again as a run of which every step is a life of its own."""
    ranks.train(f"{run}-whole", 1, wanted)
    for step in range(1, STEPS):
        ranks.train(f"{run}-lives", step, wanted, stop=(step, step % 2))
    ranks.train(f"{run}-lives", STEPS, wanted)


def two_ranks(ranks: Ranks) -> None:
    for strategy in STRATEGIES:
        for method in METHODS:
            for micro in MICRO:
                stopped_everywhere(ranks, f"{strategy}-{method}-{micro}", changes(strategy, method, micro))
            ranks.train(f"again-{strategy}-{method}", 1, computed_again(strategy, method))
    ranks.train("selective-FSDP-lora", 1, computed_again("FSDP", "lora", "Selective"))
    ranks.train("offload", 1, changes("FSDP", "lora", offload=True))
    for method in METHODS:
        ranks.train(f"bf16-DDP-{method}", 1, in_bf16("DDP", method))
        ranks.train(f"bf16-whole-{method}", 1, in_bf16("FSDP", method))
        ranks.train(f"bf16-lives-{method}", 1, in_bf16("FSDP", method), stop=(4, 0))
        ranks.train(f"bf16-lives-{method}", 2, in_bf16("FSDP", method))
        ranks.train(f"hybrid-{method}", 1, changes("FSDP", method, hybridShard=True), stop=(3, 1))
        ranks.train(f"hybrid-{method}", 2, changes("FSDP", method, hybridShard=True))
        ranks.train(f"DDP-to-FSDP-{method}", 1, changes("DDP", method), stop=(3, 1))
        ranks.train(f"DDP-to-FSDP-{method}", 2, changes("FSDP", method))
        ranks.train(f"FSDP-to-DDP-{method}", 1, changes("FSDP", method), stop=(4, 0))
        ranks.train(f"FSDP-to-DDP-{method}", 2, changes("DDP", method))
        ranks.train(f"two-to-one-{method}", 1, changes("FSDP", method), stop=(3, 1))
        ranks.train(f"two-to-three-{method}", 1, changes("FSDP", method), stop=(4, 1))


def zero_two_ranks(ranks: Ranks) -> None:
    for strategy in ZERO:
        wanted = changes(strategy, "full")
        ranks.train(f"{strategy}-full-accumulated-whole", 1, wanted)
        for attempt, stop in enumerate([(1, 1), (4, 0), None], start=1):
            ranks.train(f"{strategy}-full-accumulated-lives", attempt, wanted, stop=stop)
    ranks.train("ZeRO3-lora-accumulated-whole", 1, changes("ZeRO3", "lora"))
    ranks.train("ZeRO3-lora-accumulated-lives", 1, changes("ZeRO3", "lora"), stop=(2, 0))
    ranks.train("ZeRO3-lora-accumulated-lives", 2, changes("ZeRO3", "lora"))
    for strategy in ("ZeRO2", "ZeRO3"):
        ranks.train(f"zero-offload-{strategy}", 1, changes(strategy, "full", offload=True), stop=(3, 1))
        ranks.train(f"zero-offload-{strategy}", 2, changes(strategy, "full", offload=True))
    for strategy in ("DDP", "ZeRO2", "ZeRO3"):
        ranks.train(f"skips-{strategy}", 1, changes(strategy, "full"), stop=(1, 0), skip=SKIPS)
        ranks.train(f"skips-{strategy}", 2, changes(strategy, "full"), skip=SKIPS)
    ranks.train("again-ZeRO3-full", 1, computed_again("ZeRO3", "full"))
    ranks.train("bf16-ZeRO3-full", 1, in_bf16("ZeRO3", "full"))
    for before, after in (("ZeRO2", "DDP"), ("DDP", "ZeRO3")):
        ranks.train(f"{before}-to-{after}-full", 1, changes(before, "full"), stop=(3, 1))
        ranks.train(f"{before}-to-{after}-full", 2, changes(after, "full"))
    ranks.train("zero-two-to-one-full", 1, changes("ZeRO2", "full"), stop=(3, 1))
    ranks.train("zero-one-to-two-full", 2, changes("ZeRO3", "full"))


def main() -> None:
    ranks = Ranks.started()
    folder, rank = ranks.folder, ranks.rank
    ranks.phase(3)
    if rank == 0:
        tiny.write_model(folder / "tiny" / "model")
        tiny.write_data(folder / "tiny" / "data" / "train.jsonl", ROWS)
    ranks.agreement.barrier()
    if ranks.phase(1):
        for method in METHODS:
            ranks.train(f"one-to-two-{method}", 1, changes("FSDP", method), stop=(2, 0))
        # Not ZeRO3: DeepSpeed numbers its parameters by process, and compares the numbers over the ranks.
        ranks.train("zero-one-to-two-full", 1, changes("ZeRO2", "full"), stop=(2, 0))
    if ranks.phase(2):
        two_ranks(ranks)
        for method in METHODS:
            ranks.train(f"one-to-two-{method}", 2, changes("FSDP", method))
        zero_two_ranks(ranks)
    if ranks.phase(1):
        for method in METHODS:
            ranks.train(f"two-to-one-{method}", 2, changes("FSDP", method))
        ranks.train("zero-two-to-one-full", 2, changes("ZeRO3", "full"))
    ranks.phase(3)
    for method in METHODS:
        ranks.train(f"two-to-three-{method}", 2, changes("FSDP", method))
    ranks.finish()


if __name__ == "__main__":
    main()
