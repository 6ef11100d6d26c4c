#!/usr/bin/env python3
"""Makes the demo's base model and data: no hub, no download, the same for the same seed.

    python examples/tiny/generate.py --out /tmp/tiny

writes

    /tmp/tiny/base/         a Hugging Face model directory (Llama, 0.7 M parameters, safetensors, chat template)
    /tmp/tiny/train.jsonl   support tickets with the triage answer to learn (Messages)
    /tmp/tiny/test.jsonl    held-out tickets, none of them among the training records
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to (created)")
    parser.add_argument("--seed", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--train", type=int, default=1000, metavar="N", help="training records (default: %(default)s)")
    parser.add_argument("--test", type=int, default=64, metavar="N", help="held-out records (default: %(default)s)")
    parser.add_argument(
        "--pretrain-steps", type=int, default=300, metavar="N", help="of the base model (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    options = parser.parse_args()
    if options.train < 1 or options.test < 1 or options.pretrain_steps < 0:
        parser.error("--train and --test must be at least 1, --pretrain-steps at least 0")

    write_data(options.out, seed=options.seed, train=options.train, test=options.test)
    print(f"data   {options.train} training and {options.test} held-out records in {options.out}")

    import torch

    from examples.tiny.model import build_model, build_tokenizer, pretrain, save

    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    started = time.monotonic()
    tokenizer = build_tokenizer(options.seed)
    model = build_model(tokenizer, options.seed)

    def report(step: int, loss: float) -> None:
        if step % 50 == 0 or step == options.pretrain_steps:
            print(
                f"model  pre-training step {step}/{options.pretrain_steps}, loss {loss:.3f}, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )

    pretrain(model, tokenizer, seed=options.seed, steps=options.pretrain_steps, report=report)
    save(model, tokenizer, options.out / "base")
    print(f"model  {model.num_parameters():,} parameters in {options.out / 'base'}")
    return 0


def write_data(folder: Path, *, seed: int, train: int, test: int) -> None:
    from examples.tiny.corpus import distinct_triage

    folder.mkdir(parents=True, exist_ok=True)
    records = list(distinct_triage(seed, train + test))
    for name, part in (("test.jsonl", records[:test]), ("train.jsonl", records[test:])):
        lines = (json.dumps({"messages": messages}, ensure_ascii=False) + "\n" for messages in part)
        (folder / name).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
