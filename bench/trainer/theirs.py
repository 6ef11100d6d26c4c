"""TRL's SFTTrainer over a task; prints one line of JSON. `python -m bench.trainer.theirs FOLDER TASK`

Same model, data, batch, precision, method, schedule and length; neither side has gradient checkpointing, evaluation,
saving or reporting.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.trainer.task import Task


def main() -> None:
    folder, task = Path(sys.argv[1]), Task(**json.loads(sys.argv[2]))
    warnings.filterwarnings("ignore")
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    records = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    times: list[float] = []
    tokens: list[int] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = perf_counter()

        def on_step_end(self, _arguments: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step > task.warm:
                times.append(perf_counter() - self.began)

    class Counted(SFTTrainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            if self.state.global_step >= task.warm:
                ids = inputs["input_ids"]
                mask = inputs.get("attention_mask")
                tokens.append(int(ids.numel() if mask is None else mask.sum()))
            return super().compute_loss(model, inputs, *rest, **more)

    with tempfile.TemporaryDirectory() as out:
        trainer = Counted(
            model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype="float32", attn_implementation="sdpa"),
            processing_class=AutoTokenizer.from_pretrained(folder / "model"),
            train_dataset=Dataset.from_list(records),
            peft_config=None
            if task.method == "FullFineTune"
            else LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Clock()],
            args=SFTConfig(
                output_dir=out,
                max_steps=task.steps,
                per_device_train_batch_size=task.batch,
                gradient_accumulation_steps=1,
                learning_rate=float(task.learning_rate),
                lr_scheduler_type="cosine",
                warmup_steps=1,
                weight_decay=0.0,
                max_grad_norm=1.0,
                optim="adamw_torch",
                bf16=task.precision == "BF16",
                max_length=task.max_length,
                packing=task.packing,
                completion_only_loss=True,
                gradient_checkpointing=False,
                torch_compile=task.compiled,
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                seed=0,
            ),
        )
        trainer.train()
    print(json.dumps({"seconds": sum(times), "tokens": sum(tokens)}))


if __name__ == "__main__":
    main()
