"""Files: crash-safety, leftovers, links, and the file systems without hard links."""

import errno
import os
import time
from pathlib import Path

import pytest

from finetune_artifacts import AccessDenied, AlreadyExists, ArtifactError, Store
from finetune_artifacts import local as local_module
from finetune_artifacts.local import LocalStore, translated


@pytest.fixture
def root(file_store: Store) -> Path:
    assert isinstance(file_store, LocalStore)
    file_store.root.mkdir()
    return file_store.root


def test_leftovers_of_a_crash_are_not_listed(file_store: Store, root: Path) -> None:
    (root / ".tmp-1-dead").write_bytes(b"half")
    (root / "dir").mkdir()
    (root / "dir/.tmp-2-dead").write_bytes(b"half")
    (root / "lost+found").mkdir()
    (root / "lost+found/x").write_bytes(b"?")
    assert list(file_store.list()) == []
    assert file_store.list_dirs() == []
    assert not file_store.exists()


def test_delete_tree_removes_old_leftovers_and_spares_running_writes(file_store: Store, root: Path) -> None:
    (root / "a").mkdir()
    old, young = root / "a/.tmp-1-old", root / "a/.tmp-2-young"
    old.write_bytes(b"")
    young.write_bytes(b"")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    file_store.delete_tree("a")
    assert not old.exists()
    assert young.exists()


def test_a_failed_write_leaves_the_old_bytes_and_no_temporary_file(
    file_store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_store.put_bytes("x", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for act in (file_store.put_bytes, file_store.put_if_absent):
        with pytest.raises(ArtifactError, match="No space left on device; free space or enlarge the volume"):
            act("x" if act == file_store.put_bytes else "y", b"new")
    assert [path.name for path in root.iterdir()] == ["x"]
    assert (root / "x").read_bytes() == b"old"


def test_file_and_directories_are_synced_before_the_write_returns(
    file_store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def record(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    file_store.put_if_absent("new/x", b"1")
    assert synced[0] == "store"
    assert synced[1].startswith(".tmp-")
    assert synced[2] == "new"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_creation_without_hard_links_is_still_atomic(
    file_store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_links(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_links)
    file_store.put_if_absent("x", b"1")
    with pytest.raises(AlreadyExists):
        file_store.put_if_absent("x", b"2")
    assert file_store.get_bytes("x") == b"1"
    assert [path.name for path in root.iterdir()] == ["x"]


def test_a_link_made_although_the_answer_was_lost_is_ours(
    file_store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def lossy(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr(local_module.os, "link", lossy)
    file_store.put_if_absent("x", b"1")
    assert file_store.get_bytes("x") == b"1"


def test_links_to_files_and_directories_are_followed(file_store: Store, root: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/1").write_bytes(b"weights")
    (root / "model.safetensors").symlink_to(tmp_path / "blobs/1")
    (root / "all").symlink_to(tmp_path / "blobs")
    assert [(entry.path, entry.size) for entry in file_store.list()] == [("all/1", 7), ("model.safetensors", 7)]


def test_a_link_that_leads_nowhere_or_in_a_circle_is_said(file_store: Store, root: Path) -> None:
    (root / "dead").symlink_to(root / "gone")
    with pytest.raises(ArtifactError, match="symbolic link dead points nowhere"):
        list(file_store.list())
    (root / "dead").unlink()
    (root / "a").mkdir()
    (root / "a/up").symlink_to(root)
    with pytest.raises(ArtifactError, match="symbolic link up leads back"):
        list(file_store.list())


def test_delete_tree_removes_a_link_and_not_what_it_points_to(file_store: Store, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"1")
    (root / "a").mkdir()
    (root / "a/link").symlink_to(outside)
    file_store.delete_tree("a")
    assert not (root / "a").exists()
    assert (outside / "x").exists()


def test_writing_survives_a_directory_that_is_pruned_meanwhile(
    file_store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, pruned = LocalStore._make, []

    def prune_once(self: LocalStore, directory: Path) -> None:
        real(self, directory)
        if directory.name == "a" and not pruned:
            pruned.append(directory)
            directory.rmdir()

    monkeypatch.setattr(LocalStore, "_make", prune_once)
    file_store.put_bytes("a/x", b"1")
    assert pruned
    assert file_store.get_bytes("a/x") == b"1"


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.EACCES, AccessDenied, "fsGroup"),
        (errno.EROFS, AccessDenied, "access mode"),
        (errno.EIO, ArtifactError, "check the volume"),
    ],
)
def test_errors_of_the_system_become_ours(code: int, kind: type[ArtifactError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught, translated("pvc://c/x", "write"):
        raise OSError(code, os.strerror(code))
    assert type(caught.value) is kind
