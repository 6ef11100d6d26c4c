"""S3: credentials, the mapping of its answers, lost answers, and patience."""

import socket
from pathlib import Path

import obstore
import pytest

from finetune_artifacts import (
    AccessDenied,
    AlreadyExists,
    ArtifactError,
    InvalidUri,
    NotFound,
    Store,
    Unreachable,
    open_store,
)
from finetune_artifacts.base import Entry
from finetune_artifacts.s3 import ObjectStore, without_markers

from .conftest import IMPATIENT, SECRET, Answering, FaultyProxy, S3Server


def xml(code: str, message: str = "words", more: str = "") -> str:
    return f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>'


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, "", AccessDenied, "HTTP status 401; check the keys"),
        (403, xml("AccessDenied", "no s3:PutObject"), AccessDenied, "AccessDenied: no s3:PutObject"),
        (400, xml("ExpiredToken", "it has expired"), AccessDenied, "ExpiredToken: it has expired"),
        (404, xml("NoSuchBucket"), NotFound, "create the bucket"),
        (404, xml("NoSuchKey"), NotFound, "check the URI"),
        (301, xml("PermanentRedirect"), ArtifactError, "the bucket is in another region"),
        (409, xml("OperationAborted"), Unreachable, "try again later"),
        (429, xml("SlowDown"), Unreachable, "try again later"),
        (500, xml("InternalError"), Unreachable, "InternalError: words"),
        (501, xml("NotImplemented", "no If-None-Match here"), ArtifactError, "no If-None-Match here"),
        (503, xml("SlowDown"), Unreachable, "try again later"),
    ],
)
def test_what_a_server_answers_becomes_our_error(
    answering: Answering, status: int, body: str, kind: type[ArtifactError], words: str
) -> None:
    store = answering(status, body)
    for act in (
        lambda: store.get_bytes("x"),
        lambda: list(store.list()),
        lambda: store.put_bytes("x", b"1"),
        lambda: store.put_if_absent("x", b"1"),
    ):
        with pytest.raises(kind) as caught:
            act()
        assert type(caught.value) is kind
        assert words in str(caught.value)
        assert "s3://bucket/prefix" in str(caught.value)


