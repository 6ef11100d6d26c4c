"""Derived folders: made by one process, waited for by the others, made anew when a bit is wrong."""

import threading
from pathlib import Path

import pytest

from finetune_trainer.data.once import made_once


def ignore(_count: int) -> None:
    pass


class Maker:
    def __init__(self) -> None:
        self.made = 0

    def __call__(self, folder: Path) -> None:
        self.made += 1
        (folder / "a.bin").write_bytes(b"0123456789")
        (folder / "b.bin").write_bytes(b"x")


def test_made_once_then_reused(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(3):
        made_once(tmp_path / "derived", make, ignore)
    assert make.made == 1
    assert (tmp_path / "derived" / "a.bin").read_bytes() == b"0123456789"


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "add", "no-table", "bad-table"])
def test_damage_is_found_and_made_anew(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, place = Maker(), tmp_path / "derived"
    made_once(place, make, ignore)
    match damage:
        case "flip":
            (place / "a.bin").write_bytes(b"0123456788")
        case "truncate":
            (place / "a.bin").write_bytes(b"0123")
        case "delete":
            (place / "b.bin").unlink()
        case "add":
            (place / "c.bin").touch()
        case "no-table":
            (place / "digests.json").unlink()
        case "bad-table":
            (place / "digests.json").write_text("{")
    made_once(place, make, ignore)
    assert make.made == 2
    assert (place / "a.bin").read_bytes() == b"0123456789"
    assert not (place / "c.bin").exists()
    assert "cached data is damaged" in "".join(capsys.readouterr())


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        made_once(tmp_path / "derived", fail, ignore)
    assert [path.name for path in tmp_path.iterdir()] == [".derived.lock"]
    make = Maker()
    made_once(tmp_path / "derived", make, ignore)
    assert make.made == 1


def test_others_wait_with_beating_hearts(tmp_path: Path) -> None:
    make, waited = Maker(), threading.Event()

    def slow(folder: Path) -> None:
        assert waited.wait(60), "the other one does not wait"
        make(folder)

    first = threading.Thread(target=made_once, args=(tmp_path / "derived", slow, ignore))
    first.start()
    while not (tmp_path / ".derived.lock").exists():
        first.join(0.01)
    second = threading.Thread(target=made_once, args=(tmp_path / "derived", slow, lambda _count: waited.set()))
    second.start()
    first.join(60)
    second.join(60)
    assert not first.is_alive()
    assert not second.is_alive()
    assert make.made == 1
