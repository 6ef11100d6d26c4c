"""One rank of the runs whose losses are stored: tiny model, FP32, fixed seed, on one and on two ranks.

Run by test_golden_losses.py, once per rank, as `python golden.py <folder>` with RANK set.
"""

from __future__ import annotations

import json

import torch.distributed as dist

from tests.trainer import tiny
from tests.trainer.exact import FULL, LORA, Ranks


def main() -> None:
    ranks = Ranks.started()
    folder, rank = ranks.folder, ranks.rank
    ranks.phase(2)
    if rank == 0:
        tiny.write_model(folder / "tiny" / "model")
        tiny.write_data(folder / "tiny" / "data" / "train.jsonl", 20)
    ranks.agreement.barrier()
    ranks.train("lora-2-ranks", 1, LORA)
    ranks.train("full-2-ranks", 1, FULL)
    if ranks.phase(1):
        ranks.train("lora-1-rank", 1, LORA)
        ranks.train("full-1-rank", 1, FULL)
        losses = {run.removesuffix("-1"): list(found["losses"].values()) for run, found in ranks.results.items()}
        (folder / "losses.json").write_text(json.dumps(losses))
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
