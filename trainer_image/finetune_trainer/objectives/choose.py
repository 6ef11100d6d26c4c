"""The objective that a spec names."""

from __future__ import annotations

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import DPOSettings, ObjectiveType, objective_of, policy_of
from finetune_api.objective_kto import KTOSettings
from finetune_api.objective_reward import RewardSettings
from finetune_trainer.objectives import base
from finetune_trainer.objectives.classification import Classification
from finetune_trainer.objectives.distill import Distill
from finetune_trainer.objectives.dpo import DPO
from finetune_trainer.objectives.kto import KTO
from finetune_trainer.objectives.policy import Policy
from finetune_trainer.objectives.ppo import PPO
from finetune_trainer.objectives.reward import Reward
from finetune_trainer.objectives.sft import SFT


def choose(spec: FineTuneJobSpec) -> base.Objective:
    objective = objective_of(spec)
    if objective.type is ObjectiveType.DPO:
        return DPO(objective.dpo or DPOSettings())
    if objective.type is ObjectiveType.DISTILL:
        assert objective.distill is not None
        return Distill(objective.distill)
    if objective.type is ObjectiveType.KTO:
        return KTO(objective.kto or KTOSettings())
    if objective.type is ObjectiveType.REWARD:
        return Reward(objective.reward or RewardSettings())
    if objective.type is ObjectiveType.CLASSIFICATION:
        assert objective.classification is not None
        return Classification(objective.classification)
    if objective.ppo is not None:
        return PPO(objective.ppo)
    if (policy := policy_of(spec)) is not None:
        return Policy(policy)
    regularization = spec.training.regularization
    return SFT(float(regularization.label_smoothing or 0) if regularization else 0.0)
