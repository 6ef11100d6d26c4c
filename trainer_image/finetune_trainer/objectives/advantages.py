"""How much better an answer is than the others to its prompt: the group is the baseline, no second model is.

Legend of suffixes: p prompts, g answers to each.
"""

from __future__ import annotations

import torch

_EPSILON = 1e-4


def group_relative(rewards_pg: torch.Tensor, *, scaled: bool) -> torch.Tensor:
    """Shao et al. 2024, "DeepSeekMath", section 4.1.2: reward less the group's mean, over its standard deviation where
    `scaled` (Liu et al. 2025, "Understanding R1-Zero-Like Training", section 3.2, why not to). A group of equal rewards
    gives 0."""
    advantages_pg = rewards_pg - rewards_pg.mean(1, keepdim=True)
    return advantages_pg / (rewards_pg.std(1, keepdim=True) + _EPSILON) if scaled else advantages_pg


def leave_one_out(rewards_pg: torch.Tensor) -> torch.Tensor:
    """Ahmadian et al. 2024, "Back to Basics", equation 8: reward less the mean of the group's others."""
    others_pg = (rewards_pg.sum(1, keepdim=True) - rewards_pg) / (rewards_pg.shape[1] - 1)
    return rewards_pg - others_pg
