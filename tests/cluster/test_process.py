"""A recorded pid is believed only while its command line is the recorded one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster.process import CommandFailed, Daemon, NotUp, cmdline, output_of, wait_for

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def daemon(tmp_path: Path):
    made = Daemon("sleeper", tmp_path, SLEEP)
    yield made
    made.stop(signal.SIGKILL)


def test_start_records_and_stop_ends_the_process(daemon: Daemon) -> None:
    assert daemon.start()
    pid = daemon.pid()
    assert pid is not None
    wait_for("the sleeper", lambda: cmdline(pid) == SLEEP, 10, lambda: "")
    daemon.stop()
    assert daemon.pid() is None
    assert not daemon.pid_file.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_second_start_leaves_the_running_one_alone(daemon: Daemon) -> None:
    daemon.start()
    assert not daemon.start()


def test_another_instance_finds_the_process_by_its_record(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    wait_for("the sleeper", lambda: cmdline(daemon.pid() or 0) == SLEEP, 10, lambda: "")
    assert Daemon("sleeper", tmp_path, SLEEP).pid() == daemon.pid()


def test_changed_flags_replace_the_running_process(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    before = daemon.pid()
    changed = Daemon("sleeper", tmp_path, [*SLEEP, "--new-flag"])
    wait_for("the sleeper", lambda: changed.pid() == before, 10, lambda: "")
    reaper = daemon._process
    assert reaper is not None
    assert changed.start()
    try:
        assert changed.pid() != before
        assert reaper.wait(10) != 0
    finally:
        changed.stop(signal.SIGKILL)


def test_a_stale_pid_of_somebody_else_is_neither_believed_nor_signalled(tmp_path: Path) -> None:
    other = subprocess.Popen(SLEEP)
    try:
        ours = Daemon("etcd", tmp_path, ["etcd", "--data-dir=/x"])
        ours.pid_file.write_text(json.dumps({"pid": other.pid, "command": ["etcd", "--data-dir=/x"]}))
        assert ours.pid() is None
        ours.stop()
        assert other.poll() is None
        assert not ours.pid_file.exists()
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("content", ["", "{", "not json"])
def test_a_torn_pid_file_counts_as_none(tmp_path: Path, content: str) -> None:
    ours = Daemon("etcd", tmp_path, SLEEP)
    ours.pid_file.write_text(content)
    assert ours.pid() is None


def test_a_process_that_exits_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    daemon = Daemon("broken", tmp_path, [sys.executable, "-c", "print('flag --x is unknown'); raise SystemExit(3)"])
    daemon.start()
    with pytest.raises(NotUp, match=r"broken exited at once(.|\n)*flag --x is unknown"):
        daemon.wait_until(lambda: False, 20)


def test_wait_for_names_what_was_awaited() -> None:
    with pytest.raises(NotUp, match=r"the store not up after 0 s\. no answer"):
        wait_for("the store", lambda: False, 0, lambda: "no answer")


def test_a_failed_command_says_its_own_words() -> None:
    with pytest.raises(CommandFailed, match="no such thing"):
        output_of([sys.executable, "-c", "import sys; sys.exit('no such thing')"])


def test_one_that_outlives_us_is_no_leak(tmp_path: Path) -> None:
    """Python warns when it collects a process that still runs; here that is the purpose."""
    script = (
        "import sys; from pathlib import Path; from e2e.cluster.process import Daemon; "
        "Daemon('sleeper', Path(sys.argv[1]), ['sleep', '60']).start()"
    )
    command = [sys.executable, "-X", "dev", "-c", script, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    sleeper = Daemon("sleeper", tmp_path, ["sleep", "60"])
    assert sleeper.pid() is not None, "it runs on"
    sleeper.stop()
    assert ended.stderr == ""
