"""Faults come when they were ordered and not before; without an order nothing is touched."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from e2e.tools.places import REPO

DONE, MORE = SimpleNamespace(finish_reason="stop"), SimpleNamespace(finish_reason=None)


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    """The module of the image, which is in no package here."""
    spec = importlib.util.spec_from_file_location("finetune_faults", REPO / "e2e/images/faulty/site/finetune_faults.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclass
class Engine:
    """Steps that take 10 ms of a clock of its own and give out what is planned."""

    outputs: list[list[Any]]
    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def step(self, _: Any) -> tuple[dict[int, Any], bool]:
        self.now += 0.01
        batch = self.outputs.pop(0) if self.outputs else []
        return {0: SimpleNamespace(outputs=batch)}, True

    def faulty(self, faults: ModuleType, text: str) -> Any:
        return faults.FaultyStep(
            self.step,
            faults.parse(text),
            clock=lambda: self.now,
            sleep=self.slept.append,
            crash=lambda: self.ended.append("crash"),
            freeze=lambda: self.ended.append("hang"),
        )


@pytest.mark.parametrize(("order", "end"), [("crash-after:2", "crash"), ("hang-after:2", "hang")])
def test_it_ends_in_the_middle_of_the_request_after_the_last_good_one(faults: ModuleType, order: str, end: str) -> None:
    engine = Engine([[MORE], [DONE], [MORE], [DONE, MORE]])
    step = engine.faulty(faults, order)
    for _ in range(4 + faults.STEPS_INTO_THE_VICTIM - 1):
        step(None)
    assert engine.ended == []
    step(None)
    assert engine.ended == [end]


def test_a_slow_step_takes_its_multiple(faults: ModuleType) -> None:
    engine = Engine([])
    engine.faulty(faults, "slow:1.3")(None)
    assert engine.slept == [pytest.approx(0.003)]


def test_pace_is_a_floor_that_slow_multiplies(faults: ModuleType) -> None:
    engine = Engine([])
    engine.faulty(faults, "pace:20")(None)
    engine.faulty(faults, "pace:20,slow:1.5")(None)
    engine.faulty(faults, "pace:5")(None)
    assert engine.slept == [pytest.approx(0.01), pytest.approx(0.02), pytest.approx(0.0)]


def test_a_step_without_work_is_not_stretched(faults: ModuleType) -> None:
    engine = Engine([])
    step = faults.FaultyStep(lambda _: ({}, False), faults.parse("pace:20,slow:2"), sleep=engine.slept.append)
    assert step(None) == ({}, False)
    assert engine.slept == []


@pytest.mark.parametrize("order", ["crash-after:soon", "burn:1", "slow", "pace:fast,slow:1.3"])
def test_an_order_that_means_nothing_is_refused_with_what_may_stand_there(faults: ModuleType, order: str) -> None:
    with pytest.raises(SystemExit, match="expected crash-after:N, hang-after:N, slow:X or pace:MS"):
        faults.parse(order)


def test_without_an_order_vllm_is_not_even_imported(faults: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAULT", raising=False)
    faults.register()  # there is no vllm in this environment to import


def test_the_order_is_carried_out_once_in_the_engines_class(
    faults: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EngineCore:
        def step(self) -> tuple[dict[int, Any], bool]:
            return {}, False

    core = ModuleType("vllm.v1.engine.core")
    core.EngineCore = EngineCore  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "vllm.v1.engine.core", core)
    monkeypatch.setenv("FAULT", "slow:1.3")
    original = EngineCore.step
    faults.register()
    first = EngineCore.step
    faults.register()
    assert EngineCore.step is first is not original
    assert EngineCore().step() == ({}, False)
