"""`ModelDeployment.spec`: what to serve, to whom, and how carefully a new revision is let in."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from finetune_api.base import ApiModel, ObjectName, cel, rules
from finetune_api.rollout import Rollout
from finetune_api.serving import Engine, ServedModel, ServingResources


class ParentRef(ApiModel):
    """A Gateway."""

    name: ObjectName
    namespace: Annotated[ObjectName, Field(description="Unset: the ModelDeployment's own.")] | None = None
    section_name: ObjectName | None = None


Hostname = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


class Traffic(ApiModel):
    """Where clients reach the deployment. Everything unset follows the installation's Gateway."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=8)] | None = None
    hostnames: (
        Annotated[
            list[Hostname],
            Field(
                max_length=16,
                description="Unset: <name>.<namespace>.<the installation's domain>; without a domain, any host.",
            ),
        ]
        | None
    ) = None
    path: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=256,
                pattern=r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$",
                description="Prefix, taken away before the engine sees it. "
                "Unset: / on a hostname, else /<namespace>/<name>.",
            ),
        ]
        | None
    ) = None


class ModelDeploymentSpec(ApiModel):
    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.engine) || !has(self.engine.tensorParallel) || !has(self.resources) || "
                "!has(self.resources.gpus) || self.resources.gpus == 0 || "
                "self.engine.tensorParallel <= self.resources.gpus",
                "engine.tensorParallel cannot be larger than resources.gpus",
            )
        )
    )

    model: ServedModel
    engine: Engine | None = None
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    resources: ServingResources | None = None
    traffic: Traffic = Traffic()
    rollout: Rollout = Rollout()
