"""PID 1 of a custom trainer's pod: starts the user's command once per rank and answers for it.

It runs in an image that has nothing of ours, so it needs Python 3.9 and its standard library, no more. Notices,
endpoints, exit codes and last words are the built-in launcher's; what needs credentials (fetching, fences, commits) is
done by the storage container beside it, through files.

A stop is not passed to ranks that look for it (`finetune_trainer.integrations`): they agree on a step, and a signal in
mid-step would part them. Ranks that never said so get SIGTERM.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from finetune_api import pod
from finetune_api.duration import parse_duration
from finetune_api.exitcodes import ExitCode
from finetune_trainer.common import log
from finetune_trainer.common.channel import StopRequest, margin
from finetune_trainer.common.clock import monotonic, timestamp
from finetune_trainer.foreign import exchange
from finetune_trainer.foreign.exchange import Exchange, Folders
from finetune_trainer.foreign.http import Server
from finetune_trainer.foreign.ranks import Rank, end, environment
from finetune_trainer.foreign.verdict import Ended, Verdict, of, verdict
from finetune_trainer.foreign.words import last_words, write_termination
from finetune_trainer.launcher.endpoints import tell
from finetune_trainer.launcher.hang import HangWatch, is_frozen
from finetune_trainer.launcher.tee import Tee

PORT_ENV, RENDEZVOUS_PORT_ENV = "FINETUNE_PORT", "FINETUNE_RENDEZVOUS_PORT"
TICK_SECONDS = 0.1
DUMP_SIGNAL, DUMP_SECONDS = signal.SIGUSR1, 1.0
AUTO_SECONDS = 900.0
"""Between two checkpoints with `checkpoint.interval: Auto`: the cost of one is not known to us."""


class Launcher:
    def __init__(
        self, config: dict[str, Any], index: int, folders: Folders, tee: Tee, heard: list[int], token: str | None
    ) -> None:
        """`heard`: signals as they come; `config`: a RunConfig on the wire."""
        self._config, self._index, self._folders, self._tee, self._heard = config, index, folders, tee, heard
        self._spec = config["spec"]
        self._exchange = Exchange(folders.channel)
        self._token = token
        self._peers = [peer for i, peer in enumerate(config.get("peers") or []) if i != index]
        self._grace = float(config.get("graceSeconds", 120.0))
        self._patience = parse_duration((self._spec.get("retry") or {}).get("hangTimeout") or "10m")
        self._hang = HangWatch(self._patience)
        interval = (self._spec.get("checkpoint") or {}).get("interval") or "Auto"
        self._interval = AUTO_SECONDS if interval == "Auto" else parse_duration(interval)
        self._saves, self._save_due = 0, math.inf
        self._ranks: list[Rank] = []
        self._ended: list[Ended] = []
        self._stop: StopRequest | None = None
        self._told = False
        self._stage = "Fetching"
        self._began: dict[str, Any] = {}
        self._sign, self._signed = 0, monotonic()

    def run(self) -> int:
        port = int(os.environ.get(PORT_ENV, str(pod.PORT)))
        try:
            Server(port, self.progress, self.request, self._token).start()
        except OSError as error:
            found = of(ExitCode.DEVICE, f"port {port} for the endpoints cannot be opened: {error.strerror}")
            return self._end(found)
        log.event("launcher started", nodes=self._config["nodes"], grace_seconds=self._grace)
        while True:
            found_or_none = self._look()
            if found_or_none is not None:
                return self._end(found_or_none)
            time.sleep(TICK_SECONDS)

    def progress(self) -> dict[str, Any]:
        """The script's word where it has spoken."""
        said = self._exchange.progress()
        told = {k: v for k, v in said.items() if not (isinstance(v, float) and not math.isfinite(v))}
        own = {
            "format": 1,
            "stage": self._stage,
            **self._began,
            "worldSize": self._config["nodes"] * self._config["processesPerNode"],
            "updatedAt": timestamp(),
        }
        if self._stop is not None:
            told["stage"] = "Stopping"
        fixed = {
            "attempt": self._config["attempt"],
            "index": self._index,
            "checkpoint": self._exchange.committed(),
            "stopRequestedAt": self._stop.requested_at if self._stop else None,
        }
        return {k: v for k, v in {**own, **told, **fixed}.items() if v is not None}

    def request(self, reason: str, stop: bool) -> None:
        """Called by the endpoints' threads. Any number of stops are one."""
        if not stop:
            self._request_save()
            if self._index != 0:
                tell(list(self._config.get("peers") or [])[:1], self._token, {"reason": reason, "stop": False})
            return
        if self._stop is None:
            request = StopRequest(timestamp(), monotonic() + self._grace - margin(self._grace), reason)
            self._exchange.request_stop(request)
            self._stop = request
            log.event("stop requested", reason=reason, grace_seconds=self._grace)
            tell(self._peers, self._token, {"reason": reason, "stop": True})

    def _request_save(self) -> None:
        self._saves += 1
        self._exchange.request_save(self._saves)
        self._save_due = monotonic() + self._interval

    def _look(self) -> Verdict | None:
        now = monotonic()
        if self._heard and self._stop is None:
            self.request(signal.Signals(self._heard[0]).name, True)
        problem = self._exchange.problem()
        if problem is not None:
            return of(problem["code"], problem["message"], why=problem["reason"])
        if self._exchange.storage_sign() != self._sign:
            self._sign, self._signed = self._exchange.storage_sign(), now
        if self._stop is not None and now > self._stop.deadline:
            return of(
                ExitCode.STOPPED_UNSAVED,
                f"no checkpoint was committed within {self._grace:.0f} s of grace (less {margin(self._grace):.0f} s "
                "for these words); the older one stands",
            )
        if not self._ranks:
            return self._before(now)
        return self._after(now) if all(rank.poll() is not None for rank in self._ranks) else self._meanwhile(now)

    def _before(self, now: float) -> Verdict | None:
        if self._stop is not None:
            return of(ExitCode.STOPPED_UNSAVED, "stopped before the script had begun; nothing new was there to save")
        ready = self._exchange.ready()
        if ready is not None and self._reachable(now):
            return self._start(ready)
        if now - self._signed > max(self._patience, 300.0):
            if ready is not None:
                name = self._config["masterAddress"]
                return of(ExitCode.DEVICE, f"the name of pod 0, {name}, does not resolve; does DNS work on this node?")
            return of(ExitCode.HANG, f"no byte of model, data or checkpoint came for {now - self._signed:.0f} s")
        return None

    def _reachable(self, now: float) -> bool:
        if self._index == 0:
            return True
        try:
            socket.getaddrinfo(self._config["masterAddress"], None)
        except OSError:
            return False
        return True

    def _start(self, ready: dict[str, Any]) -> Verdict | None:
        folders, custom = self._folders, self._spec["trainer"]["custom"]
        for folder in (folders.checkpoints, folders.output, folders.saving):
            folder.mkdir(parents=True, exist_ok=True)
        resume = ready.get("resume") or {}
        own = Path(sys.argv[0]).resolve()
        shared = {
            exchange.CHANNEL_ENV: str(folders.channel),
            exchange.MODEL_ENV: str(folders.model),
            exchange.DATA_ENV: str(folders.data),
            exchange.CHECKPOINT_ENV: str(folders.checkpoints),
            exchange.OUTPUT_ENV: str(folders.output),
            exchange.RESUME_ENV: resume.get("folder") or "",
            "PYTHONPATH": os.pathsep.join(p for p in (str(own), os.environ.get("PYTHONPATH", "")) if p),
        }
        per_node, nodes = self._config["processesPerNode"], self._config["nodes"]
        if nodes == 1:
            shared["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
        command = [*custom["command"], *custom.get("args", [])]
        for local in range(per_node):
            env = environment(
                index=self._index,
                local=local,
                nodes=nodes,
                per_node=per_node,
                master=self._config["masterAddress"],
                port=int(os.environ.get(RENDEZVOUS_PORT_ENV, str(pod.RENDEZVOUS_PORT))),
                run_id=f"{self._config['uid']}-{self._config['attempt']}",
            )
            try:
                self._ranks.append(Rank(self._index * per_node + local, command, {**shared, **env}))
            except OSError as error:
                return of(
                    ExitCode.INVALID_SPEC,
                    f"spec.trainer.custom.command[0]: {command[0]!r} cannot be run: {error.strerror}; name a program "
                    f"of {self._spec['trainer']['image']}",
                )
        step = int(resume.get("step", 0))
        self._stage, self._began = "Training", {"runningAt": timestamp(), "startStep": step, "step": step}
        self._save_due = monotonic() + self._interval
        log.event("ranks started", command=command, resume_step=step, ranks=per_node)
        return None

    def _meanwhile(self, now: float) -> Verdict | None:
        if any(rank.poll() not in (None, 0, int(ExitCode.STOPPED)) for rank in self._ranks):
            return self._judge()
        beats = self._exchange.beats()
        if self._stop is not None and not beats and not self._told:
            self._told = True
            for rank in self._ranks:
                rank.signal(signal.SIGTERM)
        if now > self._save_due and beats and self._index == 0:
            self._request_save()
        if not beats:
            return None
        frozen = [number for number, (pid, _beat) in beats.items() if is_frozen(pid)]
        times = {number: beat for number, (_pid, beat) in beats.items() if self._runs(number)}
        hang = self._hang.check(now, times, now, training=int(self._step()) > 0, frozen=frozen)
        if hang is None:
            return None
        log.error("hang: dumping stacks", rank=hang.rank, silent_seconds=round(hang.silent_seconds, 1))
        for pid, _beat in beats.values():
            _kill(pid, DUMP_SIGNAL)
        time.sleep(DUMP_SECONDS)
        message = f"rank {hang.rank} showed no progress for {hang.silent_seconds:.0f} s; stacks are in the log"
        return of(ExitCode.HANG, message, rank=hang.rank)

    def _runs(self, number: int) -> bool:
        return any(rank.number == number and rank.poll() is None for rank in self._ranks)

    def _after(self, now: float) -> Verdict | None:
        found = self._judge()
        if found.code != ExitCode.DONE or self._index != 0:
            return found
        if self._exchange.finished() is None:
            if not any(path.is_file() for path in self._folders.output.rglob("*")):
                return of(
                    ExitCode.INVALID_SPEC,
                    f"{found.message} but wrote nothing to ${exchange.OUTPUT_ENV}; save the model there",
                    why="NoOutput",
                )
            self._stage = "Saving"
            self._signed = now
            self._exchange.put_finished({"step": self._step()})
            log.event("the output is being stored")
        if self._exchange.kept():
            self._stage = "Done"
            return found
        if now - self._signed > max(self._patience, 300.0):
            return of(ExitCode.STORAGE, f"no byte of the output could be stored for {now - self._signed:.0f} s")
        return None

    def _step(self) -> int:
        return int(self._exchange.progress().get("step") or 0)

    def _judge(self) -> Verdict:
        """The ranks that ended by themselves, in their order; the others are ended now."""
        over = sorted((rank for rank in self._ranks if rank.poll() is not None), key=lambda rank: rank.ended_at)
        ended = [Ended(rank.number, rank.poll() or 0, rank.tail()) for rank in over]
        end(self._ranks)
        report = self._exchange.committed()
        if report is not None and self._stop is not None and report["at"] < self._stop.requested_at:
            report = None
        if ended and all(one.code == ExitCode.STOPPED for one in ended):
            report = self._exchange.committed()  # they waited for it, whenever it was asked for
        return verdict(
            ended,
            stopping=self._stop is not None,
            told=self._told,
            committed=int(report["step"]) if report else None,
            step=self._step(),
        )

    def _end(self, found: Verdict) -> int:
        good = (ExitCode.DONE, ExitCode.STOPPED)
        report = log.event if found.code in good else log.error
        report(found.message, reason=found.reason, exit_code=int(found.code))
        end(self._ranks, 0.0)
        self._tee.restore(1.0)
        words = last_words(found, self.progress(), self._tee.tail())
        write_termination(words)
        self._exchange.put_words(words)
        deadline = monotonic() + margin(self._grace) / 2
        while not self._exchange.words_kept() and monotonic() < deadline:
            time.sleep(TICK_SECONDS)
        return found.code


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
