"""Packed rows over real encodings: what is in them, and that a damaged index is made anew."""

from pathlib import Path

import numpy as np
import pytest

from finetune_trainer.data.dataset import Examples, load_splits, report
from finetune_trainer.data.fetch import fetch_data
from finetune_trainer.data.packed import Packed, pack
from tests.trainer import small

CAPACITY = 128


def ignore(_count: int) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    small.write_jsonl(root / "train.jsonl", small.chatter(120) + small.conversations(60))
    return root


@pytest.fixture(scope="module")
def train(folder: Path) -> Examples:
    config = small.config(folder)
    return load_splits(config, fetch_data(config, folder / "scratch", ignore), small.tokenizer()).train


@pytest.fixture
def rows(train: Examples, tmp_path: Path) -> Packed:
    return pack(train, CAPACITY, tmp_path, ignore)


def test_rows_are_the_records_one_after_another(train: Examples, rows: Packed) -> None:
    assert 1 < len(rows) < len(train)
    seen: list[int] = []
    for row, (ids, targets) in enumerate(rows):
        members = rows.records(row).tolist()
        seen += members
        assert ids.tolist() == [i for m in members for i in train[m][0].tolist()]
        assert len(ids) == len(targets) <= CAPACITY
        wanted = [t for m in members for t in [False, *train[m][1].tolist()[1:]]]
        assert targets.tolist() == wanted
        assert rows.positions(row).tolist() == [p for m in members for p in range(len(train[m][0]))]
    assert sorted(seen) == list(range(len(train)))


def test_the_encodings_are_not_written_to(train: Examples, rows: Packed) -> None:
    ids, targets = rows[0]
    ids[:], targets[:] = 0, True
    again = rows[0]
    assert again[0].any()
    assert not again[1].all()
    assert train[int(rows.records(0)[0])][0].any()


def test_as_many_targets_as_unpacked(train: Examples, rows: Packed) -> None:
    packed = sum(int(np.count_nonzero(targets[1:])) for _ids, targets in rows)
    assert packed == sum(int(np.count_nonzero(targets[1:])) for _ids, targets in train)


def test_the_index_is_reused_and_repaired(train: Examples, rows: Packed, tmp_path: Path) -> None:
    (place,) = tmp_path.glob("packed-*")
    before = (place / "members.npy").stat().st_ino
    wanted = [rows.records(i).tolist() for i in range(len(rows))]
    pack(train, CAPACITY, tmp_path, ignore)
    assert (place / "members.npy").stat().st_ino == before
    content = bytearray((place / "members.npy").read_bytes())
    content[-8] ^= 1
    (place / "members.npy").write_bytes(content)
    again = pack(train, CAPACITY, tmp_path, ignore)
    assert [again.records(i).tolist() for i in range(len(again))] == wanted


def test_another_capacity_is_another_index(train: Examples, rows: Packed, tmp_path: Path) -> None:
    pack(train, 2 * CAPACITY, tmp_path, ignore)
    assert len(list(tmp_path.glob("packed-*"))) == 2


def test_a_damaged_encoding_is_made_anew(tmp_path: Path) -> None:
    small.write_jsonl(tmp_path / "train.jsonl", small.conversations(20))
    config = small.config(tmp_path)
    scratch = fetch_data(config, tmp_path / "scratch", ignore)
    before = [ids.tolist() for ids, _ in load_splits(config, scratch, small.tokenizer()).train]
    (place,) = scratch.glob("encoded-*")
    content = bytearray((place / "ids.bin").read_bytes())
    content[0] ^= 1
    (place / "ids.bin").write_bytes(content)
    again = load_splits(config, scratch, small.tokenizer()).train
    assert [ids.tolist() for ids, _ in again] == before


def test_the_report_says_how_full_rows_are(folder: Path, rows: Packed, capsys: pytest.CaptureFixture[str]) -> None:
    config = small.config(folder)
    counts = load_splits(config, folder / "scratch", small.tokenizer()).counts
    report(counts, rows)
    said = "".join(capsys.readouterr())
    assert "data packed" in said
    assert "efficiencyPercent" in said
    assert "truncatedPercent" in said
    assert 50 < rows.counts.efficiency_percent <= 100
    report(counts, None, "the reason")
    assert "the reason" in "".join(capsys.readouterr())


def test_packing_is_no_part_of_what_is_encoded(folder: Path, train: Examples) -> None:
    load_splits(small.config(folder, {"data": {"packing": False}}), folder / "scratch", small.tokenizer())
    assert len(list((folder / "scratch").glob("encoded-*"))) == 1
