"""One publish try: a Job with one pod that evaluates, merges, gates and uploads."""

from __future__ import annotations

from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.runkey import spec_digest
from finetune_api.status import PublishStatus, Resolved
from finetune_operator.core.builders.attempt import pod_failure_policy
from finetune_operator.core.builders.pod import metadata, pod_template
from finetune_operator.core.builders.runconfig import base_run_config
from finetune_operator.core.names import LABEL_ATTEMPT, ROLE_PUBLISHER
from finetune_operator.core.types import Config, Obj

GRACE_SECONDS = 30


def build_publish(
    job: Obj, spec: FineTuneJobSpec, resolved: Resolved, publish: PublishStatus, config: Config
) -> dict[str, Any]:
    labels = {LABEL_ATTEMPT: str(publish.index)}
    gpus = spec.publish.resources.gpus
    if gpus is None:
        gpus = spec.resources.gpus_per_node
    run_config = base_run_config(
        job,
        spec,
        config,
        digest=spec_digest(spec),
        run_key=resolved.run_key,
        model_revision=resolved.model_revision,
        data_fingerprint=resolved.data_fingerprint,
        gpus_per_node=gpus,
        grace_seconds=GRACE_SECONDS,
        require_checkpoint=True,
    )
    limits = dict(spec.publish.resources.limits or spec.resources.limits or {})
    limits.pop(spec.resources.gpu_resource, None)
    if gpus:
        limits[spec.resources.gpu_resource] = gpus
    requests = dict(spec.publish.resources.requests or spec.resources.requests or {})
    template = pod_template(
        job,
        spec,
        run_config,
        config,
        role=ROLE_PUBLISHER,
        labels=labels,
        image=spec.trainer.image or resolved.image,
        args=["publish"],
        resources={k: v for k, v in (("requests", requests), ("limits", limits)) if v},
        grace_seconds=GRACE_SECONDS,
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(job, publish.job, ROLE_PUBLISHER, labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": pod_failure_policy(),
            "template": template,
        },
    }
