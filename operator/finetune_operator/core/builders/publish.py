"""One publish try: a Job with one pod that evaluates, merges, gates and uploads.

Where there is a serving image, its pod does so in three containers, one after the other on one volume: `prepare` makes
the folder that would be published, `served-check` loads it in the serving image, `main` judges and uploads.
"""

from __future__ import annotations

from typing import Any

from finetune_api.duration import parse_duration
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.method import MethodType
from finetune_api.objective import scores
from finetune_api.publishing import PublishResources
from finetune_api.runconfig import SERVED_CHECK_SCRIPT
from finetune_api.runkey import spec_digest
from finetune_api.status import PublishStatus, Resolved
from finetune_operator.core.builders.attempt import pod_failure_policy
from finetune_operator.core.builders.custom import publish_command, publish_resources
from finetune_operator.core.builders.pod import metadata, pod_template
from finetune_operator.core.builders.restricted import container_security, work_env, work_volumes
from finetune_operator.core.builders.runconfig import base_run_config
from finetune_operator.core.names import LABEL_ATTEMPT, ROLE_PUBLISHER
from finetune_operator.core.types import Config, Obj

GRACE_SECONDS = 30
PREPARE = "prepare"
SERVED_CHECK = "served-check"
_FIELD = "spec.publish.servedCheck"


def served_image(spec: FineTuneJobSpec, config: Config) -> str | None:
    """The image the served check runs in; None: there will be no such check."""
    if spec.is_custom:
        return None
    check = spec.publish.served_check
    adapter = spec.method.type is not MethodType.FULL_FINE_TUNE and not spec.output.merge
    if check.enabled is False or adapter or scores(spec):
        return None
    return check.image or config.serving_image or None


def missing_image(spec: FineTuneJobSpec, config: Config) -> str | None:
    """In words: a served check was asked for, and nobody has said in which image."""
    check = spec.publish.served_check
    if not check.enabled or check.image or config.serving_image:
        return None
    return (
        f"{_FIELD}.image: not set, and this installation has no serving image of its own (chart value servingImage); "
        f"set it, or set {_FIELD}.enabled: false"
    )


def build_publish(
    job: Obj, spec: FineTuneJobSpec, resolved: Resolved, publish: PublishStatus, config: Config
) -> dict[str, Any]:
    labels = {LABEL_ATTEMPT: str(publish.index)}
    gpus = spec.publish.resources.gpus
    if gpus is None:
        gpus = 0 if spec.is_custom else spec.resources.gpus_per_node
    image = served_image(spec, config)
    run_config = base_run_config(
        job,
        spec,
        config,
        digest=spec_digest(spec),
        run_key=resolved.run_key,
        model_revision=resolved.model_revision,
        data_fingerprint=resolved.data_fingerprint,
        teacher_revision=resolved.teacher_revision,
        pins=resolved.pins or {},
        gpus_per_node=gpus,
        grace_seconds=GRACE_SECONDS,
        require_checkpoint=True,
        serving_image=image,
    )
    template = pod_template(
        job,
        spec,
        run_config,
        config,
        role=ROLE_PUBLISHER,
        labels=labels,
        image=spec.trainer.image or resolved.image,
        args=["publish"],
        resources=_resources(spec, spec.publish.resources, gpus),
        grace_seconds=GRACE_SECONDS,
        accelerated=not spec.is_custom or gpus > 0,
    )
    if spec.is_custom:
        main = template["spec"]["containers"][0]
        del main["args"]
        main |= {
            "image": config.small_image,
            "command": publish_command(),
            "resources": publish_resources(spec, spec.publish.resources),
        }
    if image is not None:
        _add_check(template["spec"], spec, config, image, gpus)
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


def _resources(spec: FineTuneJobSpec, wanted: PublishResources, gpus: int) -> dict[str, Any]:
    """What is not set is as in the container before: the served check's as publish's, publish's as the job's."""
    limits = dict(wanted.limits or spec.publish.resources.limits or spec.resources.limits or {})
    limits.pop(spec.resources.gpu_resource, None)
    if gpus:
        limits[spec.resources.gpu_resource] = gpus
    requests = dict(wanted.requests or spec.publish.resources.requests or spec.resources.requests or {})
    return {k: v for k, v in (("requests", requests), ("limits", limits)) if v}


def _add_check(pod: dict[str, Any], spec: FineTuneJobSpec, config: Config, image: str, gpus: int) -> None:
    check = spec.publish.served_check
    main = pod["containers"][0]
    main["args"] = ["publish", "--part", "finish"]
    prepare = {k: v for k, v in main.items() if k != "ports"} | {
        "name": PREPARE,
        "args": ["publish", "--part", "prepare"],
    }
    own = check.resources.gpus
    served = {
        "name": SERVED_CHECK,
        "image": image,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["python3", SERVED_CHECK_SCRIPT],
        "args": ["--timeout", f"{parse_duration(check.timeout):g}", "--", *check.args],
        "env": [*work_env(), *(entry.to_wire() for entry in check.env)],
        "resources": _resources(spec, check.resources, gpus if own is None else own),
        # The model and nothing else: neither the run config nor anybody's credentials.
        "volumeMounts": work_volumes(spec.resources.shared_memory)[1],
        "securityContext": container_security(),
    }
    pod["initContainers"] = [prepare, served]
