"""What a URI stands for: a store, one object, or all objects below it."""

from pathlib import Path

import pytest

from finetune_artifacts import InvalidUri, NotFound, Store, open_source, open_store, split_uri

from .conftest import S3Server


def test_an_object_and_a_prefix(store: Store, s3: S3Server) -> None:
    store.put_bytes("data/train.jsonl", b"1")
    store.put_bytes("data/more/x.jsonl", b"2")
    parent, one = open_source(store.uri + "/data/train.jsonl", credentials=s3.credentials)
    assert [entry.path for entry in one] == ["train.jsonl"]
    assert parent.get_bytes("train.jsonl") == b"1"
    below, entries = open_source(store.uri + "/data", credentials=s3.credentials)
    assert below.uri == store.uri + "/data"
    assert [entry.path for entry in entries] == ["more/x.jsonl", "train.jsonl"]
    assert open_source(store.uri + "/data/", credentials=s3.credentials)[1] == entries
    with pytest.raises(NotFound, match="neither an object nor a directory"):
        open_source(store.uri + "/data/none", credentials=s3.credentials)


def test_a_file_below_a_claim(tmp_path: Path) -> None:
    (tmp_path / "claim").mkdir()
    (tmp_path / "claim/x").write_bytes(b"1")
    for uri in ("pvc://claim/x", "pvc://claim"):
        store, entries = open_source(uri, mounts=tmp_path)
        assert store.uri == "pvc://claim"
        assert [entry.path for entry in entries] == ["x"]


def test_opening_contacts_nothing_and_creates_nothing(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/new/dir")
    assert list(tmp_path.iterdir()) == []


def test_split() -> None:
    assert split_uri("s3://bkt/a/b") == ("s3://bkt/a", "b")
    assert split_uri("s3://bkt/b") == ("s3://bkt", "b")
    assert split_uri("file:///b") == ("file:///", "b")
    with pytest.raises(InvalidUri, match="it names no object"):
        split_uri("s3://bkt/")
