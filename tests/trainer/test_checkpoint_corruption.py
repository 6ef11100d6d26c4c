"""Whatever happens to stored bytes or to the process that writes them, an older whole checkpoint is found, and said why.

KILLS and SEED set how often the saving process is killed, and when (`make nightly`).
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from finetune_api.runconfig import RunConfig
from finetune_artifacts import ArtifactError, Store, open_store
from finetune_trainer.checkpoint import saver as saving
from finetune_trainer.checkpoint.commit import commit
from finetune_trainer.checkpoint.find import newest_valid
from finetune_trainer.checkpoint.saver import Saver
from tests.artifacts.conftest import IMPATIENT, FaultyProxy, S3Server, proxy, s3, s3_uri
from tests.trainer import killed_saver
from tests.trainer.killed_saver import FORMS, Form
from tests.trainer.test_checkpoint_find import World, snapshot

__all__ = ["proxy", "s3", "s3_uri"]
KILLS = int(os.environ.get("KILLS", "50"))
SEED = int(os.environ.get("SEED", "1"))


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def save(world: World, form: Form, step: int) -> Path:
    report = form(world.config, world.run, world.checkpoints, step, world.folder / "scratch")
    return world.path(report.uri.rsplit("/", 1)[-1])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" \0")


def _flip(at: float) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(at * (len(content) - 1))] ^= 0x10
        path.write_bytes(bytes(content))

    return flip


DAMAGE = {
    "cut": _cut,
    "emptied": _empty,
    "grown": _grow,
    "first bit": _flip(0),
    "middle bit": _flip(0.5),
    "last bit": _flip(1),
    "deleted": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_every_file_damaged_in_turn(world: World, form: Form, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    older = save(world, form, 5)
    newer = save(world, form, 10)
    names = sorted(p.name for p in newer.iterdir())
    assert {"MANIFEST.json", "state.json"} < set(names)
    whole = newer.with_name("whole")
    shutil.copytree(newer, whole)
    for name in names:
        shutil.rmtree(newer)
        shutil.copytree(whole, newer)
        DAMAGE[damage](newer / name)
        shutil.rmtree(world.folder / "resume", ignore_errors=True)
        capfd.readouterr()
        assert world.found() == older.name, f"{name} {damage}"
        told = "".join(capfd.readouterr())
        assert newer.name in told
        reasons = ("quarantined", "never committed") if name == "MANIFEST.json" else (name,)
        assert any(reason in told for reason in reasons), told


def test_no_flipped_bit_of_a_manifest_moves_the_position(world: World) -> None:
    older = save(world, killed_saver.whole, 5)
    manifest = save(world, killed_saver.whole, 10) / "MANIFEST.json"
    content = manifest.read_bytes()
    fell_back = 0
    for at in range(0, len(content), 5):
        manifest.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 7)]) + content[at + 1 :])
        found = newest_valid(world.checkpoints, [], world.folder / "resume")
        assert found is not None
        assert found.folder.name == f"step-{found.manifest.step}-a{found.manifest.attempt}"
        fell_back += found.folder.name == older.name
        (manifest.parent / "QUARANTINED.json").unlink(missing_ok=True)
    assert fell_back > len(content) / 5 / 2, "most of a manifest matters"


@pytest.mark.parametrize("path", ["state.js\\u007fn", "../state.json", "/state.json", "state.json/", ".tmp-state"])
def test_a_damaged_path_in_a_manifest_is_quarantined(
    world: World, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    older = save(world, killed_saver.whole, 5)
    newer = save(world, killed_saver.whole, 10)
    manifest = newer / "MANIFEST.json"
    content = manifest.read_text()
    assert content.count('"state.json"') == 1
    manifest.write_text(content.replace('"state.json"', f'"{path}"'))
    assert world.found() == older.name
    assert "quarantined" in "".join(capfd.readouterr())


def test_all_damaged_is_none_and_no_error(world: World, form: Form) -> None:
    for step in (5, 10):
        _flip(0.5)(save(world, form, step) / "state.json")
    assert world.found() is None


@pytest.mark.slow
def test_killed_at_random_moments_of_saving(world: World, form: Form) -> None:
    rng = Random(SEED)
    newest, during = 0, 0
    for _ in range(KILLS):
        pid, reader = killed_saver.begin(form, world.config, world.folder / "scratch", newest + 1)
        try:
            # From the first commit on, or the process would often be killed before it writes at all.
            if rng.random() < 0.8:
                assert select.select([reader], [], [], 60)[0], "no commit in a minute"
            deadline = time.monotonic() + rng.uniform(0.0, 0.06)
            while time.monotonic() < deadline:
                time.sleep(0.0005)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        told = b""
        while chunk := os.read(reader, 4096):
            told += chunk
        os.close(reader)
        last = int.from_bytes(told[-4:], "big") if told else newest
        shutil.rmtree(world.folder / "resume", ignore_errors=True)
        found = world.found()
        step = int(found.split("-")[1]) if found else 0
        # One more than told: killed between the commit and the word about it.
        assert last <= step <= last + 1, f"told {last}, found {found}"
        during += any(world.path(".").glob(f"step-{step + 1}-*")) or (world.folder / "scratch").exists()
        newest = step
    assert newest >= KILLS * 0.5
    assert during > 0, "no kill fell into a save"


def _child(act: Callable[[], None]) -> tuple[int, str]:
    """Runs `act` in a fork; its exit code (0, 74 for an error of storage, 1 for anything else, 99: not allowed here)
    and its words."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except (ArtifactError, OSError) as error:
            code = 99 if isinstance(error, PermissionError) else 74
            os.write(writer, str(error).encode())
        finally:
            os._exit(code)
    os.close(writer)
    words = b"".join(iter(lambda: os.read(reader, 4096), b""))
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), words.decode()


