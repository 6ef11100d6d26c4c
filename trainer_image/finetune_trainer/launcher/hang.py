"""The hang verdict: a rank without a sign of life for `hangTimeout`.

Signs of life are changes of a rank's heartbeat; until the ranks run, the launcher's own. A rank whose process the
kernel does not run (stopped, or stuck in I/O) is named before all others, then the one whose heart stopped first: the
others usually stopped because they waited for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

STARTING_SECONDS = 300.0
"""At least this until the first step: imports and loading the model show no progress in between."""


@dataclass(frozen=True)
class Hang:
    rank: int | None
    """None: the launcher itself waits (for data, or for its peers)."""
    silent_seconds: float


class HangWatch:
    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._seen: dict[int, tuple[int, float]] = {}
        """By rank: the last heartbeat, and our own clock when it changed."""

    def check(
        self,
        now: float,
        beats: dict[int, int],
        own_beat: float,
        *,
        training: bool,
        frozen: Collection[int] = (),
    ) -> Hang | None:
        """`beats`: heartbeats by rank in any unit that changes; `own_beat`: of the launcher, on the clock of `now`;
        `frozen`: ranks whose process does not run."""
        timeout = self._timeout if training else max(self._timeout, STARTING_SECONDS)
        if not beats:
            silent = now - own_beat
            return Hang(None, silent) if silent > timeout else None
        for rank, value in beats.items():
            if rank not in self._seen or self._seen[rank][0] != value:
                self._seen[rank] = (value, now)
        quiet = {rank: now - self._seen[rank][1] for rank in beats}
        if max(quiet.values()) <= timeout:
            return None
        # Who does not run may have been heard of last: the others stopped to wait for it.
        suspects = [rank for rank in beats if quiet[rank] > (timeout / 2 if rank in frozen else timeout)]
        first = min(suspects, key=lambda rank: (rank not in frozen, beats[rank], rank))
        return Hang(first, quiet[first])


def is_frozen(pid: int) -> bool:
    """The kernel does not run this process: stopped, traced, in uninterruptible I/O, or dead and not yet reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in "TtDZ"
