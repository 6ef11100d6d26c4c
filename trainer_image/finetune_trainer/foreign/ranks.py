"""The processes of this pod: the user's command once per rank, with the environment that torchrun gives.

torchrun itself is left out: it loses exit codes and ends its processes 30 s after SIGTERM, whatever the grace period
is. Each process gets a session of its own, so that what it starts ends with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

TAIL_BYTES = 16 << 10
LEFT_SECONDS = 5.0
"""Between SIGTERM and SIGKILL for the ranks that remain after one has failed."""


def environment(
    *, index: int, local: int, nodes: int, per_node: int, master: str, port: int, run_id: str
) -> dict[str, str]:
    """As documented for torchrun, for one node-static gang."""
    rank, world = index * per_node + local, nodes * per_node
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(per_node),
        "GROUP_RANK": str(index),
        "NODE_RANK": str(index),
        "GROUP_WORLD_SIZE": str(nodes),
        "ROLE_RANK": str(rank),
        "ROLE_WORLD_SIZE": str(world),
        "ROLE_NAME": "trainer",
        "MASTER_ADDR": "127.0.0.1" if index == 0 else master,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    }


class Rank:
    """One process. What it prints goes to the container's log; the end of it is kept for the last words."""

    def __init__(self, number: int, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.number = number
        self.ended_at = 0.0
        self._tail = bytearray()
        self._process = subprocess.Popen(
            list(command),
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"rank-{number}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code (negative: a signal), or None while it runs."""
        code = self._process.poll()
        if code is not None and not self.ended_at:
            self.ended_at = time.monotonic()
        return code

    def signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def tail(self) -> str:
        """The end of what it printed. Waits a moment for what is still in the pipe."""
        self._reader.join(0.5)
        return bytes(self._tail).decode(errors="replace")

    def _read(self) -> None:
        assert self._process.stdout is not None
        reader = self._process.stdout.fileno()
        while chunk := os.read(reader, 1 << 16):
            os.write(1, chunk)
            self._tail += chunk
            del self._tail[: max(0, len(self._tail) - TAIL_BYTES)]


def end(ranks: Sequence[Rank], seconds: float = LEFT_SECONDS) -> None:
    """SIGTERM, and SIGKILL after `seconds` to what is left, children of the ranks included."""
    for rank in ranks:
        if rank.poll() is None:
            rank.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(rank.poll() is None for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.05)
    for rank in ranks:
        rank.signal(signal.SIGKILL)
