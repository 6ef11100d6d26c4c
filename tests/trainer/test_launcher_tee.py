"""The log: passed on, kept in a file that rotates, its end at hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from finetune_trainer.launcher.tee import Tee


def test_tail_is_bounded_and_the_file_rotates(tmp_path: Path) -> None:
    tee = Tee(tmp_path / "log", tail_bytes=10, file_bytes=100)
    for i in range(30):
        tee.add(f"line {i:02}\n".encode())
    assert tee.tail() == "8\nline 29\n"
    assert (tmp_path / "log").stat().st_size + (tmp_path / "log.1").stat().st_size <= 200
    assert (tmp_path / "log").read_text().endswith("line 29\n")
    tee.close()


def test_everything_a_process_and_its_children_print(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from finetune_trainer.launcher.tee import Tee\n"
        "tee = Tee(Path(sys.argv[1]))\n"
        "tee.install()\n"
        "print('from python')\n"
        "os.write(2, b'from below\\n')\n"
        "subprocess.run(['echo', 'from a child'], check=True)\n"
        "tee.restore(10)\n"
        "assert tee.tail() == 'from python\\nfrom below\\nfrom a child\\n' or sys.exit(repr(tee.tail()))\n"
        "print('after')\n"
        "tee.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "log")], capture_output=True, check=True, text=True
    )
    assert sorted(done.stdout.splitlines()) == ["after", "from a child", "from below", "from python"]
    assert "from a child" in (tmp_path / "log").read_text()
