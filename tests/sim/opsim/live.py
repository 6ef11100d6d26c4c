"""The simulated cluster in real time behind loopback HTTP, with the operator as the real process it is.

Here Kopf, aiohttp, signals and process exit are under test. Pods get no addresses, so nothing is polled: there is no
traffic but to the fake API server.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from fakeapi import FakeClock, HttpFrontend, Policy, World, install_crd

from tests.crds import OURS, crd

from .rundir import RunDirectory
from .view import NAMESPACE, JobView


class RealClock(FakeClock):
    def now(self) -> float:
        return time.time()


class LiveSim(JobView):
    """`async with LiveSim(tmp_path) as sim: …`"""

    pace = 0.1

    def __init__(self, folder: Path, *, policy: Policy | None = None) -> None:
        self._folder = folder
        self.world = World(seed=1, programs=self.program_of, policy=policy, clock=RealClock())
        self.world.kubelet.gives_addresses = False
        for n in range(3):
            self.world.add_node(f"n{n}", {"nvidia.com/gpu": "4"})
        for namespace in (NAMESPACE, "finetune-system"):
            self.world.api.create("", "namespaces", "", {"metadata": {"name": namespace}})
        for manifest in map(crd, OURS):
            install_crd(self.world.server, manifest)
        self.runs: dict[str, RunDirectory] = {}
        self.http = HttpFrontend(self.world.frontend, bookmark_every=0.5, client="operator")
        self.process: asyncio.subprocess.Process | None = None
        self._cluster: asyncio.Task[None] | None = None

    def run_of(self, name: str = "bot") -> RunDirectory:
        return self.runs.setdefault(name, RunDirectory(total=30, interval=5, step_seconds=0.1, save_seconds=0.2))

    async def __aenter__(self) -> LiveSim:
        await self.http.__aenter__()
        self._cluster = asyncio.create_task(self._run_cluster())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_operator(signal.SIGKILL)
        if self._cluster is not None:
            self._cluster.cancel()
            await asyncio.wait([self._cluster])
        await self.http.__aexit__()
        if error is not None:
            error.add_note("the operator's log:\n" + self.log()[-6000:])

    async def start_operator(self) -> None:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sim",
            "clusters": [{"name": "sim", "cluster": {"server": self.http.url}}],
            "users": [{"name": "sim", "user": {}}],
            "contexts": [{"name": "sim", "context": {"cluster": "sim", "user": "sim"}}],
        }
        kubeconfig = self._folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        with (self._folder / "operator.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "finetune_operator",
                *("--kubeconfig", str(kubeconfig), "--namespace", "finetune-system", "--identity", "replica-0"),
                *("--trainer-image", "trainer:1", "--small-image", "small:1"),
                *("--artifacts-uri", "s3://bucket/runs", "--listen", "127.0.0.1:0", "--lease-seconds", "6"),
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("FINETUNE_")},
            )

    async def stop_operator(self, how: signal.Signals) -> int | None:
        """Sends the signal and waits for the end; returns the exit code."""
        if self.process is None:
            return None
        if self.process.returncode is None:
            self.process.send_signal(how)
        code = await self.process.wait()
        self.process = None
        return code

    def log(self) -> str:
        path = self._folder / "operator.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def until(self, predicate: Callable[[], bool], *, within: float = 60.0) -> None:
        end = time.monotonic() + within
        while not predicate():
            if time.monotonic() > end:
                pods = [(p["metadata"]["name"], p["status"].get("phase")) for p in self.world.pods()]
                raise AssertionError(f"not reached in {within:g} s: {self.status()} {pods}")
            if self.process is not None and self.process.returncode is not None:
                raise AssertionError(f"the operator ended with {self.process.returncode}")
            await asyncio.sleep(0.02)

    async def _run_cluster(self) -> None:
        while True:
            moved = self.world.step()
            await asyncio.sleep(0.002 if moved else 0.02)
