"""A stop that comes while Python still imports is heard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

LATE = """
import os, signal
from finetune_trainer.common import signals
signals.listen()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("assert signals.heard() == 'SIGTERM'", 0),
        ("signals.end_at_once()", 143),
        ("signals._heard.clear(); signals.end_at_once(); os.kill(os.getpid(), signal.SIGTERM); os._exit(1)", 143),
    ],
    ids=["train asks", "publish ends", "publish ends later"],
)
def test_a_signal_before_anybody_handles_it(then: str, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    assert subprocess.run([sys.executable, "-c", LATE + then], env=environment, check=False).returncode == code


@pytest.mark.parametrize(
    ("started", "entry"),
    [
        ("/usr/local/bin/finetune-trainer", True),
        ("/opt/venv/lib/python3.11/site-packages/finetune_trainer/__main__.py", True),
        ("/opt/venv/lib/python3.11/site-packages/pytest/__main__.py", False),
        ("-c", False),
    ],
)
def test_only_the_entry_point_listens(monkeypatch: pytest.MonkeyPatch, started: str, entry: bool) -> None:
    from finetune_trainer.common import signals

    monkeypatch.setattr(sys, "argv", [started])
    assert signals.is_entry_point() is entry


def test_the_entry_point_hears_before_it_imports() -> None:
    """As PID 1 would: SIGTERM while the first imports run must not be lost, nor kill without a word."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    script = (
        "import os, signal, sys, runpy\n"
        "class Early:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'argparse': os.kill(os.getpid(), signal.SIGTERM)\n"
        "for name in ('argparse', 'finetune_trainer.common.signals'): sys.modules.pop(name, None)\n"
        "sys.meta_path.insert(0, Early())\n"
        "sys.argv = ['/x/finetune_trainer/__main__.py', 'preflight', '--config', '/nowhere.json']\n"
        "runpy.run_module('finetune_trainer', run_name='__main__', alter_sys=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode not in (-signal.SIGTERM, 1), done.stderr