def test_a_file_system_that_takes_no_more(world: World, form: Form) -> None:
    older = save(world, form, 5)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        save(world, form, 10)

    code, words = _child(limited)
    assert code == 74, words
    assert "File too large" in words
    assert world.found() == older.name
    assert save(world, form, 10).name == world.found(), "the next try finds the space"


@pytest.mark.parametrize("where", ["scratch", "store"])
def test_a_full_disk(world: World, form: Form, where: str) -> None:
    """On a tmpfs of 4 KiB in a user namespace of its own, which needs no rights where the kernel allows it."""
    older = save(world, form, 5)

    def full() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        new_user, new_mounts = 0x10000000, 0x00020000
        if os.geteuid() == 0:
            new_user = 0
        if libc.unshare(new_user | new_mounts) or libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None):
            raise PermissionError(ctypes.get_errno(), "no mount namespace here")
        target = world.folder / "scratch" if where == "scratch" else world.path("step-10-a1")
        target.mkdir(parents=True, exist_ok=True)
        if libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", 0, b"size=4096"):
            raise PermissionError(ctypes.get_errno(), "no tmpfs here")
        (target / "filler").write_bytes(b"x" * 4000)
        save(world, form, 10)

    code, words = _child(full)
    if code == 99:
        pytest.skip("mounting a tmpfs is not allowed here")
    assert code == 74, words
    assert "No space left" in words
    assert world.found() == older.name


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "RETRY_SECONDS", (0.001, 0.001))


class Bucket:
    """A run whose checkpoints travel through a proxy to a real S3 server; what arrived is looked at behind it."""

    def __init__(self, world: World, server: S3Server, proxy: FaultyProxy, uri: str) -> None:
        self.world, self.uri = world, uri
        through = server.credentials | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        self.proxied = open_store(uri, credentials=through, options=IMPATIENT)
        self.direct = open_store(uri, credentials=server.credentials, options=IMPATIENT)
        self.folder = server.root / uri.removeprefix("s3://")

    def saver(self, store: Store) -> Saver:
        config: RunConfig = self.world.config
        return Saver(
            lambda taken: commit(config, self.world.run, store, taken, self.world.folder / "scratch"),
            lambda _report: None,
        )

    def save(self, saver: Saver, step: int) -> None:
        saver.start(snapshot(step))
        assert saver.wait(120)

    def found(self) -> int | None:
        found = newest_valid(self.direct, [], self.world.folder / "resume")
        return found.manifest.step if found else None


@pytest.fixture
def bucket(world: World, s3: S3Server, proxy: FaultyProxy, s3_uri: str, impatient: None) -> Bucket:
    return Bucket(world, s3, proxy, s3_uri)


def test_s3_that_fails(bucket: Bucket, proxy: FaultyProxy) -> None:
    saver = bucket.saver(bucket.proxied)
    bucket.save(saver, 5)
    proxy.close()
    bucket.save(saver, 10)
    assert saver.error() is None, "once is weather"
    bucket.save(saver, 15)
    error = saver.error()
    assert error is not None
    assert error.code == 74
    assert "two checkpoints in a row could not be saved, the last at step 15" in error.message
    assert bucket.uri in error.message
    assert bucket.found() == 5


@pytest.mark.nightly
def test_s3_that_stalls(bucket: Bucket, proxy: FaultyProxy) -> None:
    saver = bucket.saver(bucket.proxied)
    bucket.save(saver, 5)
    proxy.hold_after = proxy.down
    bucket.save(saver, 10)
    bucket.save(saver, 15)
    error = saver.error()
    assert error is not None
    assert error.code == 74
    assert bucket.found() == 5


def test_s3_whose_answers_get_lost_may_have_committed(bucket: Bucket, proxy: FaultyProxy) -> None:
    saver = bucket.saver(bucket.proxied)
    bucket.save(saver, 5)
    proxy.drop_answers = 3
    bucket.save(saver, 10)
    assert saver.error() is None
    assert saver.last is not None
    assert bucket.found() == saver.last.step


@pytest.mark.parametrize("file", ["trainable.safetensors", "optimizer.safetensors"])
def test_s3_that_loses_the_last_part(bucket: Bucket, file: str, capfd: pytest.CaptureFixture[str]) -> None:
    saver = bucket.saver(bucket.direct)
    bucket.save(saver, 5)
    bucket.save(saver, 10)
    stored = bucket.folder / "step-10-a1" / file
    _cut(stored)
    assert bucket.found() == 5
    told = "".join(capfd.readouterr())
    assert "quarantined" in told
    assert file in told
