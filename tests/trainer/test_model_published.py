"""Whose output a place is, and that two runs never share one."""

import json
from pathlib import Path

import pytest

from finetune_artifacts import FileDigest, Store, open_store
from finetune_trainer.model.published import MARKER, OutputTaken, claim, find_published, records_digest


@pytest.fixture
def place(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/output")


def test_an_empty_place_is_free_and_may_be_claimed_again_by_its_owner(place: Store) -> None:
    assert find_published(place, "ours") is None
    claim(place, "ours")
    claim(place, "ours")
    assert find_published(place, "ours") is None


def test_a_claimed_place_is_closed_to_others(place: Store) -> None:
    claim(place, "theirs")
    with pytest.raises(OutputTaken, match="being published to by run theirs"):
        find_published(place, "ours")
    with pytest.raises(OutputTaken, match="claimed by run theirs just now"):
        claim(place, "ours")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}"])
def test_a_marker_nobody_can_read_belongs_to_nobody_we_know(place: Store, content: bytes) -> None:
    place.put_bytes(MARKER, content)
    with pytest.raises(OutputTaken, match="run unknown"):
        find_published(place, "ours")


def test_a_manifest_of_something_else_is_left_alone(place: Store) -> None:
    place.put_bytes("MANIFEST.json", json.dumps({"format": 1, "step": 3}).encode())
    with pytest.raises(OutputTaken, match="is not a model manifest"):
        find_published(place, "ours")


def test_probes_of_preflight_are_no_strangers(place: Store) -> None:
    place.put_bytes(".probe/0123", b"probe")
    assert find_published(place, "ours") is None


def test_the_digest_is_of_the_set_of_files() -> None:
    a, b = FileDigest("a", 1, "sha256:" + "0" * 64), FileDigest("b", 2, "sha256:" + "1" * 64)
    assert records_digest([a, b]) == records_digest([b, a])
    assert records_digest([a, b]) != records_digest([a])
    assert records_digest([a]).startswith("sha256:")
