"""Secrets and volumes of a cluster, given by hand; values never come back in words."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.objective import Objective
from finetune_api.runconfig import RunConfig
from finetune_cli.access import lay_out_secrets, lay_out_volumes, named, read_env_file
from finetune_trainer.common.errors import RunError


def config(**model: Any) -> RunConfig:
    spec = {"model": model, "data": {"train": [{"uri": "file:///d"}]}, "method": {"type": "LoRA"}}
    return RunConfig(
        namespace="n",
        name="j",
        uid="u",
        spec=FineTuneJobSpec.model_validate(spec),
        spec_digest="d",
        runs_uri="file:///r",
    )


S3 = config(uri="s3://bucket/m", secretRef={"name": "team"})


def test_an_env_file(tmp_path: Path) -> None:
    path = tmp_path / "team.env"
    path.write_text("# mine\nexport AWS_ACCESS_KEY_ID=abc\nAWS_SECRET_ACCESS_KEY='d e=f'\n\nAWS_REGION=\"x\" # there\n")
    lay_out_secrets(S3, {"team": path}, tmp_path / "secrets", {})
    folder = tmp_path / "secrets" / "team"
    assert {p.name: p.read_text() for p in folder.iterdir()} == {
        "AWS_ACCESS_KEY_ID": "abc",
        "AWS_SECRET_ACCESS_KEY": "d e=f",
        "AWS_REGION": "x",
    }
    assert stat.S_IMODE((folder / "AWS_SECRET_ACCESS_KEY").stat().st_mode) == 0o600


def test_the_shells_own_credentials(tmp_path: Path) -> None:
    lay_out_secrets(S3, {}, tmp_path, {"AWS_ACCESS_KEY_ID": "abc", "HOME": "/"})
    assert [p.name for p in (tmp_path / "team").iterdir()] == ["AWS_ACCESS_KEY_ID"]


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Secret 'team' \(spec.model.secretRef\).*--secret team=FILE"):
        lay_out_secrets(S3, {}, tmp_path, {})


def test_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the manifest does not name it; it names no Secret"):
        lay_out_secrets(config(uri="file:///m"), {"other": tmp_path}, tmp_path, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("hunter2", "line 1 is not KEY=value"), ("A='hunter2", "line 1 has a quote"), ("", "holds no KEY=value")],
)
def test_a_bad_file_is_not_repeated(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "x.env"
    path.write_text(text)
    with pytest.raises(RunError, match=expected) as raised:
        read_env_file("x", path)
    assert "hunter2" not in raised.value.message


def test_volumes(tmp_path: Path) -> None:
    claimed = config(uri="pvc://models/base")
    (tmp_path / "here").mkdir()
    (tmp_path / "pvc").mkdir()
    with pytest.raises(RunError, match="pass --volume models=/PATH"):
        lay_out_volumes(claimed, {}, tmp_path / "pvc")
    with pytest.raises(RunError, match="is not a directory"):
        lay_out_volumes(claimed, {"models": tmp_path / "away"}, tmp_path / "pvc")
    lay_out_volumes(claimed, {"models": tmp_path / "here"}, tmp_path / "pvc")
    assert (tmp_path / "pvc" / "models").resolve() == tmp_path / "here"


def test_a_teachers_volume_is_asked_for(tmp_path: Path) -> None:
    plain = config(uri="file:///base")
    objective = Objective.model_validate({"type": "Distill", "distill": {"teacher": {"uri": "pvc://teachers/large"}}})
    taught = plain.model_copy(update={"spec": plain.spec.model_copy(update={"objective": objective})})
    with pytest.raises(RunError, match="pass --volume teachers=/PATH"):
        lay_out_volumes(taught, {}, tmp_path)


def test_options() -> None:
    assert named("--volume", ["a=/b"], "x") == {"a": Path("/b")}
    with pytest.raises(RunError, match="--volume a: expected NAME=PATH"):
        named("--volume", ["a"], "x=y")
