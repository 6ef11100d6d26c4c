"""The load is made of manifests and reports that the contract accepts."""

from __future__ import annotations

from typing import Any

import yaml

from bench import workload
from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.modeldeployment import ModelDeploymentSpec
from finetune_api.reports import LastWords, PreflightReport
from finetune_api.revision import revision_name
from finetune_api.serveconfig import CheckReport, VerifyReport
from finetune_operator.core.names import LABEL_ATTEMPT


def test_manifests_are_valid_and_spread_over_namespaces() -> None:
    job = workload.finetunejob(2345)
    FineTuneJobSpec.model_validate(job["spec"])
    assert job["metadata"] == {"name": "job-02345", "namespace": "team-02"}
    assert workload.namespaces(2001) == ["team-00", "team-01", "team-02"]
    assert workload.namespaces(1000) == ["team-00"]


def test_preflight_pods_leave_a_report_that_resolves_the_job() -> None:
    report = PreflightReport.model_validate_json(workload.preflight_words())
    assert report.exit_code == 0
    assert report.run_key
    assert report.model_revision
    assert report.data_fingerprint


def ended_by(stage: str) -> dict[str, Any]:
    """The terminated state a stage writes, its template's actions taken out."""
    stages = {s["metadata"]["name"]: s for s in yaml.safe_load_all(workload.kwok_stages())}
    template = stages[stage]["spec"]["next"]["statusTemplate"].replace("{{ $now := Now }}", "")
    template = template.replace("{{ (index .spec.containers 0).image | Quote }}", "image")
    template = template.replace(f'{{{{ index .metadata.labels "{LABEL_ATTEMPT}" }}}}', "3")
    status = yaml.safe_load(template.replace("{{ $now | Quote }}", "now").replace("{{ Now }}", "now"))
    ended: dict[str, Any] = status["containerStatuses"][0]["state"]["terminated"]
    return ended


def test_each_stage_is_a_document_of_its_own() -> None:
    stages = list(yaml.safe_load_all(workload.kwok_stages()))
    assert {stage["spec"]["resourceRef"]["kind"] for stage in stages} == {"Node", "Pod"}
    assert len({stage["metadata"]["name"] for stage in stages}) == len(stages)


def test_the_report_survives_the_yaml() -> None:
    ended = ended_by("preflight-ends")
    assert ended["exitCode"] == 0
    assert PreflightReport.model_validate_json(ended["message"]).run_key


def test_a_stopped_trainer_says_which_attempt_it_was() -> None:
    ended = ended_by("trainer-saves")
    assert ended["exitCode"] == 85
    assert LastWords.model_validate_json(ended["message"]).attempt == 3


def test_every_model_of_a_deployment_is_another_revision_with_the_same_digest() -> None:
    digest = VerifyReport.model_validate_json(workload.verifier_words()).digest
    assert digest is not None
    specs = [ModelDeploymentSpec.model_validate(workload.modeldeployment(7, uri)["spec"]) for uri in workload.MODELS]
    assert len({revision_name(spec, digest, served_name="bot") for spec in specs}) == len(specs)


def test_verifier_and_checker_say_yes() -> None:
    assert VerifyReport.model_validate_json(ended_by("verifier-ends")["message"]).exit_code == 0
    assert CheckReport.model_validate_json(ended_by("checker-ends")["message"]).exit_code == 0
