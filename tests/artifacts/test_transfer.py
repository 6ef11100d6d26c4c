"""Transfers: digests, resumption after every kind of interruption, corruption, bounded memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_artifacts import (
    ArtifactError,
    DigestMismatch,
    FileDigest,
    InvalidUri,
    NotFound,
    Store,
    StoreOptions,
    Unreachable,
    digest_bytes,
    digest_file,
    open_store,
)
from finetune_artifacts.transfer import part_size

from .conftest import FaultyProxy, S3Server, eventually

MIB = 1 << 20
BIG = bytes(range(256)) * (20 * MIB // 256)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Counter:
    def __init__(self) -> None:
        self.total = 0
        self.steps: list[int] = []

    def __call__(self, count: int) -> None:
        self.total += count
        self.steps.append(count)


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1, 20 * MIB], ids=str)
@pytest.mark.parametrize("algo", ["xxh3", "sha256"])
def test_up_and_down(store: Store, tmp_path: Path, size: int, algo: str) -> None:
    data = BIG[:size]
    (tmp_path / "up").write_bytes(data)
    up, down = Counter(), Counter()
    sent = store.upload_file(tmp_path / "up", "dir/x", algo=algo, progress=up)  # type: ignore[arg-type]
    assert sent == FileDigest("dir/x", size, digest_bytes(data, algo))  # type: ignore[arg-type]
    got = store.download_file("dir/x", tmp_path / "new/down", size=size, digest=sent.digest, progress=down)
    assert got == sent
    assert (tmp_path / "new/down").read_bytes() == data
    assert names(tmp_path / "new") == ["down"]
    assert up.total == down.total == size


def test_download_without_a_promise_tells_the_digest(store: Store, tmp_path: Path) -> None:
    store.put_bytes("x", b"abc")
    assert store.download_file("x", tmp_path / "x").digest == digest_bytes(b"abc")
    assert store.download_file("x", tmp_path / "x", algo="sha256").digest == digest_bytes(b"abc", "sha256")


def test_a_valid_local_file_is_kept_and_an_invalid_one_replaced(store: Store, tmp_path: Path) -> None:
    store.put_bytes("x", b"abc")
    local = tmp_path / "x"
    local.write_bytes(b"abc")
    before = local.stat().st_ino
    store.download_file("x", local, size=3, digest=digest_bytes(b"abc"))
    assert local.stat().st_ino == before
    local.write_bytes(b"abd")
    store.download_file("x", local, size=3, digest=digest_bytes(b"abc"))
    assert local.read_bytes() == b"abc"


def test_missing_and_wrong_local_files(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No such file"):
        store.upload_file(tmp_path / "none", "x")
    with pytest.raises(ArtifactError, match="not a regular file"):
        store.upload_file(tmp_path, "x")
    with pytest.raises(NotFound):
        store.download_file("none", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_file_that_grows_while_it_is_sent_is_refused(store: Store, tmp_path: Path) -> None:
    local = tmp_path / "x"
    local.write_bytes(BIG)

    def grow(count: int) -> None:
        with local.open("ab") as file:
            file.write(b"!")

    with pytest.raises(ArtifactError, match="changed while it was read"):
        store.upload_file(local, "x", progress=grow)


@pytest.mark.parametrize("damage", ["flip", "truncate", "grow"])
def test_corruption_is_found_and_named(store: Store, tmp_path: Path, damage: str) -> None:
    data = BIG[: 5 * MIB]
    promised = digest_bytes(data)
    broken = {"flip": data[:-7] + b"\0" + data[-6:], "truncate": data[:-1], "grow": data + b"\0"}[damage]
    store.put_bytes("model.safetensors", broken)
    for _ in range(2):
        with pytest.raises(DigestMismatch) as caught:
            store.download_file("model.safetensors", tmp_path / "m", size=len(data), digest=promised)
        words = str(caught.value)
        assert store.uri_of("model.safetensors") in words
        if damage == "flip":
            assert promised in words
            assert digest_bytes(broken) in words
        else:
            assert f"expected {len(data)} bytes, found {len(broken)} bytes" in words
        assert not (tmp_path / "m").exists()


class Killed(BaseException):
    """Stands for a death in mid-transfer: nothing in the package may catch it."""


@pytest.fixture
def interrupted(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local path of a download that died after its first chunk."""
    store.put_bytes("x", BIG)
    real = type(store).open_read

    def dying(self: Store, path: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        yield next(iter(real(self, path, start, etag)))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "open_read", dying)
        with pytest.raises(Killed):
            store.download_file("x", tmp_path / "x", size=len(BIG), digest=digest_bytes(BIG))
    assert 0 < (tmp_path / "x.part").stat().st_size < len(BIG)
    assert not (tmp_path / "x").exists()
    return tmp_path / "x"


