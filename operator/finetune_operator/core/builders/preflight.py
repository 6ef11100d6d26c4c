"""The preflight pod: small image, CPU, the tenant's own credentials."""

from __future__ import annotations

from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runkey import spec_digest
from finetune_operator.core.builders.pod import metadata, pod_template
from finetune_operator.core.builders.runconfig import base_run_config
from finetune_operator.core.names import ANNOTATION_GENERATION, ROLE_PREFLIGHT, preflight_pod
from finetune_operator.core.types import Config, Obj

DEADLINE_SECONDS = 600


def build_preflight(job: Obj, spec: FineTuneJobSpec, config: Config) -> dict[str, Any]:
    name = job["metadata"]["name"]
    template = pod_template(
        job,
        spec,
        base_run_config(job, spec, config, digest=spec_digest(spec)),
        config,
        role=ROLE_PREFLIGHT,
        labels={},
        image=config.small_image,
        args=["python", "-m", "finetune_trainer", "preflight"],
        resources={
            "requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "1Gi"},
        },
        grace_seconds=5,
        optional_secrets=True,
        accelerated=False,
    )
    container = template["spec"]["containers"][0]
    container["command"] = container.pop("args")
    template["spec"]["activeDeadlineSeconds"] = DEADLINE_SECONDS
    meta = metadata(job, preflight_pod(name), ROLE_PREFLIGHT)
    meta["annotations"] = template["metadata"]["annotations"] | {
        ANNOTATION_GENERATION: str(job["metadata"].get("generation", 1))
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
