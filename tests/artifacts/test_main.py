"""The command line: what people and init containers see, and the exit codes they branch on."""

from pathlib import Path

import pytest

import finetune_artifacts
from finetune_artifacts import Store, digest_bytes
from finetune_artifacts.__main__ import main

from .conftest import S3Server


@pytest.fixture(autouse=True)
def environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.credentials.items():
        monkeypatch.setenv(name, value)


def test_there_and_back(store: Store, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "model/sub").mkdir(parents=True)
    (tmp_path / "model/config.json").write_bytes(b"{}")
    (tmp_path / "model/sub/x").write_bytes(b"\x00\xff")
    uri = store.uri + "/base"
    assert main(["cp", str(tmp_path / "model"), uri]) == 0
    assert main(["ls", uri]) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert [line.split()[-1] for line in lines] == ["config.json", "sub/x"]
    assert main(["cat", uri + "/sub/x"]) == 0
    assert capfdbinary.readouterr().out == b"\x00\xff"
    assert main(["cp", uri, str(tmp_path / "back")]) == 0
    assert (tmp_path / "back/sub/x").read_bytes() == b"\x00\xff"
    assert main(["cp", uri + "/sub/x", str(tmp_path / "back"), "--digest", digest_bytes(b"\x00\xff")]) == 0
    assert (tmp_path / "back/x").read_bytes() == b"\x00\xff"
    assert main(["cp", str(tmp_path / "model/config.json"), uri + "/new.json"]) == 0
    assert store.get_bytes("base/new.json") == b"{}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ls", "gs://bucket/x"], 64, "is not supported by this version yet"),
        (["cp", "a", "b"], 64, "one side must be a local path and the other a URI"),
        (["cp", "s3://bucket/a", "s3://bucket/b"], 64, "one side must be a local path"),
        (["cat", "s3://bucket"], 64, "it names no object"),
        (["cat", "s3://bucket/none"], 66, "NoSuchKey"),
        (["ls", "s3://bucket/none"], 66, "neither an object nor a directory"),
        (["cp", "none", "s3://bucket/x"], 66, "no such file or directory"),
        (["ls", "s3://bucket/x", "--credentials", "none"], 74, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY not found"),
    ],
)
def test_exit_codes(
    arguments: list[str],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: cannot ")
    assert words in captured.err
    assert "Traceback" not in captured.err


def test_a_wrong_digest(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store.put_bytes("x", b"1")
    assert main(["cp", store.uri + "/x", str(tmp_path / "x"), "--digest", digest_bytes(b"2")]) == 74
    assert digest_bytes(b"2") in capsys.readouterr().err
    assert main(["cp", store.uri + "/x", str(tmp_path / "x"), "--digest", "md5:1"]) == 64
    assert main(["cp", store.uri, str(tmp_path / "d"), "--digest", digest_bytes(b"1")]) == 64


@pytest.mark.parametrize("arguments", [[], ["mv"], ["ls"], ["cp", "a", "b", "--workers", "many"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 64
    assert "usage:" in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "cp ./model s3://" in capsys.readouterr().out


def test_every_exported_name_exists() -> None:
    assert len(set(finetune_artifacts.__all__)) == len(finetune_artifacts.__all__)
    for name in finetune_artifacts.__all__:
        assert getattr(finetune_artifacts, name) is not None
