"""Progress, agreed stops and validated resume for a plain Hugging Face Trainer (and TRL's) in any image:

    from finetune_trainer.integrations.hf import FinetuneCallback, resume_from
    trainer = SFTTrainer(..., callbacks=[FinetuneCallback()])
    trainer.train(resume_from_checkpoint=resume_from())

The Trainer's own checkpoint on SIGTERM deadlocks when the ranks get the signal at different times. Here every rank
looks at the end of each optimizer step, all take the maximum over a gloo group of their own, and so stop together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from finetune_trainer.integrations.script import Script, resume_from

__all__ = ["FinetuneCallback", "resume_from"]


class FinetuneCallback(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.script, self.group, self.saves, self.stopping = Script.here(), None, 0, False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.save_only_model:
            raise ValueError("save_only_model leaves out the optimizer: such a checkpoint cannot be resumed; unset it")
        self.group = dist.new_group(backend="gloo") if dist.is_initialized() and dist.get_world_size() > 1 else None
        self.script.begin(step=state.global_step, total_steps=state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.script.report(step=state.global_step, epoch=float(state.epoch or 0))
        asked = torch.tensor([int(value) for value in self.script.asked()])
        if self.group is not None:
            dist.all_reduce(asked, op=dist.ReduceOp.MAX, group=self.group)
        stop, saves = asked.tolist()
        self.stopping = (
            bool(stop) and state.global_step < state.max_steps
        )  # after the last step nothing is left to stop
        control.should_training_stop = control.should_training_stop or self.stopping
        control.should_save = control.should_save or self.stopping or saves > self.saves
        self.saves = saves

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.script.alive()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.script.alive()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        named = {"loss": "loss", "eval_loss": "evalLoss"}
        self.script.report(**{named[name]: float(value) for name, value in (logs or {}).items() if name in named})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.group is not None:
            dist.barrier(self.group)  # ranks write files of their own into the folder
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.script.saved(state.global_step, folder, seed=args.seed)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.stopping:
            self.script.stopped(state.global_step)
