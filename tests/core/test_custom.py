"""The pods of a custom trainer, and how they end."""

from __future__ import annotations

from typing import Any

from finetune_api.status import AttemptStatus, FineTuneJobStatus, Outcome, PublishStatus, Resolved
from finetune_operator.core.builders.attempt import build_attempt
from finetune_operator.core.builders.custom import LAUNCHER_PATH
from finetune_operator.core.builders.publish import build_publish, served_image
from finetune_operator.core.objects import terminated
from finetune_operator.core.plan import parse_spec
from finetune_operator.core.retry import GiveUp, decide
from tests.core.build import CONFIG, attempt, ftj, resolved, ts

CUSTOM: dict[str, Any] = {
    "trainer": {"type": "Custom", "image": "own:1", "custom": {"command": ["python", "/opt/train.py"], "args": ["-x"]}},
    "resources": {"nodes": 2, "gpusPerNode": 4, "limits": {"memory": "64Gi"}, "env": [{"name": "A", "value": "b"}]},
}


def job(**spec: Any) -> dict[str, Any]:
    made = ftj(CUSTOM | spec)
    made["spec"].pop("method", None)
    return made


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    found = resolved() | {"image": "trainer:1"}
    made = build_attempt(
        document,
        parse_spec(document),
        FineTuneJobStatus(),
        Resolved.model_validate(found),
        AttemptStatus.model_validate(attempt()),
        CONFIG,
    )
    return made["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def mounts(container: dict[str, Any]) -> set[str]:
    return {mount["name"] for mount in container["volumeMounts"]}


def test_the_users_image_gets_the_launcher_and_no_credentials() -> None:
    pod = pod_of(job(model={"uri": "pvc://models/base", "secretRef": {"name": "s"}}))
    main = pod["containers"][0]
    assert (main["name"], main["image"], main["command"]) == ("main", "own:1", ["python3", LAUNCHER_PATH])
    assert "args" not in main
    assert main["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": 4}
    assert {"name": "A", "value": "b"} in main["env"]
    assert mounts(main) == {"run-config", "scratch", "tmp", "shm", "token"}


def test_the_storage_container_is_ours_and_stays_beside_it() -> None:
    pod = pod_of(job(model={"uri": "pvc://models/base", "secretRef": {"name": "s"}}))
    launcher, storage = pod["initContainers"]
    assert [c["image"] for c in (launcher, storage)] == ["small:1", "small:1"]
    assert "restartPolicy" not in launcher
    assert storage["restartPolicy"] == "Always"
    assert mounts(launcher) == {"scratch", "tmp"}
    assert {"secret-0", "secret-1", "claim-0", "scratch", "run-config"} <= mounts(storage)
    assert {"name": "A", "value": "b"} not in storage["env"]
    assert "nvidia.com/gpu" not in storage["resources"]["limits"]
    assert pod["automountServiceAccountToken"] is False
    for container in (launcher, storage, *pod["containers"]):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_built_in_trainers_pod_is_what_it_was() -> None:
    document = ftj()
    pod = pod_of(document)
    assert "initContainers" not in pod
    assert pod["containers"][0]["args"] == ["train"]
    assert pod == pod_of(ftj({"trainer": {"type": "BuiltIn"}})) | {}


def test_publishing_takes_the_small_image_and_no_gpu() -> None:
    document = job(resources=CUSTOM["resources"] | {"nodeSelector": {"gpu": "h100"}})
    spec = parse_spec(document)
    status = PublishStatus(index=1, job="bot-publish-1", spec_digest="d", created_at=ts(0))
    made = build_publish(document, spec, Resolved.model_validate(resolved()), status, CONFIG)
    pod = made["spec"]["template"]["spec"]
    main = pod["containers"][0]
    assert main["image"] == "small:1"
    assert main["command"] == ["python", "-m", "finetune_trainer", "publish"]
    assert "args" not in main
    assert "nvidia.com/gpu" not in main["resources"]["limits"]
    assert "nodeSelector" not in pod
    assert served_image(spec, CONFIG) is None


def test_the_sidecars_ending_is_not_the_pods() -> None:
    def state(name: str, code: int) -> dict[str, Any]:
        return {"name": name, "state": {"terminated": {"exitCode": code}}}

    pod = {
        "metadata": {"name": "p"},
        "status": {
            "phase": "Failed",
            "initContainerStatuses": [state("launcher", 0), state("storage", 137)],
            "containerStatuses": [state("main", 85)],
        },
    }
    ended = terminated(pod)
    assert ended is not None
    assert (ended.container, ended.exit_code) == ("main", 85)


def test_out_of_memory_is_not_tried_again_with_the_same_arguments() -> None:
    status = FineTuneJobStatus.model_validate(
        {"attempts": [attempt(outcome=Outcome.OUT_OF_MEMORY, message="CUDA out of memory")]}
    )
    answer = decide(parse_spec(job()), status)
    assert isinstance(answer, GiveUp)
    assert answer.message == "CUDA out of memory"
