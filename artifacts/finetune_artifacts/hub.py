"""`hf://`: repositories of the Hugging Face Hub, or of a mirror that speaks its protocol, read only.

A branch moves; a run must not. A store reads one commit from first to last, and says which (`commit`), so that later
pods can be told it. Requests go out by themselves and not through huggingface_hub, because pods run with
HF_HUB_OFFLINE=1: no library reaches for the Hub behind a manifest's back.
"""

from __future__ import annotations

import os
import re
import ssl
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import httpx2

from .base import MIB, Entry, Names, Store, StoreOptions
from .errors import AccessDenied, ArtifactError, InvalidUri, NotFound, Unreachable, clip
from .uri import COMMIT, Uri

NAMES = ("HF_TOKEN", "HF_ENDPOINT", "HF_CA_BUNDLE")
PUBLIC = "https://huggingface.co"
_DATASETS = "datasets/"
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""A commit never changes; when it was made is of no use to anybody."""
_FOREIGN = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".ot", ".onnx", ".gguf", ".tflite", ".zip")
Found = list[Mapping[str, Any]]
_TEMPLATES = "additional_chat_templates/"


class Repository:
    """One repository at one revision, shared by all stores below it."""

    def __init__(self, authority: str, credentials: Path | Mapping[str, str] | None, options: StoreOptions) -> None:
        self.uri, self.options = f"hf://{authority}", options
        path, _, self._revision = authority.partition("@")
        self.is_model = not path.startswith(_DATASETS)
        self._place = path if not self.is_model else f"models/{path}"
        self._files = path
        self._settings = _settings(credentials, self.uri)
        self.endpoint = (self._settings.get("HF_ENDPOINT") or PUBLIC).rstrip("/")
        if not re.fullmatch(r"https?://[^\s@]+", self.endpoint):
            cause = f"HF_ENDPOINT is {clip(self.endpoint)!r}"
            raise InvalidUri(self.uri, "open", cause, "expected a URL such as https://hub.example.com")

    @cached_property
    def _client(self) -> httpx2.Client:
        o, token = self.options, self._settings.get("HF_TOKEN")
        headers = {"accept-encoding": "identity", "user-agent": "finetune-operator"}
        if token:
            # Not passed on to another host, where the Hub sends readers for large files.
            headers["authorization"] = f"Bearer {token}"
        timeout = httpx2.Timeout(o.stall_s, connect=o.connect_s, pool=None)
        client = httpx2.Client(headers=headers, timeout=timeout, follow_redirects=True, verify=self._trust())
        weakref.finalize(self, client.close)
        return client

    def _trust(self) -> ssl.SSLContext | bool:
        bundle = self._settings.get("HF_CA_BUNDLE")
        if not bundle:
            return True
        try:
            text = bundle if bundle.startswith("-----BEGIN") else Path(bundle).read_text()
            return ssl.create_default_context(cadata=text)
        except (OSError, ValueError) as error:
            cause = f"HF_CA_BUNDLE cannot be used ({clip(str(error))})"
            raise AccessDenied(self.uri, "open", cause, "give certificates as PEM, or a path to them") from None

    @cached_property
    def commit(self) -> str:
        """40 hex digits."""
        if COMMIT.fullmatch(self._revision):
            return self._revision
        found = self.json(f"revision/{quote(self._revision or 'main', safe='')}", "open")
        commit = found.get("sha") if isinstance(found, Mapping) else None
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise ArtifactError(self.uri, "open", "the answer names no commit", f"is {self.endpoint} a Hub?")
        return commit

    def tree(self, path: str, *, recursive: bool) -> Iterator[Mapping[str, Any]]:
        """Files and folders below `path`, in pages. Raises NotFound."""
        below = f"/{quote(path, safe='')}" if path else ""
        url: str | None = self._api(f"tree/{self.commit}{below}?recursive={str(recursive).lower()}")
        while url:
            answer = self._get(url, f"{self.uri}/{path}".rstrip("/"), "list")
            page = _parsed(answer, self.uri, self.endpoint)
            yield from page if isinstance(page, list) else []
            url = answer.links.get("next", {}).get("url")

    def about(self, path: str) -> Mapping[str, Any] | None:
        """Of one file; None where there is none."""
        url = self._api(f"paths-info/{self.commit}")
        answer = self._get(url, f"{self.uri}/{path}", "look up", method="POST", data={"paths": [path]})
        found = _parsed(answer, self.uri, self.endpoint)
        return next((item for item in found if item.get("path") == path and item.get("type") == "file"), None)

    def json(self, path: str, action: str) -> Any:
        return _parsed(self._get(self._api(path), self.uri, action), self.uri, self.endpoint)

    @contextmanager
    def stream(self, path: str, uri: str, byte_range: str | None) -> Iterator[httpx2.Response]:
        url = f"{self.endpoint}/{self._files}/resolve/{self.commit}/{quote(path)}"
        headers = {"range": byte_range} if byte_range else {}
        with self._in_words(uri, "read"), self._client.stream("GET", url, headers=headers) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise self._refusal(answer, uri, "read")
            yield answer

    def _api(self, path: str) -> str:
        return f"{self.endpoint}/api/{self._place}/{path}"

    def _get(self, url: str, uri: str, action: str, **how: Any) -> httpx2.Response:
        """Small answers; tried again while the Hub is busy, as long as control requests may take."""
        give_up, attempt = time.monotonic() + self.options.control_budget_s, 0
        while True:
            try:
                with self._in_words(uri, action):
                    timeout = httpx2.Timeout(self.options.answer_s, connect=self.options.connect_s)
                    answer = self._client.request(how.get("method", "GET"), url, data=how.get("data"), timeout=timeout)
                if answer.status_code < 400:
                    return answer
                raise self._refusal(answer, uri, action)
            except Unreachable:
                pause = self.options.backoff(attempt)
                if time.monotonic() + pause >= give_up:
                    raise
            time.sleep(pause)
            attempt += 1

    @contextmanager
    def _in_words(self, uri: str, action: str) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            cause = clip(str(error), self._secrets) or type(error).__name__
            if "CERTIFICATE_VERIFY_FAILED" in cause:
                cause = "the TLS certificate is not trusted; set HF_CA_BUNDLE for a mirror's own"
            advice = f"check HF_ENDPOINT ({clip(self.endpoint)}) and the network policy"
            raise Unreachable(uri, action, cause, advice) from None

    @property
    def _secrets(self) -> list[str]:
        return [self._settings.get("HF_TOKEN", "")]

    def _refusal(self, answer: httpx2.Response, uri: str, action: str) -> ArtifactError:
        status, code = answer.status_code, answer.headers.get("x-error-code", "")
        said = clip(answer.headers.get("x-error-message", ""), self._secrets)
        cause = f"HTTP status {status}" + (f": {said}" if said else "")
        known = bool(self._settings.get("HF_TOKEN"))
        if code == "GatedRepo":
            advice = "accept its terms on the Hub, and name a Secret with that account's HF_TOKEN in secretRef"
            return AccessDenied(uri, action, "the repository is gated", advice)
        if code == "RevisionNotFound":
            return NotFound(uri, action, f"it has no revision {self._revision or 'main'!r}", "name another after the @")
        if status in (401, 403):
            advice = "correct the name, or name a Secret with HF_TOKEN in secretRef"
            if known:
                advice = "correct the name, or give the token in HF_TOKEN the right to read it"
            return AccessDenied(uri, action, "it does not exist, or may not be read", advice)
        if status == 404:
            elsewhere = f", and whether {clip(self.endpoint)} is a Hub" if self.endpoint != PUBLIC else ""
            return NotFound(uri, action, "no such repository or file", f"check the URI{elsewhere}")
        if status in (408, 425, 429) or status >= 500:
            return Unreachable(uri, action, cause, "the Hub is busy or failing: try again later")
        return ArtifactError(uri, action, cause, f"is {clip(self.endpoint)} a Hub?")


def _parsed(answer: httpx2.Response, uri: str, endpoint: str) -> Any:
    try:
        return answer.json()
    except ValueError:
        cause = "the answer is not JSON"
        raise ArtifactError(uri, "open", cause, f"is HF_ENDPOINT ({clip(endpoint)}) a Hub?") from None


def _settings(credentials: Path | Mapping[str, str] | None, uri: str) -> dict[str, str]:
    """A Secret's; without one the environment's, and the token of `hf auth login`. Keys never come from both."""
    if credentials is None:
        found = {name: os.environ[name] for name in NAMES if os.environ.get(name)}
        if "HF_TOKEN" not in found:
            home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
            token = Path(os.environ.get("HF_TOKEN_PATH") or home / "token")
            if token.is_file():
                found["HF_TOKEN"] = token.read_text().strip()
        return found
    if isinstance(credentials, Mapping):
        return {name: credentials[name].strip() for name in NAMES if name in credentials}
    try:
        files = {name: credentials / name for name in NAMES}
        found = {name: file.read_text().strip() for name, file in files.items() if file.is_file()}
    except (OSError, ValueError) as error:
        cause = f"the credentials in {credentials} cannot be read ({type(error).__name__})"
        raise AccessDenied(uri, "open", cause, "check the mounted Secret") from None
    if not found:
        cause = f"none of {', '.join(NAMES)} in the Secret"
        raise AccessDenied(uri, "open", cause, "add HF_TOKEN to the Secret that secretRef names")
    return found


def read_by_us(paths: Iterable[str]) -> set[str]:
    """Of a model's files, those that transformers reads from safetensors: a repository often holds the same weights
    in several forms. All of them where there are no safetensors, so that a refusal can name what there is."""
    every = set(paths)
    weights = {p for p in every if "/" not in p and p.endswith(".safetensors") and not p.startswith("consolidated")}
    if "config.json" not in every or not weights:
        return every
    plain = {p for p in every if "/" not in p and not p.startswith(".") and not p.endswith((*_FOREIGN, ".safetensors"))}
    return weights | plain | {p for p in every if p.startswith(_TEMPLATES)}


class HubStore(Store):
    """Files below a path of a repository. Listing a whole model leaves out what `read_by_us` does."""

    def __init__(self, location: Uri, repository: Repository) -> None:
        super().__init__(location, repository.options)
        self._repository = repository

    @property
    def commit(self) -> str:
        """What the revision in the URI stands for."""
        return self._repository.commit

    def child(self, path: str) -> HubStore:
        return HubStore(self.location.join(self.checked(path, empty=True)), self._repository)

    def _path(self, path: str, *, empty: bool = False) -> str:
        return self.location.join(self.checked(path, empty=empty)).path

    def _entry(self, found: Mapping[str, Any]) -> Entry:
        below = len(self.location.path) + 1 if self.location.path else 0
        large = found.get("lfs") or {}
        etag = large.get("oid") or found.get("oid")
        return Entry(str(found["path"])[below:], int(large.get("size", found["size"])), etag, _UNKNOWN_TIME, self)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        found = self._tree(prefix, recursive=True)
        entries = sorted((self._entry(f) for f in found if f["type"] == "file"), key=lambda entry: entry.path)
        if self._repository.is_model and not prefix:
            kept = read_by_us(entry.path for entry in entries)
            entries = [entry for entry in entries if entry.path in kept]
        yield from entries

    def list_dirs(self, prefix: str = "") -> Names:
        found = self._tree(prefix, recursive=False)
        return sorted(f["path"].rpartition("/")[2] for f in found if f["type"] == "directory")

    def _tree(self, prefix: str, *, recursive: bool) -> Found:
        path = self._path(prefix, empty=True)
        try:
            return [*self._repository.tree(path, recursive=recursive)]
        except NotFound:
            if not path:
                raise
            return []

    def head(self, path: str) -> Entry:
        found = self._repository.about(self._path(path))
        if found is None:
            raise NotFound(self.uri_of(path), "look up", f"no such file at {self.commit[:12]}", "check the URI")
        return self._entry(found)

    def open_read(self, path: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        del etag  # a commit's file is never replaced
        with self._repository.stream(
            self._path(path), self.uri_of(path), f"bytes={start}-" if start else None
        ) as answer:
            skip = start if answer.status_code != httpx2.codes.PARTIAL_CONTENT else 0
            for chunk in answer.iter_raw(MIB):
                if skip < len(chunk):
                    yield chunk[skip:]
                skip = max(0, skip - len(chunk))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        wanted = f"bytes={start}-{start + length - 1}"
        try:
            with self._repository.stream(self._path(path), self.uri_of(path), wanted) as answer:
                whole = answer.status_code != httpx2.codes.PARTIAL_CONTENT
                first, found = (start if whole else 0), bytearray()
                for chunk in answer.iter_raw(MIB):
                    found += chunk
                    if len(found) >= first + length:
                        break
                return bytes(found[first : first + length])
        except ArtifactError as error:
            if f"status {httpx2.codes.RANGE_NOT_SATISFIABLE:d}" in error.cause:
                return b""
            raise

    def _read_only(self, path: str) -> NoReturn:
        advice = "write to s3:// or pvc://, and push what is to be shared from there"
        raise AccessDenied(self.uri_of(path) if path else self.uri, "write", "hf:// is read only", advice)

    def put_bytes(self, path: str, data: bytes) -> None:
        self._read_only(path)

    def put_if_absent(self, path: str, data: bytes, *, patience: float | None = None) -> None:
        self._read_only(path)

    def write_stream(self, path: str, chunks: Iterable[bytes], size: int, *, in_flight: int) -> None:
        self._read_only(path)

    def delete(self, path: str) -> None:
        self._read_only(path)

    def delete_tree(self, prefix: str) -> None:
        self._read_only(prefix)
