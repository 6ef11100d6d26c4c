"""The protocol of the Hugging Face Hub, as far as reading needs it: commits, trees and files of one repository.

Requests go out by themselves and not through huggingface_hub, because pods run with HF_HUB_OFFLINE=1: no library
reaches for the Hub behind a manifest's back.
"""

from __future__ import annotations

import os
import re
import ssl
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from .base import StoreOptions
from .errors import AccessDenied, ArtifactError, InvalidUri, NotFound, Unreachable, clip
from .uri import COMMIT

NAMES = ("HF_TOKEN", "HF_ENDPOINT", "HF_CA_BUNDLE")
PUBLIC = "https://huggingface.co"
_DATASETS = "datasets/"


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
        url, query = self._api(f"tree/{self.commit}{below}"), f"recursive={str(recursive).lower()}"
        while query:
            answer = self._ask(f"{url}?{query}", f"{self.uri}/{path}".rstrip("/"), "list")
            page = _parsed(answer, self.uri, self.endpoint)
            yield from page if isinstance(page, list) else []
            # A mirror may pass on links to the host that it mirrors, which is not to see the token.
            query = urlsplit(answer.links.get("next", {}).get("url", "")).query

    def about(self, path: str) -> Mapping[str, Any] | None:
        """Of one file; None where there is none."""
        url = self._api(f"paths-info/{self.commit}")
        answer = self._ask(url, f"{self.uri}/{path}", "look up", form={"paths": [path]})
        found = _parsed(answer, self.uri, self.endpoint)
        return next((item for item in found if item.get("path") == path and item.get("type") == "file"), None)

    def json(self, path: str, action: str) -> Any:
        return _parsed(self._ask(self._api(path), self.uri, action), self.uri, self.endpoint)

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

    def _ask(self, url: str, uri: str, action: str, *, form: dict[str, Any] | None = None) -> httpx2.Response:
        """For a small answer; again while the Hub is busy, as long as control requests may take."""
        give_up, attempt = time.monotonic() + self.options.control_budget_s, 0
        while True:
            try:
                with self._in_words(uri, action):
                    timeout = httpx2.Timeout(self.options.answer_s, connect=self.options.connect_s)
                    answer = self._client.request("POST" if form else "GET", url, data=form, timeout=timeout)
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
