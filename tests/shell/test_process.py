"""The console script as processes against a real API server: two replicas, killed and restarted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import ApiServer
from tests.shell.installation import WAIT, Installation

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]


@pytest.fixture
def installation(apiserver: ApiServer, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(apiserver, tmp_path)
    yield installation
    installation.stop_all()
    apiserver.kubectl("delete", "finetunejobs", "--all", "-n", installation.namespace, "--wait=false")


def test_a_job_gets_its_preflight_pod_and_a_status(installation: Installation) -> None:
    installation.start("one")
    installation.apply("bot")
    pod = installation.preflight_pod("bot")
    job = installation.until(lambda: (j := installation.get("finetunejob", "bot")) and j.get("status") and j)
    assert pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    assert job["status"]["observedGeneration"] == 1
    assert not [k for k in job["metadata"].get("annotations", {}) if "kopf" in k]
    assert "finalizers" not in job["metadata"]


def test_killed_and_restarted_it_goes_on_and_repeats_nothing(installation: Installation) -> None:
    installation.start("one")
    installation.apply("bot")
    pod = installation.preflight_pod("bot")
    assert installation.kill("one", signal.SIGKILL) == -signal.SIGKILL
    installation.apply("second")
    installation.start("one")
    installation.preflight_pod("second")
    again = installation.get("pod", "bot-preflight")
    assert again is not None
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]


def test_the_other_replica_takes_over(installation: Installation) -> None:
    installation.start("one")
    installation.until(lambda: installation.holder() == "one")
    installation.start("two")
    installation.apply("bot")
    installation.preflight_pod("bot")
    assert installation.kill("one", signal.SIGTERM) == 0
    installation.until(lambda: installation.holder() == "two")
    installation.apply("second")
    installation.preflight_pod("second")
    installation.start("three")
    assert installation.kill("two", signal.SIGKILL) == -signal.SIGKILL
    installation.until(lambda: installation.holder() == "three")
    installation.apply("third")
    installation.preflight_pod("third")


def test_a_leader_that_was_frozen_ends_itself(installation: Installation) -> None:
    one = installation.start("one")
    installation.until(lambda: installation.holder() == "one")
    os.kill(one.pid, signal.SIGSTOP)
    installation.start("two")
    installation.until(lambda: installation.holder() == "two")
    os.kill(one.pid, signal.SIGCONT)
    assert one.wait(WAIT) == 1
    assert installation.holder() == "two"
