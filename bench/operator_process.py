"""The operator as a process: started, measured from outside, stopped."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from types import TracebackType

from prometheus_client.parser import text_string_to_metric_families

from bench.lab import Lab, environment_of
from bench.procfs import cpu_seconds, memory_mib
from e2e.cluster.process import Daemon, NotUp, wait_for
from e2e.ports import free_ports


class OperatorProcess:
    """`finetune-operator` as the chart runs it; `profile` puts it under cProfile and says where the result goes."""

    def __init__(self, lab: Lab, folder: Path, *, profile: Path | None = None) -> None:
        self._port = free_ports(1)[0]
        command = [sys.executable, "-m", "finetune_operator"]
        if profile is not None:
            command = [sys.executable, "-m", "cProfile", "-o", str(profile), "-m", "finetune_operator"]
        extra = {"FINETUNE_LISTEN": f"127.0.0.1:{self._port}"}
        if "PYTHONPATH" in os.environ:  # of a checkout that is not the one installed
            extra["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self._daemon = Daemon("operator", folder, command, environment_of(lab, extra), with_parent=True)

    def __enter__(self) -> OperatorProcess:
        self._daemon.start()
        self._daemon.wait_until(self.ready, 60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._daemon.stop(signal.SIGTERM, patience=20)

    @property
    def pid(self) -> int:
        pid = self._daemon.pid()
        if pid is None:
            raise RuntimeError(f"the operator ended. {self._daemon.why_not()}")
        return pid

    def cpu(self) -> float:
        return cpu_seconds(self.pid)

    def memory(self) -> tuple[float, float]:
        """(resident now, the most ever), MiB."""
        return memory_mib(self.pid), memory_mib(self.pid, "VmHWM")

    def ready(self) -> bool:
        """Leads, and has read everything once."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5):
                return self.metric("finetune_operator_leader") == 1
        except (urllib.error.URLError, OSError, NotUp):
            return False

    def metrics(self) -> dict[tuple[str, ...], float]:
        """(name, label values in the order of the label names) -> value."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=60) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, OSError) as error:
            raise NotUp(f"the operator does not answer: {error}. {self._why_not()}") from error
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str) -> float:
        """Summed over its labels."""
        return sum(value for key, value in self.metrics().items() if key[0] == name)

    def passes(self) -> float:
        return self.metric("finetune_operator_reconciles_total")

    def idle(self) -> bool:
        """Nothing is due and nothing is being worked on."""
        m = self.metrics()
        depth = [m[("finetune_operator_queue_depth", state)] for state in ("ready", "running")]
        return sum(depth) == 0

    def settle(self, seconds: float = 120, calm: int = 5) -> None:
        """Wait until it was idle `calm` times in a row."""
        streak = 0

        def quiet() -> bool:
            nonlocal streak
            streak = streak + 1 if self.idle() else 0
            return streak >= calm

        wait_for("an idle operator", quiet, seconds, self._why_not)

    def _why_not(self) -> str:
        return f"Its complaints: {dict(self.complaints())}. {self._daemon.why_not()}"

    def complaints(self) -> Counter[str]:
        """Log lines of level warning and above, by level and the start of the text."""
        found: Counter[str] = Counter()
        for line in self._daemon.log.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                found[f"not a record: {line[:60]}"] += 1
                continue
            level = str(record.get("level", "")).lower()
            if level in ("warning", "error", "critical"):
                found[f"{level}: {str(record.get('message', record.get('msg', '')))[:60]}"] += 1
        return found


def wait_passes(operator: OperatorProcess, at_least: float, seconds: float) -> float:
    """Until so many passes are counted; returns the seconds it took."""
    began = time.perf_counter()
    wait_for(f"{at_least:.0f} passes", lambda: operator.passes() >= at_least, seconds, lambda: f"{operator.passes()}")
    return time.perf_counter() - began
