"""A fingerprint changes with the content and with nothing else."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from finetune_artifacts import ArtifactError, Store, fingerprint
from finetune_artifacts.local import LocalStore


@pytest.fixture
def filled(store: Store) -> Store:
    store.put_bytes("train/a.jsonl", b"one\n")
    store.put_bytes("train/b.jsonl", b"two\n")
    return store.child("train")


def test_it_is_the_same_for_the_same_content(filled: Store) -> None:
    first = fingerprint(filled)
    assert first.startswith("sha256:")
    assert fingerprint(filled) == first
    assert fingerprint(reversed(list(filled.list()))) == first
    filled.put_bytes("a.jsonl", b"one\n")
    assert fingerprint(filled) == first


def test_content_names_and_sets_change_it(filled: Store) -> None:
    seen = {fingerprint(filled)}
    filled.put_bytes("a.jsonl", b"0ne\n")
    seen.add(fingerprint(filled))
    filled.put_bytes("c.jsonl", b"two\n")
    seen.add(fingerprint(filled))
    filled.delete("b.jsonl")
    seen.add(fingerprint(filled))
    assert len(seen) == 4


def test_files_do_not_depend_on_their_times_or_place(tmp_path: Path, file_store: Store) -> None:
    assert isinstance(file_store, LocalStore)
    file_store.put_bytes("here/x", b"same")
    first = fingerprint(file_store.child("here"))
    os.utime(file_store.root / "here/x", (1, 1))
    assert fingerprint(file_store.child("here")) == first
    file_store.put_bytes("there/x", b"same")
    assert fingerprint(file_store.child("there")) == first


def test_entries_of_nowhere_are_refused(file_store: Store) -> None:
    file_store.put_bytes("x", b"1")
    with pytest.raises(ArtifactError, match="neither an ETag nor a store"):
        fingerprint([replace(entry, store=None) for entry in file_store.list()])
