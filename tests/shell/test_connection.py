from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from finetune_operator.shell.config import ConfigError
from finetune_operator.shell.connection import Access, TokenFile, find_access, open_session

CONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:7"}}]
users: [{name: u, user: {token: secret-token}}]
"""


def test_a_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(CONFIG)
    access = find_access(str(path))
    assert access.server == "http://127.0.0.1:7"
    assert access.authorization() == "Bearer secret-token"
    assert "secret-token" not in repr(access)


def test_a_kubeconfig_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kubeconfig .*nowhere"):
        find_access(str(tmp_path / "nowhere"))


def test_a_pods_token_is_read_again_when_it_may_have_changed(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "token"
    path.write_text("first\n")
    token = TokenFile(path, clock=lambda: now)
    assert token() == "Bearer first"
    path.write_text("second")
    now = 59.0
    assert token() == "Bearer first"
    now = 61.0
    assert token() == "Bearer second"


async def test_each_request_is_authorized_with_the_newest_value() -> None:
    seen: list[str | None] = []
    tokens = iter(["Bearer one", "Bearer two"])

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    async with TestServer(app) as server, open_session(Access("", None, lambda: next(tokens))) as session:
        for _ in range(2):
            async with session.get(server.make_url("/")) as answer:
                assert answer.status == 200
    assert seen == ["Bearer one", "Bearer two"]
