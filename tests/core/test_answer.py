"""A decision is stored alone; without one, everything goes together."""

from __future__ import annotations

from finetune_api.deployment_status import DeploymentPhase, ModelDeploymentStatus
from finetune_operator.core.answer import answer
from finetune_operator.core.serving.draft import DeploymentDraft
from finetune_operator.core.serving.events import events
from finetune_operator.core.serving.plan import _placeholder
from finetune_operator.core.serving.types import DeploymentObserved, Scrape
from finetune_operator.core.types import Plan
from tests.core.serving.world import CONFIG, T0, World, serving

SCRAPE = Scrape(window="w", step="s", interval=5.0, targets=())


def draft() -> DeploymentDraft:
    md = World(serving("one")).deployment()
    d = DeploymentDraft(md, ModelDeploymentStatus(), T0, CONFIG, DeploymentObserved(md), _placeholder())
    d.creates.append({"kind": "Job"})
    d.requeues += [9.0, 4.0]
    return d


def plan_of(d: DeploymentDraft, before: ModelDeploymentStatus | None = None) -> Plan:
    return answer(d, before or ModelDeploymentStatus(), events, scrape=SCRAPE)


def test_everything_goes_together() -> None:
    d = draft()
    d.phase(DeploymentPhase.PENDING, "Waiting")
    plan = plan_of(d)
    assert plan.status is not None
    assert (plan.status["phase"], plan.status["observedGeneration"]) == ("Pending", 1)
    assert plan.creates == ({"kind": "Job"},)
    assert (plan.requeue_after, plan.scrape) == (4.0, SCRAPE)


def test_a_decision_goes_alone_and_engines_are_looked_at_all_the_same() -> None:
    d = draft()
    d.phase(DeploymentPhase.PENDING, "Waiting")
    d.intent = True
    plan = plan_of(d)
    assert plan.status is not None
    assert plan.creates == ()
    assert plan.scrape == SCRAPE


def test_a_decision_that_is_stored_already_is_acted_on() -> None:
    d = draft()
    d.intent = True
    plan = plan_of(d, ModelDeploymentStatus(observed_generation=1))
    assert plan.status is None
    assert plan.creates == ({"kind": "Job"},)
