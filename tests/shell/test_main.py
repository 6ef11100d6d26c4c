import subprocess
import sys

import pytest

from finetune_operator.shell.main import main


def test_wrong_settings_end_with_words_and_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINETUNE_TRAINER_IMAGE", raising=False)
    assert main(["--namespace", "finetune-system"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("finetune-operator: --trainer-image (or FINETUNE_TRAINER_IMAGE) is not set")
    assert "Traceback" not in shown


STOPPED_WHILE_IT_IMPORTS = """
import builtins, os, signal
real = builtins.__import__
def importing(name, *rest):
    if name == "finetune_operator.shell.main":
        os.kill(os.getpid(), signal.SIGTERM)
    return real(name, *rest)
from finetune_operator import __main__ as start
builtins.__import__ = importing
print(start.main())
"""


def test_a_stop_that_comes_before_the_operator_is_there_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED_WHILE_IT_IMPORTS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
