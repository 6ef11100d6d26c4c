"""Two replicas: one acts, the other takes over, and never both."""

from __future__ import annotations

from fakeapi import Partition
from opsim import OperatorProcess, Sim

from finetune_operator.shell.election import LeaseLost


def _training(sim: Sim) -> bool:
    gangs = sim.run_of().gangs
    return bool(gangs) and gangs[max(gangs)].step(sim.world.clock.now()) >= 5


def _last_write(sim: Sim, client: str, *, leases: bool = True) -> int:
    numbers = [
        w.number for w in sim.world.server.writes.entries if w.client == client and (leases or w.kind != "Lease")
    ]
    return max(numbers, default=0)


def test_standby_takes_over_from_a_leader_that_is_cut_off() -> None:
    partition = Partition("operator")
    with Sim(30, policy=partition) as sim:
        sim.submit()
        leader = sim.start_operator("a")
        sim.until(lambda: leader.leading)
        standby = OperatorProcess(sim, 99, "b", client="operator-b")
        sim.until(lambda: _training(sim))
        assert leader.leading
        assert not standby.leading
        assert _last_write(sim, "operator-b") == 0, "a standby writes nothing"
        cut_at = sim.loop.now
        partition.on = True
        sim.until(lambda: not leader.alive, within=60)
        assert isinstance(leader.ended, LeaseLost)
        ended_at = sim.loop.now
        assert not standby.leading, "the old leader is gone before the new one begins"
        sim.until(lambda: standby.leading, within=60)
        assert ended_at < sim.loop.now <= cut_at + 15 + 5
        partition.on = False
        sim.operator = None
        first = next(w.number for w in sim.world.server.writes.entries if w.client == "operator-b")
        sim.until(lambda: sim.phase() == "Succeeded", within=600)
        assert _last_write(sim, "operator") < first
        assert len(sim.attempts()) == 1


def test_clocks_that_are_wrong_decide_nothing() -> None:
    """The Lease's times are another machine's: only how long they stay the same counts."""
    with Sim(31) as sim:
        sim.submit()
        sim.skew = 86400.0
        leader = sim.start_operator("a")
        sim.until(lambda: leader.leading)
        sim.skew = -86400.0
        standby = OperatorProcess(sim, 99, "b", client="operator-b")
        sim.run_for(120)
        assert leader.alive
        assert leader.leading
        assert not standby.leading
        sim.kill()
        sim.until(lambda: standby.leading, within=30)


def test_somebody_else_takes_the_lease_by_hand() -> None:
    with Sim(32) as sim:
        leader = sim.start_operator("a")
        sim.until(lambda: leader.leading)
        lease = sim.world.get("coordination.k8s.io", "leases", "finetune-system", "finetune-operator")
        spec = {**lease["spec"], "holderIdentity": "thief"}
        sim.world.api.put("coordination.k8s.io", "leases", {**lease, "spec": spec})
        sim.until(lambda: not leader.alive, within=30)
        assert isinstance(leader.ended, LeaseLost)
