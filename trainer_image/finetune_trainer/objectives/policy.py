"""Learning from rewards of answers that the model writes itself: GRPO (Shao et al. 2024, "DeepSeekMath", equation 3),
without its two biases (Dr. GRPO, Liu et al. 2025, "Understanding R1-Zero-Like Training", section 3.2), and RLOO
(Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization").

Each prompt of a batch is answered anew by the model of that step, and one update is made of it: so the ratio to the
model that wrote is 1, with a gradient, and nothing has to be clipped. What is drawn follows from the place in the data
order alone, so a resumed run writes the same answers.

Legend of suffixes: p prompts, g answers to each, b rows (p times g), n tokens of all answers, f reward functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from finetune_api.objective_policy import GRPOLoss, GRPOSettings, PolicySettings, RewardFunction, RewardType
from finetune_trainer.engine.batch import Batch, Examples, collate
from finetune_trainer.engine.loss import summed_by_row, target_logits
from finetune_trainer.engine.order import key
from finetune_trainer.engine.seeding import row_seed
from finetune_trainer.engine.write import Drawn, Tokens, as_text, last_answer, stop_ids, write
from finetune_trainer.methods.adapters import adapter_off
from finetune_trainer.objectives.advantages import group_relative, leave_one_out
from finetune_trainer.objectives.base import Indices, Sums
from finetune_trainer.objectives.judge import Judge, as_row
from finetune_trainer.objectives.rewards import fits, names

_LOOKED_AT = 256
"""Records whose last tokens say how an answer ends."""
Alive = Callable[[], object]


class Policy:
    """Loss: the sum over prompts of the mean over their answers, divided by the number of prompts."""

    def __init__(self, settings: PolicySettings) -> None:
        self._settings, self._beta = settings, float(settings.beta)
        self._temperature = float(settings.temperature)
        self._weights = [float(function.weight) for function in settings.rewards]
        several = names(settings.rewards) if len(settings.rewards) > 1 else ()
        self.rewarded = ("reward", *several)
        self.parts: tuple[str, ...] = (*self.rewarded, "completionTokens", "rewardStd", "kl")
        self._tokenizer: Any = None
        self._stops: list[int] = []
        self._pad = 0
        self._judge: Judge | None = None

    def equip(self, tokenizer: Any, examples: Examples, pad_id: int, judge: Judge | None = None) -> None:
        """Before the first batch; with the judge where a reward is a model's."""
        self._tokenizer, self._pad, self._judge = tokenizer, pad_id, judge
        self._stops = stop_ids([examples[i] for i in range(min(len(examples), _LOOKED_AT))], tokenizer)

    def weight(self, examples: Examples, indices: Indices) -> int:
        return len(indices)

    def collate(self, examples: Examples, indices: Indices, pad_id: int) -> Batch:
        """The records as they are: prompts with their own answers, which nobody learns to write."""
        return collate(examples, indices, pad_id)

    def sample(self, model: nn.Module, batch: Batch, alive: Alive) -> Batch:
        """The rows that the loss is taken of, with their rewards; `batch` as `collate` gives it."""
        count = self._settings.generations
        asked = [(prompt, reference) for prompt, reference in self._asked(batch) for _ in range(count)]
        seeds = [key(row_seed(row), answer) for row in range(len(batch.ids_bt)) for answer in range(count)]
        drawn = Drawn(seeds, self._temperature)
        answers = self._write(model, [prompt for prompt, _ in asked], batch.ids_bt.device, alive, drawn)
        rows = [as_row(prompt, answer) for (prompt, _), answer in zip(asked, answers, strict=True)]
        found = collate(rows, range(len(rows)), self._pad).to(batch.ids_bt.device)
        return replace(found, rewards_bf=self._rewards(asked, answers, batch.ids_bt.device))

    def judge(self, model: nn.Module, batch: Batch, alive: Alive) -> Sums:
        """Of the likeliest answer to each prompt. The loss is the reward with the other sign: what training lowers."""
        asked = self._asked(batch)
        answers = self._write(model, [prompt for prompt, _ in asked], batch.ids_bt.device, alive, None)
        rewards_bf = self._rewards(asked, answers, batch.ids_bt.device)
        tokens = torch.tensor(float(sum(map(len, answers))), device=rewards_bf.device)
        shown = self._shown(rewards_bf)
        unknown = [torch.full_like(tokens, torch.nan)] * (len(self.parts) - len(shown) - 1)
        return Sums(-shown[0].sum(), (*(part_b.sum() for part_b in shown), tokens, *unknown))

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        """`batch` as `sample` gives it. The loss has the gradient of `compare`'s, and for its value the reward with the
        other sign: a value of `compare` is near 0 whatever the model has learned."""
        assert batch.rewards_bf is not None
        log_probs_n = self._log_probs(model, batch)
        base_n = None
        if self._beta:
            with torch.no_grad(), adapter_off(model) as base:
                base_n = self._log_probs(base, batch)
        return as_reward(self.compare(log_probs_n, base_n, batch.row_n, batch.rewards_bf))

    def compare(
        self, log_probs_n: torch.Tensor, base_n: torch.Tensor | None, row_n: torch.Tensor, rewards_bf: torch.Tensor
    ) -> Sums:
        """From log-likelihoods of the answers' tokens under the model and under the base; `row_n`: whose they are."""
        group = self._settings.generations
        by_row = partial(summed_by_row, row_n=row_n, rows=len(rewards_bf))

        tokens_b = by_row(torch.ones_like(log_probs_n)).clamp(min=1)
        shown = self._shown(rewards_bf)
        rewards_pg = shown[0].reshape(-1, group)
        ratio_n = torch.exp(log_probs_n - log_probs_n.detach())
        if isinstance(self._settings, GRPOSettings):
            dr = self._settings.loss is GRPOLoss.DR_GRPO
            advantages_b = group_relative(rewards_pg, scaled=not dr).reshape(-1)
            kl_n = _kl(log_probs_n, base_n)
            # With the ratio the estimate has the gradient of the divergence (DeepSeek-AI 2025, "DeepSeek-V3.2", 3.1).
            loss_b = by_row(ratio_n * (self._beta * kl_n - advantages_b[row_n]))
            loss_b = loss_b / (self._settings.max_new_tokens if dr else tokens_b)
            kl_b = by_row(kl_n.detach()) / tokens_b
        else:
            away_b = by_row(log_probs_n.detach() - base_n) if base_n is not None else torch.zeros_like(tokens_b)
            kl_b = away_b / tokens_b
            advantages_b = leave_one_out(rewards_pg - self._beta * away_b.reshape(-1, group)).reshape(-1)
            log_prob_b = by_row(log_probs_n)
            loss_b = -advantages_b * torch.exp(log_prob_b - log_prob_b.detach())
        std_b = rewards_pg.std(1, keepdim=True).expand_as(rewards_pg).reshape(-1)
        parts = (*shown, tokens_b, std_b, kl_b)
        return Sums(loss_b.sum() / group, tuple(part_b.sum() / group for part_b in parts))

    def _shown(self, rewards_bf: torch.Tensor) -> list[torch.Tensor]:
        """(b,): the reward, and where it has several parts each of them."""
        weighted_bf = rewards_bf * torch.tensor(self._weights, device=rewards_bf.device)
        several = rewards_bf.shape[1] > 1
        return [weighted_bf.sum(1), *(rewards_bf.unbind(1) if several else ())]

    def _log_probs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return chosen(target_logits(model, batch) / self._temperature, batch)

    def _asked(self, batch: Batch) -> list[tuple[Tokens, str]]:
        """Every record's prompt, and its own answer as text."""
        found = []
        for ids, targets in zip(batch.ids_bt.tolist(), batch.targets_bt.cpu().numpy(), strict=True):
            start, end = last_answer(targets)
            found.append((ids[:start], as_text(self._tokenizer, ids[start:end])))
        return found

    def _write(
        self, model: nn.Module, prompts: Sequence[Tokens], device: torch.device, alive: Alive, drawn: Drawn | None
    ) -> list[Tokens]:
        return write(
            model,
            prompts,
            stops=self._stops,
            max_new_tokens=self._settings.max_new_tokens,
            pad_id=self._pad,
            device=device,
            drawn=drawn,
            alive=alive,
        )

    def _rewards(
        self, asked: Sequence[tuple[Tokens, str]], answers: Sequence[Tokens], device: torch.device
    ) -> torch.Tensor:
        """fp32 (b, f)."""
        texts = [as_text(self._tokenizer, answer) for answer in answers]

        def given(function: RewardFunction) -> torch.Tensor:
            if function.type is RewardType.MODEL:
                assert self._judge is not None, "nobody has loaded the reward model"
                return self._judge.scores([prompt for prompt, _ in asked], answers, device)
            fitting = [fits(function, text, reference) for text, (_, reference) in zip(texts, asked, strict=True)]
            return torch.tensor(fitting, dtype=torch.float32, device=device)

        return torch.stack([given(function) for function in self._settings.rewards], dim=1)


def as_reward(sums: Sums) -> Sums:
    """With the loss's gradient, and for its value the reward, the first part, with the other sign."""
    return replace(sums, loss=sums.loss - sums.loss.detach() - sums.parts[0])


def chosen(logits_nv: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(n,): log-likelihoods of the tokens that were written, of the distribution that they were drawn from."""
    assert batch.labels_n is not None
    return -nn.functional.cross_entropy(logits_nv, batch.labels_n, reduction="none")


def _kl(log_probs_n: torch.Tensor, base_n: torch.Tensor | None) -> torch.Tensor:
    """An estimate that is never below 0 (Schulman 2020, "Approximating KL Divergence", k3)."""
    if base_n is None:
        return torch.zeros_like(log_probs_n)
    away_n = base_n - log_probs_n
    return torch.exp(away_n) - away_n - 1
