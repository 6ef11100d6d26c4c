"""Repositories of the Hub: one commit from first to last, whole files, refusals in words, and no token elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_artifacts import AccessDenied, ArtifactError, InvalidUri, NotFound, Unreachable, fingerprint, open_store
from finetune_artifacts.hub import HubStore, read_by_us
from finetune_artifacts.uri import parse_uri
from tests.artifacts.conftest import IMPATIENT
from tests.artifacts.fake_hub import FakeHub, Repo

MODEL = {
    "config.json": b"{}",
    "model.safetensors": b"w" * 5000,
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"p",
    "original/consolidated.00.pth": b"o",
    "onnx/model.onnx": b"x",
    ".gitattributes": b"a",
    "consolidated.safetensors": b"c",
}
ROWS = {
    "README.md": b"#",
    "data/train-0.parquet": b"r" * 300,
    "data/train-1.parquet": b"s" * 200,
    "test/a.jsonl": b"{}",
}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as made:
        made.repo("acme/bot", MODEL)
        made.repo("datasets/acme/rows", ROWS)
        yield made


def opened(hub: FakeHub, uri: str, **more: str) -> HubStore:
    store = open_store(uri, credentials=hub.credentials | more, options=IMPATIENT)
    assert isinstance(store, HubStore)
    return store


@pytest.mark.parametrize(
    ("uri", "authority", "path"),
    [
        ("hf://acme/bot", "acme/bot", ""),
        ("hf://acme/bot@v1.0/sub/x.json", "acme/bot@v1.0", "sub/x.json"),
        ("hf://datasets/acme/rows/data", "datasets/acme/rows", "data"),
        (f"hf://datasets/acme/rows@{'a' * 40}", f"datasets/acme/rows@{'a' * 40}", ""),
    ],
)
def test_uris(uri: str, authority: str, path: str) -> None:
    found = parse_uri(uri)
    assert (found.authority, found.path, str(found)) == (authority, path, uri)


@pytest.mark.parametrize("uri", ["hf://bot", "hf://datasets/rows", "hf://a b/c", "hf://acme/bot@", "hf:///a/b"])
def test_what_is_no_repository_is_refused_in_words(uri: str) -> None:
    with pytest.raises(InvalidUri, match="is not a repository of the Hub") as error:
        parse_uri(uri)
    assert "hf://datasets/organisation/name" in str(error.value)


def test_a_model_lists_what_is_read_of_it_and_nothing_else(hub: FakeHub) -> None:
    store = opened(hub, "hf://acme/bot")
    assert [entry.path for entry in store.list()] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert [entry.size for entry in store.list()] == [2, 5000, 2]
    assert store.list_dirs() == ["onnx", "original"]
    assert read_by_us(["config.json", "pytorch_model.bin"]) == {"config.json", "pytorch_model.bin"}, "to be refused"


def test_a_dataset_lists_everything_over_all_pages(hub: FakeHub) -> None:
    hub.repo("datasets/acme/many", {f"{i:02}.jsonl": b"{}" for i in range(11)})
    assert len(list(opened(hub, "hf://datasets/acme/many").list())) == 11
    assert [entry.path for entry in opened(hub, "hf://datasets/acme/rows").list()] == sorted(ROWS)
    below = opened(hub, "hf://datasets/acme/rows/data")
    assert [entry.path for entry in below.list()] == ["train-0.parquet", "train-1.parquet"]
    assert below.get_bytes("train-1.parquet") == ROWS["data/train-1.parquet"]
    assert list(opened(hub, "hf://datasets/acme/rows/nowhere").list()) == []


def test_a_store_reads_one_commit_while_the_branch_moves(hub: FakeHub, tmp_path: Path) -> None:
    store = opened(hub, "hf://acme/bot")
    first, seen = store.commit, fingerprint(store)
    hub.repos["acme/bot"].push({**MODEL, "config.json": b'{"new": 1}'})
    assert fingerprint(store) == seen
    assert store.get_bytes("config.json") == b"{}"
    again = opened(hub, "hf://acme/bot")
    assert again.commit != first
    assert fingerprint(again) != seen
    pinned = opened(hub, f"hf://acme/bot@{first}")
    pinned.download_tree("", tmp_path)
    assert (tmp_path / "config.json").read_bytes() == b"{}"
    assert fingerprint(pinned) == seen, "content decides, whatever the revision is called"


def test_a_file_whose_stream_breaks_is_continued(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after = 3000
    opened(hub, "hf://acme/bot").download_file("model.safetensors", tmp_path / "weights", size=5000)
    assert (tmp_path / "weights").read_bytes() == MODEL["model.safetensors"]
    assert sum(path.startswith("/acme/bot/") for host, path, _ in hub.asked if host == "files") == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_parts_of_files(hub: FakeHub, ranges: bool) -> None:
    content = bytes(range(256)) * 20
    hub.repo("datasets/acme/bytes", {"x.bin": content})
    hub.ranges = ranges
    store = opened(hub, "hf://datasets/acme/bytes")
    assert store.get_range("x.bin", 100, 50) == content[100:150]
    assert store.get_range("x.bin", len(content) - 3, 50) == content[-3:]
    assert store.get_range("x.bin", len(content), 5) == b""
    assert b"".join(store.open_read("x.bin", 4000)) == content[4000:]


def test_the_token_goes_to_the_hub_alone(hub: FakeHub) -> None:
    hub.repos["acme/bot"].private = True
    store = opened(hub, "hf://acme/bot", HF_TOKEN=hub.token)
    assert store.get_bytes("config.json") == b"{}"
    assert {authorization for host, _, authorization in hub.asked if host == "files"} == {None}
    assert {authorization for host, _, authorization in hub.asked if host == "hub"} == {f"Bearer {hub.token}"}


def test_a_secrets_folder_is_read_and_one_without_a_name_it_knows_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    hub.repos["acme/bot"].private = True
    (tmp_path / "HF_TOKEN").write_text(f"{hub.token}\n")
    (tmp_path / "HF_ENDPOINT").write_text(hub.endpoint)
    assert open_store("hf://acme/bot", credentials=tmp_path, options=IMPATIENT).exists("config.json")
    (tmp_path / "none").mkdir()
    with pytest.raises(AccessDenied, match="add HF_TOKEN to the Secret"):
        open_store("hf://acme/bot", credentials=tmp_path / "none")


def test_without_a_secret_the_environment_counts(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.repos["acme/bot"].private = True
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(AccessDenied):
        list(open_store("hf://acme/bot", options=IMPATIENT).list())
    (tmp_path / "token").write_text(hub.token)
    assert open_store("hf://acme/bot", options=IMPATIENT).exists("config.json")


def test_refusals_say_what_to_do_and_hide_the_token(hub: FakeHub) -> None:
    hub.repos["acme/gated"] = Repo(gated=True)
    hub.repos["acme/gated"].push(MODEL)
    cases = {
        "hf://acme/nothing": (
            AccessDenied,
            "it does not exist, or may not be read; correct the name, or name a Secret",
        ),
        "hf://acme/gated": (AccessDenied, "accept its terms on the Hub"),
        "hf://acme/bot@v9": (NotFound, "it has no revision 'v9'"),
    }
    for uri, (kind, words) in cases.items():
        with pytest.raises(kind, match=words):
            list(opened(hub, uri).list())
    with pytest.raises(AccessDenied, match="give the token in HF_TOKEN the right") as error:
        list(opened(hub, "hf://acme/nothing", HF_TOKEN="hf_of_another").list())
    assert "hf_of_another" not in str(error.value)
    with pytest.raises(NotFound, match="no such file"):
        opened(hub, "hf://acme/bot").head("nothing.json")


def test_a_busy_hub_is_asked_again_and_an_absent_one_is_said(hub: FakeHub) -> None:
    hub.busy = 2
    assert opened(hub, "hf://acme/bot").exists("config.json")
    hub.busy = 1000
    with pytest.raises(Unreachable, match="HTTP status 503"):
        list(opened(hub, "hf://acme/bot").list())
    nowhere = open_store("hf://acme/bot", credentials={"HF_ENDPOINT": "http://127.0.0.1:9"}, options=IMPATIENT)
    with pytest.raises(Unreachable, match="check HF_ENDPOINT"):
        list(nowhere.list())


def test_what_is_no_hub_is_said(hub: FakeHub) -> None:
    for endpoint in ("hub.example.com", "https://user:pass@hub"):
        with pytest.raises(InvalidUri, match="HF_ENDPOINT"):
            open_store("hf://acme/bot", credentials={"HF_ENDPOINT": endpoint})
    with pytest.raises(ArtifactError, match="Hub"):
        list(open_store("hf://acme/bot", credentials={"HF_ENDPOINT": hub.files_host}, options=IMPATIENT).list())


def test_nothing_is_written(hub: FakeHub, tmp_path: Path) -> None:
    store = opened(hub, "hf://acme/bot")
    (tmp_path / "x").write_bytes(b"x")
    attempts = [
        lambda: store.put_bytes("x", b""),
        lambda: store.put_if_absent("x", b""),
        lambda: store.upload_file(tmp_path / "x", "x"),
        lambda: store.delete("x"),
        lambda: store.delete_tree(""),
    ]
    for attempt in attempts:
        with pytest.raises(AccessDenied, match="hf:// is read only"):
            attempt()
