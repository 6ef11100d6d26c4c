"""How much better an answer is than the others to its prompt, or a token than was foreseen.

Legend of suffixes: p prompts, g answers to each, n tokens of several answers, one answer after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def generalised(rewards_n: torch.Tensor, values_n: torch.Tensor, row_n: torch.Tensor, lambda_: float) -> torch.Tensor:
    """(n,). Schulman et al. 2015, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
    equation 16, with nothing discounted (gamma 1) and nothing to come after an answer's last token."""
    follows_n = torch.cat([row_n[1:] == row_n[:-1], row_n.new_zeros(1, dtype=torch.bool)]).tolist()
    rewards, values = rewards_n.tolist(), values_n.tolist()
    found = [0.0] * len(rewards)
    for at in range(len(rewards) - 1, -1, -1):
        next_value, next_found = (values[at + 1], found[at + 1]) if follows_n[at] else (0.0, 0.0)
        found[at] = rewards[at] + next_value - values[at] + lambda_ * next_found
    return torch.tensor(found, dtype=torch.float32, device=rewards_n.device)


def whitened(parts: Sequence[torch.Tensor], added: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """With the mean 0 and the variance 1 over all parts together, those of the other ranks included: `added` sums over
    them."""
    device = parts[0].device if parts else torch.device("cpu")
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for part_n in parts:
        exact_n = part_n.double()
        sums += torch.stack([torch.ones_like(exact_n).sum(), exact_n.sum(), (exact_n**2).sum()])
    count, total, squares = added(sums).tolist()
    mean = total / max(count, 1)
    variance = max(squares / max(count, 1) - mean**2, 0.0)
    return [(part_n - mean) / (variance**0.5 + _EPSILON) for part_n in parts]
