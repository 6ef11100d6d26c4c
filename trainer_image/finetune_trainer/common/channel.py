"""How the launcher and the ranks of one pod talk: small files in a folder of the scratch volume.

Files survive a rank that dies in mid-sentence, cost nothing when nobody looks, and can be read by a person with a
shell in the pod. Heartbeats are modification times; the reader compares them for change only, so clocks do not matter.

    beat-<rank>           touched on any progress; content: the rank's pid
    progress.json         the rank 0 view of the run
    error-<rank>.json     why a rank failed
    stop                  a stop was requested; {requestedAt, deadline (monotonic), reason}
    save                  the number of checkpoints asked for without a stop
    resume.json           index 0: the checkpoint that this attempt starts from
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.common.files import read_json, write_atomic, write_json


def margin(grace_seconds: float) -> float:
    """Kept back from the grace period for the last words."""
    return min(10.0, max(1.0, grace_seconds / 10))


@dataclass(frozen=True)
class StopRequest:
    requested_at: str
    """RFC 3339."""
    deadline: float
    """Monotonic seconds of this pod."""
    reason: str


@dataclass(frozen=True)
class RankError:
    rank: int
    code: int
    reason: str
    message: str
    traceback: str
    at: float
    """Monotonic seconds."""
    secondary: bool
    """True when the rank only noticed that another one had gone."""
    step: int = 0


class Channel:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    # Written by ranks.

    def beat_path(self, rank: int) -> Path:
        return self.folder / f"beat-{rank}"

    def register(self, rank: int) -> None:
        write_atomic(self.beat_path(rank), str(os.getpid()).encode())

    def beat(self, rank: int) -> None:
        os.utime(self.beat_path(rank))

    def put_progress(self, fields: dict[str, Any]) -> None:
        write_json(self.folder / "progress.json", fields)

    def put_error(self, error: RankError) -> None:
        write_json(self.folder / f"error-{error.rank}.json", asdict(error))

    # Written by the launcher.

    def request_stop(self, request: StopRequest) -> None:
        write_json(self.folder / "stop", asdict(request))

    def request_save(self, count: int) -> None:
        write_json(self.folder / "save", count)

    def put_resume(self, document: dict[str, Any]) -> None:
        write_json(self.folder / "resume.json", document)

    # Read.

    def stop_requested(self) -> StopRequest | None:
        document = read_json(self.folder / "stop")
        return StopRequest(**document) if document else None

    def saves_requested(self) -> int:
        return int(read_json(self.folder / "save") or 0)

    def progress(self) -> dict[str, Any]:
        return read_json(self.folder / "progress.json") or {}

    def resume(self) -> dict[str, Any] | None:
        return read_json(self.folder / "resume.json")

    def errors(self) -> list[RankError]:
        found = [read_json(path) for path in sorted(self.folder.glob("error-*.json"))]
        return sorted((RankError(**document) for document in found if document), key=lambda error: error.at)

    def beats(self) -> dict[int, tuple[int, int]]:
        """By rank: the pid and the time of the last beat in nanoseconds."""
        result = {}
        for path in self.folder.glob("beat-*"):
            try:
                result[int(path.name.removeprefix("beat-"))] = (int(path.read_text()), path.stat().st_mtime_ns)
            except (OSError, ValueError):
                continue
        return result


class Heart:
    """Beats of one rank, at most every `every` seconds, cheap enough for an inner loop."""

    def __init__(self, channel: Channel, rank: int, every: float = 0.2) -> None:
        self._channel, self._rank, self._every, self._last = channel, rank, every, 0.0
        channel.register(rank)

    def beat(self) -> None:
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._channel.beat(self._rank)