def test_a_signature_error_tells_nothing_secret(s3: S3Server) -> None:
    wrong = s3.credentials | {"AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    store = open_store("s3://bucket/x", credentials=wrong, options=IMPATIENT)
    with pytest.raises(AccessDenied, match="SignatureDoesNotMatch") as caught:
        store.get_bytes("x")
    assert "AWS4" not in str(caught.value)
    assert "AKtest" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_that_repeats_our_secret_is_not_quoted(answering: Answering) -> None:
    store = answering(
        403, xml("AccessDenied", f"bad key {SECRET} for AKtest", f"<StringToSign>{SECRET}</StringToSign>")
    )
    with pytest.raises(AccessDenied) as caught:
        store.get_bytes("x")
    assert SECRET not in str(caught.value)
    assert "AKtest" not in str(caught.value)


def test_no_repr_shows_a_secret(s3: S3Server) -> None:
    store = open_store("s3://bucket/x", credentials=s3.credentials)
    assert isinstance(store, ObjectStore)
    bucket = store._bucket
    for thing in (store, store.child("y"), bucket, bucket.credentials, bucket.control, bucket.data, vars(store)):
        assert SECRET not in repr(thing)


def secret_dir(path: Path, values: dict[str, str]) -> Path:
    path.mkdir(exist_ok=True)
    for name, value in values.items():
        (path / name).write_text(value + "\n")
    return path


def test_a_mounted_secret_opens_the_store(s3: S3Server, s3_uri: str, tmp_path: Path) -> None:
    store = open_store(s3_uri, credentials=secret_dir(tmp_path / "secret", s3.credentials))
    store.put_bytes("x", b"1")
    assert store.get_bytes("x") == b"1"


def test_rotated_keys_are_read_again(s3: S3Server, s3_uri: str, tmp_path: Path) -> None:
    directory = secret_dir(tmp_path / "secret", s3.credentials | {"AWS_SECRET_ACCESS_KEY": "old-key"})
    store = open_store(s3_uri, credentials=directory)
    assert isinstance(store, ObjectStore)
    assert store._bucket.credentials()["secret_access_key"] == "old-key"
    secret_dir(directory, s3.credentials)
    fresh = store._bucket.credentials()
    assert fresh["secret_access_key"] == SECRET
    assert fresh["expires_at"] is not None


@pytest.mark.parametrize("missing", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_an_incomplete_secret_is_said_at_once(s3: S3Server, tmp_path: Path, missing: str) -> None:
    values = {name: value for name, value in s3.credentials.items() if name != missing}
    for source in (values, secret_dir(tmp_path / "secret", values)):
        with pytest.raises(AccessDenied, match=f"{missing} not found") as caught:
            open_store("s3://bucket/x", credentials=source)
        assert SECRET not in str(caught.value)
    with pytest.raises(AccessDenied, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY not found in the directory"):
        open_store("s3://bucket/x", credentials=tmp_path / "empty")


def test_the_environment_is_used_without_credentials(
    s3: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.credentials.items():
        monkeypatch.setenv(name, value)
    open_store(s3_uri).put_bytes("x", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of somebody else")
    keys = {name: s3.credentials[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    assert open_store(s3_uri, credentials=keys).get_bytes("x") == b"1"


def test_no_credentials_at_all(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.credentials["AWS_ENDPOINT_URL"])
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(AccessDenied, match="there are no credentials; mount a Secret"):
        open_store("s3://bucket/x", options=IMPATIENT).get_bytes("x")


@pytest.mark.parametrize("endpoint", ["minio:9000", "ftp://minio", "http://"])
def test_an_endpoint_that_is_no_url_is_said(s3: S3Server, endpoint: str) -> None:
    with pytest.raises(InvalidUri, match=r"AWS_ENDPOINT_URL is .*expected a URL such as"):
        open_store("s3://bucket/x", credentials=s3.credentials | {"AWS_ENDPOINT_URL": endpoint})


def test_an_unreadable_ca_bundle_is_said(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="AWS_CA_BUNDLE cannot be read"):
        open_store("s3://bucket/x", credentials=s3.credentials | {"AWS_CA_BUNDLE": str(tmp_path / "none.pem")})


def every_call(store: Store, tmp_path: Path) -> list[object]:
    (tmp_path / "f").write_bytes(b"1")
    return [
        lambda: store.head("x"),
        lambda: store.get_bytes("x"),
        lambda: list(store.list()),
        lambda: store.put_bytes("x", b"1"),
        lambda: store.put_if_absent("x", b"1"),
        lambda: store.delete("x"),
        lambda: store.upload_file(tmp_path / "f", "x"),
        lambda: store.download_file("x", tmp_path / "g"),
    ]


def test_an_endpoint_that_is_not_there(s3: S3Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    credentials = s3.credentials | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    store = open_store("s3://bucket/x", credentials=credentials, options=IMPATIENT)
    for act in every_call(store, tmp_path):
        with pytest.raises(Unreachable, match="connection refused; check AWS_ENDPOINT_URL") as caught:
            act()  # type: ignore[operator]
        assert not caught.value.maybe_done


def test_an_endpoint_that_accepts_and_says_nothing(s3: S3Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        credentials = s3.credentials | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        store = open_store("s3://bucket/x", credentials=credentials, options=IMPATIENT)
        with pytest.raises(Unreachable, match="no answer in time") as caught:
            store.put_if_absent("x", b"1")
        assert caught.value.maybe_done


def test_the_promised_patience_is_what_the_clients_get(s3: S3Server) -> None:
    store = open_store("s3://bucket/x", credentials=s3.credentials)
    assert isinstance(store, ObjectStore)
    control, create = store._bucket.control, store._bucket.create
    assert control.client_options is not None
    assert control.retry_config is not None
    assert create.retry_config is not None
    assert create.retry_config["max_retries"] == 0
    options = store.options
    assert max(options.answer_s, options.control_budget_s) + options.connect_s <= 15


def test_a_lost_answer_to_a_create_is_recognised_as_ours(proxied: Store, s3_store: Store, proxy: FaultyProxy) -> None:
    assert not proxied.exists()
    proxy.drop_answers = 1
    proxied.put_if_absent("manifest", b"mine")
    assert proxy.drop_answers == 0
    assert s3_store.get_bytes("manifest") == b"mine"


def test_a_lost_answer_is_no_excuse_when_a_rival_was_first(proxied: Store, s3_store: Store, proxy: FaultyProxy) -> None:
    s3_store.put_if_absent("manifest", b"theirs")
    proxy.drop_answers = 1
    with pytest.raises(AlreadyExists):
        proxied.put_if_absent("manifest", b"mine")
    assert proxy.drop_answers == 0


def test_equal_bytes_without_a_lost_answer_are_a_rivals(proxied: Store, s3_store: Store) -> None:
    s3_store.put_if_absent("manifest", b"same")
    with pytest.raises(AlreadyExists):
        proxied.put_if_absent("manifest", b"same")


def test_a_read_notices_that_the_object_was_replaced(s3_store: Store) -> None:
    s3_store.put_bytes("x", b"old")
    etag = s3_store.head("x").etag
    s3_store.put_bytes("x", b"new")
    with pytest.raises(ArtifactError, match="replaced while it was being read"):
        list(s3_store.open_read("x", 1, etag))


def test_folder_markers_of_consoles_are_dropped(s3_store: Store) -> None:
    s3_store.put_bytes("template", b"")
    made = s3_store.head("template")

    def entry(path: str, size: int) -> Entry:
        return Entry(path, size, made.etag, made.modified)

    listed = [entry("", 0), entry("a", 0), entry("a/b", 0), entry("a/b/c", 1), entry("empty", 0), entry("f", 2)]
    assert [e.path for e in without_markers(listed)] == ["a/b/c", "empty", "f"]


def test_a_broken_upload_leaves_nothing(s3_store: Store, s3: S3Server) -> None:
    def chunks() -> object:
        for _ in range(3):
            yield b"x" * (4 << 20)
        raise RuntimeError("the reader broke")

    with pytest.raises(RuntimeError, match="the reader broke"):
        s3_store.write_stream("big", chunks(), 64 << 20, in_flight=2)  # type: ignore[arg-type]
    assert not s3_store.exists("big")
    assert [path for path in (s3.root / "bucket/.sgwtmp").rglob("*") if path.is_file()] == []


def test_delete_tree_beyond_one_page(s3_store: Store) -> None:
    assert isinstance(s3_store, ObjectStore)
    client = s3_store._bucket.control
    for number in range(1005):
        obstore.put(client, f"{s3_store.location.path}/many/{number:04}", b"")
    assert len(list(s3_store.list("many"))) == 1005
    s3_store.delete_tree("many")
    assert not s3_store.exists()
