"""A Hub on a port of this machine, as far as `hf://` speaks to it: commits, trees, files by redirect to another host."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 3


def commit_of(files: Mapping[str, bytes]) -> str:
    text = json.dumps({name: hashlib.sha1(content).hexdigest() for name, content in sorted(files.items())})
    return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class Repo:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def push(self, files: Mapping[str, bytes], ref: str = "main") -> str:
        commit = commit_of(files)
        self.commits[commit], self.refs[ref] = dict(files), commit
        return commit


@dataclass
class FakeHub:
    """`repos` by the path in their URL: `org/name`, `datasets/org/name`."""

    repos: dict[str, Repo] = field(default_factory=dict)
    token: str = "hf_known"
    address: str = "127.0.0.1"
    busy: int = 0
    """So many answers are 503."""
    cut_after: int | None = None
    """Files end after so many bytes, once."""
    ranges: bool = True
    """Whether the files' host understands ranges."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """(host, path, authorization) of every request."""

    def repo(self, path: str, files: Mapping[str, bytes]) -> str:
        return self.repos.setdefault(path, Repo()).push(files)

    def __enter__(self) -> FakeHub:
        self._servers = [ThreadingHTTPServer((self.address, 0), _handler(self, host)) for host in ("hub", "files")]
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}:{self._servers[0].server_address[1]}"

    @property
    def files_host(self) -> str:
        return f"http://{self.address}:{self._servers[1].server_address[1]}"

    @property
    def credentials(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.endpoint}


def _handler(hub: FakeHub, host: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.asked.append((host, self.path, self.headers.get("authorization")))
            if hub.busy:
                hub.busy -= 1
                self.answer(503, b"")
                return
            if host == "files":
                self.stored()
            else:
                self.asked_of_the_hub(b"")

        def do_POST(self) -> None:
            hub.asked.append((host, self.path, self.headers.get("authorization")))
            self.asked_of_the_hub(self.rfile.read(int(self.headers["content-length"])))

        def asked_of_the_hub(self, body: bytes) -> None:
            url = urlsplit(self.path)
            parts = url.path.strip("/").split("/")
            api = parts[0] == "api"
            parts = parts[1:] if api else parts
            if parts[0] == "models":
                parts = parts[1:]
            count = 3 if parts[0] == "datasets" else 2
            name, rest = "/".join(parts[:count]), [unquote(part) for part in parts[count:]]
            repo = hub.repos.get(name)
            known = self.headers.get("authorization") == f"Bearer {hub.token}"
            if repo is None or (repo.private and not known):
                self.answer(401, b"{}", {"x-error-code": "RepoNotFound"})
                return
            if repo.gated and not known:
                self.answer(403, b"{}", {"x-error-code": "GatedRepo"})
                return
            kind, revision = rest[0], rest[1]
            commit = repo.refs.get(revision, revision)
            if commit not in repo.commits:
                self.answer(404, b"{}", {"x-error-code": "RevisionNotFound"})
                return
            files = repo.commits[commit]
            if kind == "revision":
                self.told({"sha": commit})
                return
            if kind == "paths-info":
                wanted = parse_qs(body.decode())["paths"]
                self.told([_about(path, files[path]) for path in wanted if path in files])
                return
            if kind == "tree":
                self.tree(files, "/".join(rest[2:]), parse_qs(url.query))
                return
            path = "/".join(rest[2:])
            if path not in files:
                self.answer(404, b"", {"x-error-code": "EntryNotFound"})
                return
            self.answer(302, b"", {"location": f"{hub.files_host}/{name}/{commit}/{path}?signature=s3cret"})

        def tree(self, files: Mapping[str, bytes], below: str, query: Mapping[str, list[str]]) -> None:
            start = f"{below}/" if below else ""
            found = {path: _about(path, content) for path, content in files.items() if path.startswith(start)}
            if below and not found:
                self.answer(404, b"{}", {"x-error-code": "EntryNotFound"})
                return
            folders = {path[:at] for path in found for at, c in enumerate(path) if c == "/" and at > len(start)}
            items = [*found.values(), *({"type": "directory", "path": f, "size": 0, "oid": "0"} for f in folders)]
            if query["recursive"] == ["false"]:
                items = [item for item in items if "/" not in item["path"][len(start) :]]
            first = int(query.get("cursor", ["0"])[0])
            url = f"https://huggingface.invalid{urlsplit(self.path).path}?recursive={query['recursive'][0]}&cursor={first + PAGE}"
            more = {"link": f'<{url}>; rel="next"'} if first + PAGE < len(items) else {}
            self.told(sorted(items, key=lambda item: str(item["path"]))[first : first + PAGE], more)

        def stored(self) -> None:
            name, path = urlsplit(self.path).path.strip("/"), ""
            for known, repo in hub.repos.items():
                for commit, files in repo.commits.items():
                    if name.startswith(f"{known}/{commit}/"):
                        path = unquote(name.removeprefix(f"{known}/{commit}/"))
                        self.part(files[path])
                        return
            self.answer(404, b"")

        def part(self, content: bytes) -> None:
            wanted = self.headers.get("range")
            status, first, last = 200, 0, len(content) - 1
            if wanted and hub.ranges:
                one, _, other = wanted.removeprefix("bytes=").partition("-")
                status, first, last = 206, int(one), min(last, int(other)) if other else last
                if first >= len(content):
                    self.answer(416, b"")
                    return
            body = content[first : last + 1]
            if hub.cut_after is not None and len(body) > hub.cut_after:
                cut, hub.cut_after = body[: hub.cut_after], None
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(cut)
                self.close_connection = True
                return
            self.answer(status, body)
            return

        def told(self, document: Any, headers: Mapping[str, str] | None = None) -> None:
            self.answer(200, json.dumps(document).encode(), headers)

        def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler


def _about(path: str, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": hashlib.sha1(content).hexdigest(),
    }
    if path.endswith((".safetensors", ".parquet", ".bin")):
        found["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return found
