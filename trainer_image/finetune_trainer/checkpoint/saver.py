"""Saves behind training's back, and knows when a failed save may be forgiven.

A periodic save that fails twice in a row ends the run (74): once is weather, and the older checkpoint still stands.
The save at a stop is tried again until it succeeds; the launcher's deadline ends it. A fence ends everything at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import CheckpointReport
from finetune_artifacts import ArtifactError
from finetune_trainer.checkpoint.snapshot import Snapshot
from finetune_trainer.checkpoint.together import Together
from finetune_trainer.common import log
from finetune_trainer.common.clock import monotonic
from finetune_trainer.common.errors import RunError

Commit = Callable[[Snapshot], CheckpointReport]
Committed = Callable[[CheckpointReport], None]

RETRY_SECONDS = (0.5, 2.0, 5.0)


class Saver:
    """One save at a time on a thread of its own. Rank 0 has one, and where parameters are spread over the ranks every
    rank; these try, give up and fail together. Not thread-safe: the loop's thread calls it."""

    def __init__(self, commit: Commit, committed: Committed, together: Together | None = None) -> None:
        self._commit, self._committed, self._together = commit, committed, together or Together(alone=True)
        self._thread: threading.Thread | None = None
        self._abandon = threading.Event()
        self._failures = 0
        self._error: BaseException | None = None
        self._sign = 0.0
        self.last: CheckpointReport | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, snapshot: Snapshot, *, persistent: bool = False) -> None:
        """Begins a save; `persistent` retries for as long as the process lives."""
        if self.busy:
            raise AssertionError("a save is under way")
        self._abandon.clear()
        self.alive()
        self._thread = threading.Thread(target=self._run, args=(snapshot, persistent), name="saver", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """True when no save is under way."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.busy

    def alive(self) -> None:
        """A sign of life of the save that is under way: bytes travel."""
        self._sign = monotonic()

    def give_up_after(self, seconds: float) -> None:
        """Ends the run when a save has shown no sign of life for so long. Its thread may hang in the kernel."""
        if self.busy and self._error is None and monotonic() - self._sign > seconds:
            self._error = RunError(
                ExitCode.STORAGE, f"the checkpoint store has not answered for {seconds:.0f} s; the older one stands"
            )

    def hurry(self) -> None:
        """A stop is coming: a periodic save that is waiting to try again gives up."""
        self._abandon.set()

    def error(self) -> RunError | None:
        """Why the run must end, if it must. Raises what is a bug."""
        if isinstance(self._error, RunError):
            return self._error
        if self._error is not None:
            raise self._error
        return None

    def _run(self, snapshot: Snapshot, persistent: bool) -> None:
        try:
            self._save(snapshot, persistent)
        except BaseException as error:
            self._error = error

    def _save(self, snapshot: Snapshot, persistent: bool) -> None:
        tries = 0
        while True:
            try:
                report = self._commit(snapshot)
            except (ArtifactError, OSError) as error:
                log.warning("checkpoint not saved", step=snapshot.position.step, tries=tries + 1, cause=str(error))
                final = tries >= len(RETRY_SECONDS) and not persistent
                hurried = not final and self._abandon.wait(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
                if final or (not persistent and self._together.any(hurried)):
                    self._forgive(snapshot.position.step, error)
                    return
                tries += 1
            else:
                self._failures = 0
                self.last = report
                self._committed(report)
                return

    def _forgive(self, step: int, error: Exception) -> None:
        self._failures += 1
        if self._failures >= 2:
            raise RunError(
                ExitCode.STORAGE,
                f"two checkpoints in a row could not be saved, the last at step {step}: {error}",
            ) from error
        log.warning("training goes on without this checkpoint; the next one must succeed", step=step)
