"""How far two models' next-token distributions are apart: the generalised Jensen-Shannon divergence of Agarwal et al.
2023 ("On-Policy Distillation of Language Models", equation 1), as TRL's GKDTrainer computes it.

With beta b and the mixture M = b teacher + (1 - b) student it is b KL(teacher || M) + (1 - b) KL(student || M); at 0
it is defined as KL(teacher || student), at 1 as KL(student || teacher).

Legend of suffixes: n positions, v vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import nn


def divergence_sum(student_nv: torch.Tensor, teacher_nv: torch.Tensor, *, beta: float) -> torch.Tensor:
    """fp32 scalar, in nats, over all positions. Of fp32 log-probabilities; the teacher's have no gradient."""
    if beta == 0:
        return _kl_sum(teacher_nv, student_nv)
    if beta == 1:
        return _kl_sum(student_nv, teacher_nv)
    mixture_nv = torch.logaddexp(student_nv + math.log1p(-beta), teacher_nv + math.log(beta))
    return beta * _kl_sum(teacher_nv, mixture_nv) + (1 - beta) * _kl_sum(student_nv, mixture_nv)


def binned(log_probs_nv: torch.Tensor, tokens_nk: torch.Tensor) -> torch.Tensor:
    """(n, k + 1): the log-probabilities of these tokens, and of all others together."""
    rest_nv = log_probs_nv.scatter(-1, tokens_nk, -math.inf)
    return torch.cat([log_probs_nv.gather(-1, tokens_nk), rest_nv.logsumexp(-1, keepdim=True)], dim=-1)


def _kl_sum(of_nv: torch.Tensor, to_nv: torch.Tensor) -> torch.Tensor:
    """KL(of || to) of log-probabilities."""
    return nn.functional.kl_div(to_nv, of_nv, reduction="sum", log_target=True)
