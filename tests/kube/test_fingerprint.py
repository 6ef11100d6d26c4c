from dataclasses import replace
from datetime import UTC, datetime

import pytest

from finetune_operator.core.serving.types import Claim, DeploymentObserved, Engines, EngineView
from finetune_operator.core.types import Observed, Sample
from finetune_operator.kube.fingerprint import fingerprint
from tests.kube.builders import (
    batch_job,
    engine_pod,
    finetunejob,
    modeldeployment,
    node,
    owner,
    pod,
    served,
    service,
)

BASE = Observed(
    job=finetunejob(rv=1),
    jobs=(batch_job(rv=1),),
    pods=(pod(rv=1),),
    nodes={"n1": node(rv=1)},
    gang_service=service(rv=1),
)


def test_equal_observations_are_equal() -> None:
    assert fingerprint(BASE) == fingerprint(replace(BASE, job=finetunejob(rv=1)))


@pytest.mark.parametrize(
    "change",
    [
        {"job": finetunejob(rv=2)},
        {"job": finetunejob(rv=1, uid="another")},
        {"jobs": (batch_job(rv=2),)},
        {"jobs": ()},
        {"pods": (pod(rv=2),)},
        {"gone_pods": frozenset({"uid-bot-1-0-x"})},
        {"nodes": {"n1": node(rv=2)}},
        {"nodes": {}},
        {"gang_service": None},
        {"gang_service": service(rv=2, deletionTimestamp="2026-01-01T10:00:00Z")},
        {"gang_service": service(rv=2, ownerReferences=[owner("FineTuneJob", "bot", "u")])},
        {"sample": Sample(1, None)},
        {"conflicts": {"Service/x": "words"}},
        {"fresh": True},
    ],
    ids=lambda change: "-".join(change),
)
def test_everything_that_a_plan_looks_at_counts(change: dict[str, object]) -> None:
    assert fingerprint(BASE) != fingerprint(replace(BASE, **change))  # type: ignore[arg-type]


def test_a_neighbours_use_of_the_shared_service_does_not() -> None:
    assert fingerprint(BASE) == fingerprint(replace(BASE, gang_service=service(rv=9, annotations={"a": "b"})))


def test_every_field_of_an_observation_is_covered() -> None:
    fields = {"job", "jobs", "pods", "gone_pods", "nodes", "gang_service", "sample", "conflicts", "fresh"}
    assert set(Observed.__dataclass_fields__) == fields, "a new field must be part of the fingerprint"


SERVED = DeploymentObserved(
    deployment=modeldeployment(rv=1),
    children=(served("Deployment", "chat-aaa"),),
    services=(served("Service", "chat-aaa"),),
    route=served("HTTPRoute", "chat"),
    jobs=(served("Job", "chat-verify-k"),),
    pods=(engine_pod(),),
    fine_tune_jobs=(finetunejob(),),
    claims={("a", "/"): Claim("team/other", "t")},
    engines=Engines("w", "s", datetime(2026, 1, 2, tzinfo=UTC), pods={"u": EngineView("aaa")}, looks=3),
)


def test_equal_observations_of_a_deployment_are_equal() -> None:
    assert fingerprint(SERVED) == fingerprint(replace(SERVED, deployment=modeldeployment(rv=1)))


@pytest.mark.parametrize(
    "other",
    [
        {"deployment": modeldeployment(rv=2)},
        {"children": (served("Deployment", "chat-aaa", rv=2),)},
        {"children": ()},
        {"services": ()},
        {"route": None},
        {"route": served("HTTPRoute", "chat", rv=2)},
        {"jobs": ()},
        {"pods": (engine_pod(rv=2),)},
        {"gone_pods": frozenset({"x"})},
        {"fine_tune_jobs": (finetunejob(rv=2),)},
        {"claims": {("a", "/"): Claim("team/third", "t")}},
        {"claims": {}},
        {"engines": None},
        {"engines": replace(SERVED.engines, looks=4)},
        {"engines": replace(SERVED.engines, step="t")},
        {"engines": replace(SERVED.engines, pods={"u": EngineView("aaa", synthetic_error="x")})},
        {"conflicts": {"Service/x": "words"}},
        {"fresh": True},
    ],
)
def test_whatever_a_deployments_plan_looks_at_is_news(other: dict[str, object]) -> None:
    assert fingerprint(replace(SERVED, **other)) != fingerprint(SERVED)  # type: ignore[arg-type]
