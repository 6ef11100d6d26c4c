"""Proximal policy optimisation (Schulman et al. 2017) of a model that writes, as Ouyang et al. 2022 ("Training language
models to follow instructions with human feedback") and Stiennon et al. 2020 do it: an answer's reward comes with its
last token, at every token the distance from the base is taken off, and a head of the model's own foresees the sum.

All answers of a step are written before its first update and learned from several times. What they were worth then does
not change, so a step is whole or has not been: a resumed run begins one anew, and writes the same answers.

Legend of suffixes: p prompts, b rows (answers), n tokens of all answers, f reward functions, k what is kept of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from finetune_api.objective_ppo import PPOSettings
from finetune_trainer.engine.batch import Batch
from finetune_trainer.engine.loss import summed_by_row
from finetune_trainer.engine.mode import answering
from finetune_trainer.engine.value import logits_and_values
from finetune_trainer.methods.adapters import adapter_off
from finetune_trainer.objectives.advantages import generalised, whitened
from finetune_trainer.objectives.base import Sums
from finetune_trainer.objectives.policy import Alive, Policy, as_reward, chosen

PARTS = ("valueLoss", "clipped", "kl")


class PPO(Policy):
    """Loss: the sum over prompts of the mean over their answers' tokens, divided by the number of prompts."""

    def __init__(self, settings: PPOSettings) -> None:
        super().__init__(settings)
        self._ppo = settings
        self.updates = settings.updates
        self.parts = (*self.rewarded, "completionTokens", *PARTS)

    def sample(self, model: nn.Module, batch: Batch, alive: Alive) -> Batch:
        """With `rollout_kn`: log-likelihoods, what was foreseen, advantages and returns, as the model stood then."""
        found = super().sample(model, batch, alive)
        assert found.rewards_bf is not None
        with answering(model), torch.no_grad():
            logits_nv, values_n = logits_and_values(model, found, self._temperature)
            log_probs_n = chosen(logits_nv, found)
            del logits_nv
            away_n = torch.zeros_like(log_probs_n)
            if self._beta:
                with adapter_off(model) as base:
                    away_n = log_probs_n - self._log_probs(base, found)
        row_n = found.row_n
        rewards_n = -self._beta * away_n
        last_n = torch.cat([row_n[1:] != row_n[:-1], row_n.new_ones(1, dtype=torch.bool)])
        rewards_n = rewards_n + last_n * self._shown(found.rewards_bf)[0][row_n]
        advantages_n = generalised(rewards_n, values_n, row_n, float(self._ppo.gae_lambda))
        kept = (log_probs_n, values_n, advantages_n, advantages_n + values_n, away_n)
        return replace(found, rollout_kn=torch.stack(kept))

    def weigh(self, batches: Sequence[Batch], added: Callable[[torch.Tensor], torch.Tensor]) -> list[Batch]:
        """Advantages over all answers of the step get the mean 0 and the variance 1; `added` sums over the ranks."""
        rollouts = [batch.rollout_kn for batch in batches if batch.rollout_kn is not None]
        white = whitened([rollout_kn[2] for rollout_kn in rollouts], added)
        return [
            replace(batch, rollout_kn=torch.cat([rollout_kn[:2], white_n[None], rollout_kn[3:]]))
            for batch, rollout_kn, white_n in zip(batches, rollouts, white, strict=True)
        ]

    def sums(self, model: nn.Module, batch: Batch) -> Sums:
        """`batch` as `sample` and `weigh` give it. The loss has `compare`'s gradient, and for its value the reward with
        the other sign."""
        logits_nv, values_n = logits_and_values(model, batch, self._temperature)
        return as_reward(self.compare_tokens(chosen(logits_nv, batch), values_n, batch))

    def compare_tokens(self, log_probs_n: torch.Tensor, values_n: torch.Tensor, batch: Batch) -> Sums:
        """Schulman et al. 2017, equations 7 and 9 without the entropy; the value's error is clipped as the policy's
        ratio is (OpenAI baselines' ppo2, as Stiennon et al. use it)."""
        assert batch.rollout_kn is not None
        assert batch.rewards_bf is not None
        was_n, foreseen_n, advantages_n, returns_n, away_n = batch.rollout_kn
        group = self._settings.generations
        by_row = partial(summed_by_row, row_n=batch.row_n, rows=len(batch.rewards_bf))

        tokens_b = by_row(torch.ones_like(was_n)).clamp(min=1)
        reach, value_reach = float(self._ppo.clip_range), float(self._ppo.value_clip_range)
        ratio_n = torch.exp(log_probs_n - was_n)
        free_n, held_n = -advantages_n * ratio_n, -advantages_n * ratio_n.clamp(1 - reach, 1 + reach)
        near_n = foreseen_n + (values_n - foreseen_n).clamp(-value_reach, value_reach)
        error_n = 0.5 * torch.maximum((values_n - returns_n) ** 2, (near_n - returns_n) ** 2)
        loss_n = torch.maximum(free_n, held_n) + float(self._ppo.value_weight) * error_n
        shown = self._shown(batch.rewards_bf)
        told = (error_n.detach(), (held_n > free_n).float(), away_n)
        parts = (*shown, tokens_b, *(by_row(of_n) / tokens_b for of_n in told))
        return Sums((by_row(loss_n) / tokens_b).sum() / group, tuple(part_b.sum() / group for part_b in parts))
