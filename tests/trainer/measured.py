"""The real peak of a training step of random Llamas, taken on a CPU, beside the estimate's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import rows_per_record
from finetune_api.parallelism import StrategyName
from finetune_api.training import ActivationCheckpointing
from finetune_artifacts import open_store
from finetune_trainer.engine import model as models
from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.strategy.ddp import DDP
from finetune_trainer.model.estimate.memory import Parts, memory
from finetune_trainer.model.estimate.setting import Setting
from finetune_trainer.model.inspect import inspect_model
from finetune_trainer.objectives import choose as objectives
from finetune_trainer.objectives.distill import Distill, load_teacher
from tests.trainer import small
from tests.trainer.live import Live


@dataclass(frozen=True)
class Case:
    hidden: int = 256
    layers: int = 4
    inner: int = 704
    heads: int = 4
    keys: int = 4
    vocabulary: int = 2048
    length: int = 256
    micro_batch: int = 2
    accumulation: int = 1
    full: bool = False
    rank: int = 8
    targets: str = "AllLinear"
    precision: str = "FP32"
    recompute: str = "None"
    distill: str | None = None
    """Its loss; the teacher is as large as the student."""
    weight: str = "1"
    objective: str | None = None
    """DPO, Reward, Classification, GRPO or PPO."""
    top_k: int | None = None
    """By so many answers of a teacher instead of the teacher."""

    def __str__(self) -> str:
        method = "Full" if self.full else f"LoRA r{self.rank} {self.targets}"
        return (
            f"{method}, {self.precision}, hidden {self.hidden}, {self.layers} layers, {self.heads}/{self.keys} heads, "
            f"inner {self.inner}, vocabulary {self.vocabulary}, {self.micro_batch}x{self.length} tokens, "
            f"accumulation {self.accumulation}"
            + (f", activations computed again ({self.recompute})" if self.recompute != "None" else "")
            + (f", distilled by {self.distill} with weight {self.weight}" if self.distill else "")
            + (f", {self.objective}" if self.objective else "")
            + (f" from {self.top_k} answers" if self.top_k else "")
        )


def save(case: Case, folder: Path) -> Path:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        intermediate_size=case.inner,
        num_hidden_layers=case.layers,
        num_attention_heads=case.heads,
        num_key_value_heads=case.keys,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(folder)
    return folder


def spec_of(case: Case, root: Path) -> FineTuneJobSpec:
    lora = {"rank": case.rank, "targetModules": case.targets.split(",")}
    method: dict[str, Any] = small.FULL if case.full else {"type": "LoRA", "lora": lora}
    changes: dict[str, Any] = {
        "method": method,
        "data": {"maxLength": case.length},
        "training": {"precision": case.precision},
    }
    if case.distill:
        source = {"topK" if case.top_k else "teacher": {"uri": f"file://{root}/base"}}
        settings = {**source, "loss": case.distill, "weight": case.weight}
        changes["objective"] = {"type": "Distill", "distill": settings}
    if case.objective:
        changes["objective"] = {"type": case.objective}
    if case.objective == "Classification":
        changes["objective"]["classification"] = {"labels": ["no", "yes"]}
    if case.objective == "GRPO":
        changes["objective"]["grpo"] = {"rewards": [{"type": "Number"}], "generations": 4, "beta": "0.1"}
    if case.objective == "PPO":
        changes["objective"]["ppo"] = {"rewards": [{"type": "Number"}], "generations": 4}
    return small.config(root, changes).spec


def estimated(case: Case, root: Path) -> Parts:
    store = open_store(f"file://{root / 'base'}")
    setting = Setting(
        StrategyName.DDP,
        world=1,
        shards=1,
        offload=False,
        micro_batch=case.micro_batch,
        accumulation=case.accumulation,
        length=case.length,
        recompute=ActivationCheckpointing(case.recompute),
    )
    model = inspect_model(store, list(store.list()))
    return memory(
        replace(model, teacher=model if case.distill and not case.top_k else None), spec_of(case, root), setting
    )


def answered(batch: Batch, k: int, vocabulary: int) -> Batch:
    targets = batch.ids_bt.numel() - len(batch.ids_bt)
    said_nk = torch.log_softmax(torch.randn(targets, k + 1), dim=-1)
    return replace(batch, taught_nk=torch.arange(k).expand(targets, k) % vocabulary, taught_log_probs_nk=said_nk)


def measured(case: Case, root: Path) -> int:
    """Needs a process group. The second step: the first makes the moments."""
    spec, cpu = spec_of(case, root), torch.device("cpu")
    live = Live()
    with live:
        strategy = DDP(
            spec,
            models.build(spec, root / "base", cpu, models.Form(recompute=ActivationCheckpointing(case.recompute))),
            cpu,
        )
        live.count(strategy.model.parameters())
        live.count(strategy.model.buffers())
        objective = objectives.choose(spec)
        if isinstance(objective, Distill) and not case.top_k:
            objective.teacher = load_teacher(spec, root / "base", case.vocabulary, cpu)
            live.count(objective.teacher.parameters())
        for _ in range(2):
            live.peak = live.now
            for index in range(case.accumulation):
                ids = torch.randint(case.vocabulary, (case.micro_batch * rows_per_record(spec), case.length))
                batch = Batch(ids, torch.ones_like(ids), torch.ones_like(ids, dtype=torch.bool))
                if case.top_k:
                    batch = answered(batch, case.top_k, case.vocabulary)
                if case.objective == "DPO" and case.full:
                    batch = replace(batch, reference_b=torch.zeros(len(ids)))
                if case.objective == "Classification":
                    batch = replace(batch, classes_bc=torch.eye(2)[torch.arange(len(ids)) % 2])
                if case.objective in ("GRPO", "PPO"):
                    batch = replace(batch.located(), rewards_bf=torch.arange(float(len(ids)))[:, None])
                if case.objective == "PPO":
                    assert batch.labels_n is not None
                    batch = replace(batch, rollout_kn=torch.zeros(5, len(batch.labels_n)))
                with strategy.precision():
                    loss = objective.sums(strategy.model, batch).loss
                strategy.backward(loss, last=index == case.accumulation - 1)
            strategy.update(1e-4, 1.0, strategy.norm())
    return live.peak
