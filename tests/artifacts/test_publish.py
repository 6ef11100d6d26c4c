"""Commit order, refusals, and the probe that preflight runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_artifacts import (
    AccessDenied,
    AlreadyExists,
    ArtifactError,
    DigestMismatch,
    Store,
    check_writable,
    commit,
    digest_bytes,
)

from .conftest import Answering


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"second")
    return {"step-1-a1/a": tmp_path / "a", "step-1-a1/b": tmp_path / "b"}


MANIFEST = "step-1-a1/MANIFEST.json"


def test_commit_stores_content_and_then_the_manifest(store: Store, content: dict[str, Path]) -> None:
    seen: list[list[str]] = []
    digests = {"step-1-a1/a": digest_bytes(b"first"), "step-1-a1/b": digest_bytes(b"second")}
    sent = commit(
        store,
        content,
        MANIFEST,
        b"{}",
        digests=digests,
        guard=lambda: seen.append([entry.path for entry in store.list()]),
    )
    assert seen == [["step-1-a1/a", "step-1-a1/b"]]
    assert {file.path: file.digest for file in sent} == digests
    assert store.get_bytes(MANIFEST) == b"{}"


def test_a_commit_that_fails_leaves_no_manifest(store: Store, content: dict[str, Path], tmp_path: Path) -> None:
    class Fenced(Exception):
        pass

    def fence() -> None:
        raise Fenced

    with pytest.raises(Fenced):
        commit(store, content, MANIFEST, b"{}", guard=fence)
    with pytest.raises(ArtifactError, match="No such file"):
        commit(store, content | {"step-1-a1/c": tmp_path / "gone"}, MANIFEST, b"{}")
    assert not store.exists(MANIFEST)


@pytest.mark.parametrize("promised", [digest_bytes(b"other"), None], ids=["other bytes", "not named"])
def test_content_that_the_manifest_does_not_promise(
    store: Store, content: dict[str, Path], promised: str | None
) -> None:
    digests = {"step-1-a1/a": digest_bytes(b"first")} | ({"step-1-a1/b": promised} if promised else {})
    with pytest.raises(DigestMismatch, match="step-1-a1/b"):
        commit(store, content, MANIFEST, b"{}", digests=digests)
    assert not store.exists(MANIFEST)


def test_what_is_published_is_never_touched_again(store: Store, content: dict[str, Path]) -> None:
    commit(store, content, MANIFEST, b"{}")
    content["step-1-a1/a"].write_bytes(b"changed")
    with pytest.raises(AlreadyExists, match="committed before; nothing was changed"):
        commit(store, content, MANIFEST, b"{}")
    assert store.get_bytes("step-1-a1/a") == b"first"


def test_a_rival_who_commits_meanwhile_wins(store: Store, content: dict[str, Path]) -> None:
    with pytest.raises(AlreadyExists):
        commit(store, content, MANIFEST, b"{}", guard=lambda: store.put_if_absent(MANIFEST, b"rival"))
    assert store.get_bytes(MANIFEST) == b"rival"


def test_the_probe_leaves_nothing(store: Store) -> None:
    check_writable(store)
    assert not store.exists()


def test_the_probe_says_that_access_is_denied(answering: Answering) -> None:
    store = answering(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
    with pytest.raises(AccessDenied, match=r"cannot write .*AccessDenied: no"):
        check_writable(store)


def _overwrite(store: Store, path: str, data: bytes, *, patience: float | None = None) -> None:
    store.put_bytes(path, data)


def _unsupported(store: Store, path: str, data: bytes, *, patience: float | None = None) -> None:
    raise ArtifactError(store.uri_of(path), "create", "NotImplemented: If-None-Match")


@pytest.mark.parametrize(
    ("create", "words"),
    [(_overwrite, "ignores conditional puts"), (_unsupported, "NotImplemented: If-None-Match")],
)
def test_the_probe_finds_stores_without_conditional_puts(
    store: Store, monkeypatch: pytest.MonkeyPatch, create: Callable[..., None], words: str
) -> None:
    monkeypatch.setattr(type(store), "put_if_absent", create)
    with pytest.raises(ArtifactError, match=words):
        check_writable(store)
    assert not store.exists()
