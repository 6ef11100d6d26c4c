"""A real API server in a test: up, used, gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e import tools
from e2e.cluster import ApiServer, CommandFailed
from e2e.cluster.process import cmdline
from e2e.tools.build import missing

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.skipif(
        bool(missing(["etcd", "kube-apiserver", "kubectl"])),
        reason="the pinned etcd, kube-apiserver and kubectl are not built: .venv/bin/python -m e2e.tools builds them",
    ),
]


@pytest.fixture(scope="module")
def api():
    with ApiServer() as server:
        yield server


def test_it_is_the_pinned_version(api: ApiServer) -> None:
    version = json.loads(api.kubectl("get", "--raw", "/version"))["gitVersion"]
    assert f"kubernetes@{version}" == tools.tool_dir("kube-apiserver").name


def test_it_authorizes(api: ApiServer) -> None:
    api.kubectl("create", "configmap", "x", "--from-literal=a=b")
    assert api.kubectl("get", "configmap", "x", "-o", "jsonpath={.data.a}") == "b"
    with pytest.raises(CommandFailed, match=r'User "nobody" cannot delete resource "configmaps"'):
        api.kubectl("delete", "configmap", "x", "--as=nobody")


def test_nothing_stays_behind() -> None:
    with ApiServer() as server:
        folder: Path = server.folder
        pids = [server.pid("etcd"), server.pid("kube-apiserver")]
        assert all(cmdline(pid or 0) for pid in pids)
    assert not folder.exists()
    assert not any(cmdline(pid or 0) for pid in pids)


def test_unstarted_it_says_how_to_use_it() -> None:
    with pytest.raises(RuntimeError, match="use `with ApiServer"):
        _ = ApiServer().url
