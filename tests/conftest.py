"""Fixtures for every layer: a real API server, and the programs from the cache.

A missing program is a skip that says what to run; `make test` runs what needs one after it has built them.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import tools
from e2e.cluster import ApiServer

REPO = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """pytest-randomly seeds every library that registers with it: DeepSpeed does, and would come, torch with it, into
    each run. Tests seed what they draw from torch themselves."""
    if "pytest_randomly" in sys.modules:
        sys.modules["pytest_randomly"].entrypoint_reseeds = []  # type: ignore[attr-defined]


LEFT = "left to `make nightly`"
_left = pytest.StashKey[int]()


def pytest_deselected(items: list[pytest.Item]) -> None:
    """In the process that collects: with xdist each worker does, and all collect the same."""
    for item in items:
        if item.get_closest_marker("nightly"):
            item.config.stash[_left] = item.config.stash.get(_left, 0) + 1


def pytest_collection_finish() -> None:
    """What is there now stays: each look for cycles, and publishing takes some, would go through all of it."""
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = session.config.stash.get(_left, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[_left] = getattr(node, "workeroutput", {}).get("left", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if count := config.stash.get(_left, 0):
        terminalreporter.write_line(f"{LEFT}: {count} tests")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Before -m chooses by marks: a test in the fast stage of a fresh machine would be skipped, and never be run. After
    they are shuffled: files that may take long begin first, or one worker would wait for the other's last.
    """
    for item in items:
        if not {"need", "s3", "apiserver"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("programs")
    yield
    longest: dict[Path, float] = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0.0), float(mark.args[0]) if mark else 0.0)
    items.sort(key=lambda item: -longest[item.path])


def _need(binary: str) -> Path:
    path = tools.path(binary)
    if not path.exists():
        pytest.skip(f"{binary} is not built; run: python -m e2e.tools {binary}")
    return path


@pytest.fixture(scope="session")
def need() -> Callable[[str], Path]:
    """The path of a pinned program; skips the test when it is not built."""
    return _need


def _until_served(api: ApiServer) -> None:
    """`kubectl wait` for Established fails outright while the CRD has no conditions yet, and comes before discovery."""
    deadline = time.monotonic() + 30
    while True:
        try:
            api.kubectl("get", "finetunejobs,modeldeployments", "--all-namespaces")
            return
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="session")
def apiserver() -> Iterator[ApiServer]:
    """A real etcd and kube-apiserver with our CRDs. One for the whole session: use a namespace of your own."""
    for binary in ("etcd", "kube-apiserver", "kubectl"):
        _need(binary)
    with ApiServer() as api:
        for crd in sorted((REPO / "crds").glob("*.yaml")):
            api.kubectl("apply", "--server-side", "-f", str(crd))
        _until_served(api)
        yield api


def _add_words(error: subprocess.CalledProcessError) -> None:
    if error.stderr:
        error.add_note(error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """A failed command says why: the exception alone holds only its exit status."""
    try:
        return (yield)
    except subprocess.CalledProcessError as error:
        _add_words(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    except subprocess.CalledProcessError as error:
        _add_words(error)
        raise
