"""The gate: whether the final artefact's metrics are good enough, in words with the values compared.

Pure. A metric that was not measured fails its gate: silence must never publish a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from finetune_api.manifests import GateResult, MetricValue
from finetune_api.publishing import Gate, Metric

HIGHER_IS_BETTER = {
    Metric.EXACT_MATCH,
    Metric.ACCURACY,
    Metric.F1,
    Metric.REWARD,
    Metric.PREFERENCE_ACCURACY,
    Metric.RATING_ACCURACY,
    Metric.REWARD_MARGIN,
}


def evaluate_gate(gates: Sequence[Gate], metrics: Mapping[str, MetricValue]) -> list[GateResult]:
    """One result per gate, in the order of the spec. All conditions of a gate must hold."""
    return [_one(gate, metrics.get(gate.metric.value)) for gate in gates]


def passed(results: Sequence[GateResult]) -> bool:
    return all(result.passed for result in results)


def in_words(results: Sequence[GateResult]) -> str:
    """The failed results; `every gate passed` when there are none."""
    failed = [result.message for result in results if not result.passed]
    return "; ".join(failed) if failed else "every gate passed"


def _one(gate: Gate, value: MetricValue | None) -> GateResult:
    name = gate.metric.value
    if value is None:
        return GateResult(metric=name, passed=False, message=f"{name} was not measured: there are no held-out records")
    checks = list(_conditions(gate, value))
    return GateResult(
        metric=name, passed=all(ok for ok, _ in checks), message=f"{name} " + " and ".join(words for _, words in checks)
    )


def _conditions(gate: Gate, value: MetricValue) -> list[tuple[bool, str]]:
    final = value.final
    found = []
    if gate.max is not None:
        found.append(_compare(final, float(gate.max), below=True, name=f"max {gate.max}"))
    if gate.min is not None:
        found.append(_compare(final, float(gate.min), below=False, name=f"min {gate.min}"))
    if gate.relative_to is not None:
        if value.base is None:
            found.append((False, f"{final:.6g} cannot be compared: the base model was not measured"))
        else:
            higher = gate.metric in HIGHER_IS_BETTER
            tolerance = float(gate.tolerance or 0)
            limit = value.base - tolerance if higher else value.base + tolerance
            words = f"base {value.base:.6g}"
            if tolerance:
                words += f" {'-' if higher else '+'} tolerance {tolerance:g}"
            found.append(_compare(final, limit, below=not higher, name=words))
    return found


def _compare(final: float, limit: float, *, below: bool, name: str) -> tuple[bool, str]:
    """Not-a-number passes nothing."""
    if below:
        ok = final <= limit
        return ok, f"{final:.6g} {'<=' if ok else '>'} {name}"
    ok = final >= limit
    return ok, f"{final:.6g} {'>=' if ok else '<'} {name}"
