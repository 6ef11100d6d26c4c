"""The contract that every backend keeps; the same tests run on files and on a real S3 server."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from finetune_artifacts import AlreadyExists, ArtifactError, InvalidUri, NotFound, Store, open_store


def test_bytes_come_back(store: Store) -> None:
    store.put_bytes("a/b.txt", b"one")
    store.put_bytes("a/b.txt", b"two!")
    assert store.get_bytes("a/b.txt") == b"two!"
    assert store.head("a/b.txt").size == 4
    store.put_bytes("empty", b"")
    assert store.get_bytes("empty") == b""


def test_a_missing_object_is_not_found(store: Store) -> None:
    for act in (store.head, store.get_bytes, lambda path: list(store.open_read(path))):
        with pytest.raises(NotFound) as caught:
            act("no/such")
        assert store.uri_of("no/such") in str(caught.value)
    store.delete("no/such")
    store.delete_tree("no")


def test_a_folder_is_not_an_object(store: Store) -> None:
    store.put_bytes("folder/x", b"1")
    for act in (store.head, store.get_bytes):
        with pytest.raises(NotFound):
            act("folder")
    assert list(store.list("folder/x")) == []


def test_a_name_is_a_file_or_a_folder_not_both(store: Store) -> None:
    store.put_bytes("folder/x", b"1")
    for act in (store.put_bytes, store.put_if_absent):
        with pytest.raises(ArtifactError) as caught:
            act("folder/x/y", b"2")
        assert "choose another path" in str(caught.value)
        with pytest.raises(ArtifactError) as caught:
            act("folder", b"2")
        assert not isinstance(caught.value, AlreadyExists)
    assert store.get_bytes("folder/x") == b"1"


def test_ranges(store: Store) -> None:
    store.put_bytes("x", b"0123456789")
    assert store.get_range("x", 2, 3) == b"234"
    assert store.get_range("x", 8, 99) == b"89"
    assert store.get_range("x", 10, 1) == b""
    assert store.get_range("x", 99, 1) == b""
    assert store.get_range("x", 0, 0) == b""
    assert b"".join(store.open_read("x", 7)) == b"789"


def test_a_range_larger_than_one_answer(store: Store) -> None:
    data = bytes(range(256)) * (5 << 12)
    store.put_bytes("big", data)
    assert store.get_range("big", 3, len(data) - 5) == data[3:-2]


def test_get_bytes_refuses_what_is_too_large(store: Store) -> None:
    store.put_bytes("x", b"0123456789")
    assert store.get_bytes("x", max_bytes=10) == b"0123456789"
    with pytest.raises(ArtifactError, match="larger than 9 bytes"):
        store.get_bytes("x", max_bytes=9)


def test_list_is_recursive_and_sorted_by_path(store: Store) -> None:
    paths = ["b/c/d", "b-1", "b.txt", "a", "b/c", "b/é", "b/z y", "B", "b/#1?x=%41+&"]
    paths.remove("b/c")
    for path in paths:
        store.put_bytes(path, path.encode())
    found = list(store.list())
    assert [entry.path for entry in found] == sorted(paths)
    assert all(entry.size == len(entry.path.encode()) for entry in found)
    assert [entry.path for entry in store.list("b")] == sorted(path for path in paths if path.startswith("b/"))
    assert list(store.list("b/c/nothing")) == []
    for entry in found:
        assert store.get_bytes(entry.path) == entry.path.encode()
        assert store.head(entry.path) == entry


def test_list_dirs_names_what_holds_something(store: Store) -> None:
    store.put_bytes("ckpt/step-2-a1/x/y", b"")
    store.put_bytes("ckpt/step-10-a1/x", b"")
    store.put_bytes("ckpt/file", b"")
    assert store.list_dirs("ckpt") == ["step-10-a1", "step-2-a1"]
    assert store.list_dirs() == ["ckpt"]
    assert store.list_dirs("nothing") == []
    store.delete("ckpt/step-2-a1/x/y")
    assert store.list_dirs("ckpt") == ["step-10-a1"]


def test_exists(store: Store) -> None:
    assert not store.exists()
    assert not store.exists("a")
    store.put_bytes("a/b", b"")
    assert store.exists()
    assert store.exists("a")
    assert store.exists("a/b")
    assert not store.exists("a/bc")


def test_child_sees_the_same_objects(store: Store) -> None:
    child = store.child("runs/1")
    child.put_bytes("x", b"1")
    assert store.get_bytes("runs/1/x") == b"1"
    assert child.uri == store.uri + "/runs/1"
    assert [entry.path for entry in child.list()] == ["x"]
    assert store.child("").uri == store.uri
    with pytest.raises(InvalidUri):
        store.child("../elsewhere")


def test_delete_tree_takes_the_prefix_and_nothing_else(store: Store) -> None:
    for path in ("a/x", "a/b/y", "ab/z", "c"):
        store.put_bytes(path, b"1")
    store.delete_tree("a")
    assert [entry.path for entry in store.list()] == ["ab/z", "c"]
    store.delete("c")
    assert not store.exists("c")
    store.child("ab").delete_tree("")
    assert not store.exists()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a\0b", "a\nb", ".tmp-1", ""])
def test_unsafe_paths_are_refused(store: Store, path: str) -> None:
    for act in (
        lambda: store.put_bytes(path, b""),
        lambda: store.put_if_absent(path, b""),
        lambda: store.head(path),
        lambda: store.get_bytes(path),
        lambda: store.delete(path),
        lambda: store.write_stream(path, [b""], 0, in_flight=1),
    ):
        with pytest.raises(InvalidUri, match="relative path of plain names"):
            act()
    if path:
        with pytest.raises(InvalidUri):
            list(store.list(path))
        with pytest.raises(InvalidUri):
            store.delete_tree(path)


def test_put_if_absent_creates_once(store: Store) -> None:
    store.put_if_absent("fence/1", b"mine")
    for data in (b"theirs", b"mine"):
        with pytest.raises(AlreadyExists) as caught:
            store.put_if_absent("fence/1", data)
        assert store.uri_of("fence/1") in str(caught.value)
    assert store.get_bytes("fence/1") == b"mine"
    store.delete("fence/1")
    store.put_if_absent("fence/1", b"again")


@pytest.mark.parametrize("same", [False, True], ids=["own bytes", "equal bytes"])
def test_sixteen_writers_have_one_winner(store: Store, same: bool) -> None:
    for round_ in range(5):
        winners = _race(store, f"fence/{round_}", same)
        assert len(winners) == 1
        assert store.get_bytes(f"fence/{round_}") == winners[0]


def _race(store: Store, path: str, same: bool) -> list[bytes]:
    barrier = threading.Barrier(16)

    def write(number: int) -> bytes | None:
        data = b"same" if same else f"writer {number}".encode()
        barrier.wait()
        try:
            store.put_if_absent(path, data)
        except AlreadyExists:
            return None
        return data

    with ThreadPoolExecutor(16) as pool:
        return [data for data in pool.map(write, range(16)) if data is not None]


def test_a_pvc_is_a_directory_of_the_mounts(tmp_path: Path) -> None:
    (tmp_path / "claim").mkdir()
    store = open_store("pvc://claim/models", mounts=tmp_path)
    store.put_if_absent("m/x", b"1")
    assert (tmp_path / "claim/models/m/x").read_bytes() == b"1"
    assert store.uri_of("m/x") == "pvc://claim/models/m/x"
    with pytest.raises(NotFound, match="claim is not mounted"):
        open_store("pvc://other", mounts=tmp_path)


def test_repr_tells_the_uri_only(store: Store) -> None:
    assert repr(store).endswith(f"({store.uri!r})")