@pytest.fixture
def read(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that the store hands out from now on, chunk by chunk."""
    counts: list[int] = []
    real = type(store).open_read

    def counting(self: Store, path: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        for chunk in real(self, path, start, etag):
            counts.append(len(chunk))
            yield chunk

    monkeypatch.setattr(type(store), "open_read", counting)
    return counts


@pytest.mark.parametrize("promised", [True, False], ids=["digest", "no digest"])
def test_a_second_run_continues(store: Store, interrupted: Path, read: list[int], promised: bool) -> None:
    had = interrupted.with_name("x.part").stat().st_size
    progress = Counter()
    store.download_file("x", interrupted, digest=digest_bytes(BIG) if promised else None, progress=progress)
    assert sum(read) == len(BIG) - had
    assert progress.total == len(BIG)
    assert interrupted.read_bytes() == BIG
    assert [name for name in names(interrupted.parent) if name.startswith("x")] == ["x"]


def test_a_damaged_part_costs_one_more_fetch(store: Store, interrupted: Path, read: list[int]) -> None:
    part = interrupted.with_name("x.part")
    damaged = bytearray(part.read_bytes())
    damaged[5] ^= 1
    part.write_bytes(damaged)
    progress = Counter()
    store.download_file("x", interrupted, digest=digest_bytes(BIG), progress=progress)
    assert interrupted.read_bytes() == BIG
    assert sum(read) == 2 * len(BIG) - len(damaged)
    assert progress.total == len(BIG)


def test_a_part_of_a_replaced_object_is_thrown_away(store: Store, interrupted: Path) -> None:
    other = BIG[::-1]
    store.put_bytes("x", other)
    store.download_file("x", interrupted)
    assert interrupted.read_bytes() == other


def test_a_part_without_its_tag_is_thrown_away(store: Store, interrupted: Path, read: list[int]) -> None:
    interrupted.with_name("x.part.tag").unlink()
    store.download_file("x", interrupted)
    assert sum(read) == len(BIG)


SCRIPT = """
import sys
from pathlib import Path
from finetune_artifacts import open_store
import os
store = open_store(sys.argv[1], credentials=dict(os.environ))
store.download_file("x", Path(sys.argv[2]))
"""


def test_sigkill_in_mid_download(s3: S3Server, s3_store: Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    s3_store.put_bytes("x", BIG)
    proxy.hold_after = 12 * MIB
    local = tmp_path / "x"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, s3_store.uri, str(local)],
        env=os.environ | s3.credentials | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"},
    )
    part = tmp_path / "x.part"
    try:
        eventually(lambda: part.exists() and part.stat().st_size >= 4 * MIB)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    assert not local.exists()
    counted = FaultyProxy(s3.port)
    try:
        credentials = s3.credentials | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{counted.port}"}
        again = open_store(s3_store.uri, credentials=credentials)
        again.download_file("x", local, size=len(BIG), digest=digest_bytes(BIG))
        assert counted.down < len(BIG) - 3 * MIB
    finally:
        counted.close()
    assert local.read_bytes() == BIG


def test_a_broken_connection_is_continued_in_the_same_run(
    proxied: Store, s3_store: Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    s3_store.put_bytes("x", BIG)
    proxy.cut_after = 9 * MIB
    proxied.download_file("x", tmp_path / "x", digest=digest_bytes(BIG))
    assert proxy.cut_after is None
    assert len(BIG) <= proxy.down < len(BIG) + 6 * MIB


def test_a_stall_is_given_up_in_words(proxied: Store, s3_store: Store, proxy: FaultyProxy, tmp_path: Path) -> None:
    s3_store.put_bytes("x", BIG)
    proxy.hold_after = 6 * MIB
    with pytest.raises(Unreachable) as caught:
        proxied.download_file("x", tmp_path / "x", digest=digest_bytes(BIG))
    assert s3_store.uri in str(caught.value)
    assert (tmp_path / "x.part").stat().st_size > 0
    proxy.hold_after = None
    s3_store.download_file("x", tmp_path / "x", digest=digest_bytes(BIG))


def test_an_upload_whose_answer_is_lost_is_repeated(
    proxied: Store, s3_store: Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert not proxied.exists()
    proxy.drop_answers = 1
    assert proxied.upload_file(tmp_path / "x", "x").size == 3
    assert s3_store.get_bytes("x") == b"abc"


def test_a_failed_attempt_is_repeated_and_its_progress_taken_back(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_bytes(BIG)
    real, failures = type(store).write_stream, [1]

    def failing(self: Store, path: str, chunks: Iterator[bytes], size: int, *, in_flight: int) -> None:
        if failures:
            failures.pop()
            next(chunks)
            raise Unreachable(self.uri_of(path), "write", "the connection broke")
        real(self, path, chunks, size, in_flight=in_flight)

    monkeypatch.setattr(type(store), "write_stream", failing)
    progress = Counter()
    assert store.upload_file(tmp_path / "x", "x", progress=progress).digest == digest_bytes(BIG)
    assert progress.total == len(BIG)
    assert min(progress.steps) < 0
    assert digest_bytes(b"".join(store.open_read("x"))) == digest_bytes(BIG)


def tree(root: Path) -> Path:
    for path in ("a.txt", "sub/b.bin", "sub/deep/c", "skip/x.pt", "y.pt"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode() * 1000)
    return root


def test_trees(store: Store, tmp_path: Path) -> None:
    progress = Counter()
    source = tree(tmp_path / "in")
    sent = store.upload_tree(source, "model", exclude=("*.pt", "skip"), progress=progress)
    assert [file.path for file in sent] == ["a.txt", "sub/b.bin", "sub/deep/c"]
    assert progress.total == sum(file.size for file in sent)
    assert [entry.path for entry in store.list()] == [f"model/{file.path}" for file in sent]
    for files in (None, sent):
        target = tmp_path / f"out-{files is None}"
        assert store.download_tree("model", target, files=files) == sent
        for file in sent:
            assert digest_file(target / file.path) == file.digest
    assert store.download_tree("model", tmp_path / "one", files=sent[:1]) == sent[:1]
    assert names(tmp_path / "one") == ["a.txt"]


def test_a_tree_download_skips_what_is_valid(store: Store, tmp_path: Path, read: list[int]) -> None:
    sent = store.upload_tree(tree(tmp_path / "in"), "model")
    store.download_tree("model", tmp_path / "out", files=sent)
    (tmp_path / "out/sub/b.bin").write_bytes(b"damaged")
    read.clear()
    store.download_tree("model", tmp_path / "out", files=sent)
    assert sum(read) == len("sub/b.bin") * 1000
    assert (tmp_path / "out/sub/b.bin").read_bytes() == b"sub/b.bin" * 1000


def test_a_corrupt_file_of_a_tree_is_named(store: Store, tmp_path: Path) -> None:
    sent = store.upload_tree(tree(tmp_path / "in"), "model")
    store.put_bytes("model/sub/b.bin", b"SUB/b.bin" * 1000)
    with pytest.raises(DigestMismatch, match=r"model/sub/b\.bin"):
        store.download_tree("model", tmp_path / "out", files=sent)


def test_links_and_special_files_are_refused_in_words(store: Store, tmp_path: Path) -> None:
    source = tree(tmp_path / "in")
    (source / "sub/link").symlink_to("b.bin")
    with pytest.raises(ArtifactError, match="sub/link: it is a symbolic link; replace it by what it points to"):
        store.upload_tree(source, "model")
    assert not store.exists()
    store.upload_tree(source, "model", exclude=["sub/link"])
    os.mkfifo(source / "pipe")
    with pytest.raises(ArtifactError, match="pipe: it is not a regular file"):
        store.upload_tree(source, "model", exclude=["sub/link"])
    with pytest.raises(NotFound, match="no such directory"):
        store.upload_tree(tmp_path / "none", "model")


@pytest.mark.parametrize("path", ["../evil/x", "/proc/evil/x", "a/../../evil/x"])
def test_a_manifest_cannot_write_outside(store: Store, tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidUri):
        store.download_tree("model", tmp_path / "out", files=[FileDigest(path, 1, digest_bytes(b"x"))])
    assert not (tmp_path / "evil").exists()


def test_an_empty_prefix_is_not_a_tree(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing is stored there"):
        store.download_tree("model", tmp_path / "out")


def test_a_wrongly_written_digest_is_refused(store: Store, tmp_path: Path) -> None:
    store.put_bytes("x", b"1")
    with pytest.raises(ValueError, match="expected 'xxh3:<32 hex>'"):
        store.download_file("x", tmp_path / "x", digest="md5:0")


def test_parts_stay_below_the_limit_of_s3() -> None:
    least = StoreOptions().part_bytes
    assert part_size(1, least) == least
    for size in (least * 9_000, 100 << 30, 5 << 40):
        assert size / part_size(size, least) <= 9_000


MEASURE = """
import os, sys
from pathlib import Path
from finetune_artifacts import open_store
store = open_store(sys.argv[1], credentials=dict(os.environ) if sys.argv[1].startswith("s3") else None)
store.exists()
local = Path(sys.argv[2])
def peak():  # since the last call; ru_maxrss would still hold the size of the process that forked this one
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
peak()
before = peak()
sent = store.upload_file(local, "big")
up = peak()
store.download_file("big", local.with_name("again"), size=sent.size, digest=sent.digest)
print(before, up, peak())
"""


@pytest.mark.slow
def test_memory_is_bounded(store: Store, tmp_path: Path, s3: S3Server) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(200 * MIB)
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, store.uri, str(tmp_path / "sparse")],
        env=os.environ | s3.credentials,
        capture_output=True,
        text=True,
        check=True,
    )
    before, up, down = map(int, answer.stdout.split())
    print(f"peak RSS in MiB: before {before}, after upload {up}, after download {down}")
    assert up - before <= 80, answer.stdout
    assert down - before <= 80, answer.stdout
    os.truncate(tmp_path / "again", 0)
