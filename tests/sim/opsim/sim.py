"""The simulation: a world, one FineTuneJob's run directory per job, and an operator that a test starts and kills."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any

from fakeapi import Policy, World, install_crd
from fakeapi.jsontools import parse_time

from tests.crds import crd

from .clients import Clients
from .invariants import Watchdog
from .loop import JumpingLoop, LoopClock
from .models import Model
from .process import CLIENT, CONFIG, OperatorProcess
from .rundir import Gang, RunDirectory, Trainer
from .serving import MD, DeploymentView, kinds
from .serving_invariants import ServingWatchdog
from .view import FTJ, NAME, NAMESPACE, JobView

Obj = dict[str, Any]


class Sim(DeploymentView, JobView):
    """`with Sim(seed) as sim: sim.submit(); sim.start_operator(); sim.until(lambda: …)`

    `serves`: the cluster has ModelDeployments and a Gateway as well.
    """

    def __init__(self, seed: int = 0, *, nodes: int = 3, policy: Policy | None = None, serves: bool = False) -> None:
        self.seed = seed
        self.serves = serves
        self.config = CONFIG
        """Of operators that are started from now on."""
        self.loop = JumpingLoop()
        self.world = World(seed=seed, programs=self.program_of, policy=policy, clock=LoopClock(self.loop))
        self.world.server.tracks_fields = False
        for n in range(nodes):
            self.world.add_node(f"n{n}", {"nvidia.com/gpu": "4"})
        for namespace in (NAMESPACE, "finetune-system"):
            self.world.api.create("", "namespaces", "", {"metadata": {"name": namespace}})
        install_crd(self.world.server, crd("finetunejobs"))
        self.runs: dict[str, RunDirectory] = {}
        self.models: dict[str, Model] = {}
        self.clients = Clients(self.world, seed)
        if serves:
            for kind in kinds():
                self.world.server.register(kind)
            self.world.controllers.append(self.clients)
            self.publish("s3://models/v1")
            self.publish("s3://models/v2")
        self.pods_unreachable = False
        self.skew = 0.0
        """Seconds by which the operator's wall clock is wrong."""
        self.nodes_were_lost = False
        self._disturbed: set[str] = set()
        self.failures: list[BaseException] = []
        self.watchdog = Watchdog(self)
        self.serving_watchdog = ServingWatchdog(self)
        self.operator: OperatorProcess | None = None
        self.processes: list[OperatorProcess] = []
        self.started = 0
        self._change = asyncio.Event()
        self.world.server.store.subscribe(lambda _: self._change.set())
        self._cluster = self.loop.create_task(self._run_cluster(), name="cluster")

    def __enter__(self) -> Sim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
        if self.processes:
            self.loop.run_until_complete(asyncio.wait([p.main for p in self.processes]))
        self._cluster.cancel()
        self.loop.run_until_complete(asyncio.wait([self._cluster]))
        self.loop.close()

    def on_edit(self, name: str) -> None:
        self.watchdog.on_edit(name)

    def on_wipe(self, name: str) -> None:
        self.serving_watchdog.on_wipe(name)

    def seconds_since(self, stamp: str) -> float:
        return self.world.clock.now() - parse_time(stamp)

    # The operator

    def start_operator(self, identity: str = "replica-0") -> OperatorProcess:
        """A restarted container keeps its pod's name; a new pod has another and waits for the old Lease to run out."""
        assert self.operator is None or not self.operator.alive
        self.started += 1
        self.operator = OperatorProcess(self, self.started, identity)
        return self.operator

    def kill(self) -> None:
        if self.operator is not None:
            self.operator.kill()
            self.loop.run_until_complete(asyncio.wait([self.operator.main]))
            self.operator = None

    # Time

    def run_for(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.check()

    def until(self, predicate: Callable[[], bool], *, within: float = 3600.0, operators: bool = False) -> None:
        """Runs until the predicate holds. `operators`: one that died is started anew (as the kubelet would)."""
        self.loop.run_until_complete(self._until(predicate, within, operators))
        self.check()

    async def _until(self, predicate: Callable[[], bool], within: float, operators: bool) -> None:
        end = self.loop.now + within
        while not predicate():
            if self.loop.now > end:
                raise AssertionError(f"not reached in {within:g} s: {self.describe()}")
            if operators and (self.operator is None or not self.operator.alive):
                self.start_operator()
            await self.next_change(1.0)

    def settle(self, quiet: float = 60.0, *, within: float = 3600.0) -> None:
        """Runs until nothing but the Lease was written for `quiet` seconds."""
        end = self.loop.now + within
        while True:
            mark = self.world.server.writes.mark()
            self.run_for(quiet)
            written = [w for w in self.world.server.writes.since(mark) if w.kind != "Lease"]
            if not written:
                return
            assert self.loop.now < end, f"it never comes to rest: {written[-5:]}"

    def check(self) -> None:
        """Raises what the watchdog saw and what killed a process that nobody killed."""
        self.watchdog.check()
        if self.failures:
            raise self.failures[0]

    def operator_writes(self, mark: int) -> list[Any]:
        return [w for w in self.world.server.writes.since(mark) if w.client.startswith(CLIENT) and w.kind != "Lease"]

    def describe(self) -> str:
        status = self.status() if self.world.find(*FTJ, NAMESPACE, NAME) else {}
        pods = [(p["metadata"]["name"], p["status"].get("phase"), p["spec"].get("nodeName")) for p in self.world.pods()]
        written = [w for w in self.world.server.writes.entries if w.kind != "Lease"]
        writes = "\n".join(f"{w.client} {w.verb} {w.kind} {w.name}" for w in written[-12:])
        words = [f"{status.get('phase')} {status.get('reason')} {status.get('message')}"]
        if self.serves:
            for md in self.world.api.objects(*MD):
                name, said = md["metadata"]["name"], md.get("status") or {}
                words.append(f"{name}: {said.get('phase')} {said.get('reason')} {said.get('message')}")
                words.append(f"{said.get('rollout')} {self.route_weights(name)} {self.lost(name)}")
        return "\n".join([*words, str(pods), writes])

    # Disturbances, noted for the watchdog

    def cut_off(self, node: str) -> None:
        self.nodes_were_lost = True
        self._note(node)
        self.world.cut_off(node)

    def destroy(self, node: str) -> None:
        self.nodes_were_lost = True
        self._note(node)
        for gang in self._gangs_on(node):
            gang.break_up(self.world.clock.now())
        self.world.destroy(node)

    def reclaim(self, node: str) -> None:
        """The spot notice: a taint now; the machine follows later."""
        self._note(node)
        self.world.taint(node, "karpenter.sh/disrupted")

    def crash_pod(self, pod: Obj, code: int = 137, message: str = "") -> None:
        process = self.world.kubelet.process_of(pod)
        if process is not None and process.alive():
            self.world.kubelet.end(pod, code, message)
            if isinstance(process.program, Trainer) and process.program.gang is not None:
                process.program.gang.break_up(self.world.clock.now())
        self._change.set()

    def disturbed_recently(self, owner: str) -> bool:
        """Whether a pod of this Job was ever disturbed: a request may still be on its way when the sign is gone."""
        return owner in self._disturbed

    def _note(self, node: str) -> None:
        for pod in self.world.pods():
            if pod["spec"].get("nodeName") == node:
                self.note_disturbed(pod)

    def note_disturbed(self, pod: Obj) -> None:
        """Its gang may be asked to stop from now on, even when the pod itself is no more to be seen."""
        self._disturbed |= {r["uid"] for r in pod["metadata"].get("ownerReferences") or []}

    def _gangs_on(self, node: str) -> list[Gang]:
        found = []
        for process in self.world.kubelet.processes.values():
            if process.node == node and process.alive() and isinstance(process.program, Trainer):
                assert process.program.gang is not None
                found.append(process.program.gang)
        return found

    # The cluster

    async def next_change(self, at_most: float) -> None:
        change = self._change
        if change.is_set():
            self._change = change = asyncio.Event()
        try:
            async with asyncio.timeout(at_most):
                await change.wait()
        except TimeoutError:
            return

    async def _run_cluster(self) -> None:
        rng = self.world.rng
        while True:
            if self.world.step():
                await asyncio.sleep(rng.choice([0.0, 0.01, 0.05]))
                continue
            due = self.world.due()
            wait = 5.0 if due is None else max(0.001, min(5.0, due - self.world.clock.now()))
            await self.next_change(wait)
