"""A process that dies at any write of a save leaves the older checkpoint or the whole new one, never anything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_artifacts import ArtifactError
from finetune_artifacts.local import LocalStore
from finetune_trainer.checkpoint import files
from finetune_trainer.common.errors import RunError
from tests.trainer.test_checkpoint_find import World

WRITES = ("write_stream", "put_if_absent")


class Crash(BaseException):
    """The process is gone: no handler may tidy up."""


class Crashes:
    """Counts writes to storage, and ends the process before or after the k-th."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count, self.at, self.after = 0, -1, False
        for name in WRITES:
            self._wrap(patch, name, getattr(LocalStore, name))

    def _wrap(self, patch: pytest.MonkeyPatch, name: str, original: object) -> None:
        def wrapped(store: LocalStore, *args: object, **kwargs: object) -> object:
            number = self.count
            self.count += 1
            if number == self.at and not self.after:
                raise Crash
            result = original(store, *args, **kwargs)  # type: ignore[operator]
            if number == self.at:
                raise Crash
            return result

        patch.setattr(LocalStore, name, wrapped)


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> Crashes:
    return Crashes(monkeypatch)


def writes_of_a_save(folder: Path, crashes: Crashes) -> int:
    crashes.count = 0
    World(folder).save(5, 1)
    return crashes.count


def test_a_save_is_three_files_and_a_manifest(tmp_path: Path, crashes: Crashes) -> None:
    assert writes_of_a_save(tmp_path, crashes) == 4


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_every_write(tmp_path: Path, crashes: Crashes, after: bool) -> None:
    total = writes_of_a_save(tmp_path / "count", crashes)
    for at in range(total):
        world = World(tmp_path / f"crash-{at}")
        world.save(5, 1)
        crashes.count, crashes.at, crashes.after = 0, at, after
        with pytest.raises(Crash):
            world.save(10, 1)
        crashes.at = -1
        committed = after and at == total - 1
        assert world.found() == ("step-10-a1" if committed else "step-5-a1")
        world.save(10, 2)
        assert world.found() == "step-10-a2"


def test_a_save_may_be_tried_again_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    write = files.write

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(ArtifactError, match="No space left"):
        world.save(10, 1)
    monkeypatch.setattr(files, "write", write)
    assert world.save(10, 1) == "step-10-a1"
    assert world.found() == "step-10-a1"


def test_a_fence_that_appears_during_the_upload_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_trainer.checkpoint.fences import put_fence

    world = World(tmp_path)
    upload = LocalStore.upload_tree

    def slow(store: LocalStore, *args: object, **kwargs: object) -> object:
        result = upload(store, *args, **kwargs)  # type: ignore[arg-type]
        put_fence(world.run, 2, resume_step=0, resume_attempt=0)
        return result

    monkeypatch.setattr(LocalStore, "upload_tree", slow)
    with pytest.raises(RunError, match="fenced by attempt 2"):
        world.save(10, 1)
    assert world.found() is None
