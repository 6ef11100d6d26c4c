"""The gate's table: which way is better, what a tolerance means, and the words with their values."""

import math

import pytest

from finetune_api.manifests import MetricValue
from finetune_api.publishing import Gate
from finetune_trainer.publish.gate import evaluate_gate, in_words, passed


def value(final: float, base: float | None = None) -> MetricValue:
    return MetricValue(base=base, final=final, samples=10)


@pytest.mark.parametrize(
    ("gate", "measured", "expected", "words"),
    [
        ({"metric": "perplexity", "max": "5"}, value(4.1), True, "perplexity 4.1 <= max 5"),
        ({"metric": "perplexity", "max": "5"}, value(5.0), True, "perplexity 5 <= max 5"),
        ({"metric": "perplexity", "max": "5"}, value(6.2), False, "perplexity 6.2 > max 5"),
        ({"metric": "exactMatch", "min": "0.9"}, value(0.92), True, "exactMatch 0.92 >= min 0.9"),
        ({"metric": "exactMatch", "min": "0.9"}, value(0.89999), False, "exactMatch 0.89999 < min 0.9"),
        ({"metric": "loss", "min": "0.1", "max": "2"}, value(1), True, "loss 1 <= max 2 and 1 >= min 0.1"),
        ({"metric": "loss", "min": "0.1", "max": "2"}, value(3), False, "loss 3 > max 2 and 3 >= min 0.1"),
        ({"metric": "loss", "relativeTo": "Base"}, value(1.2, 1.5), True, "loss 1.2 <= base 1.5"),
        ({"metric": "loss", "relativeTo": "Base"}, value(1.6, 1.5), False, "loss 1.6 > base 1.5"),
        (
            {"metric": "loss", "relativeTo": "Base", "tolerance": "0.2"},
            value(1.6, 1.5),
            True,
            "loss 1.6 <= base 1.5 + tolerance 0.2",
        ),
        (
            {"metric": "exactMatch", "relativeTo": "Base", "tolerance": "0.1"},
            value(0.45, 0.5),
            True,
            "exactMatch 0.45 >= base 0.5 - tolerance 0.1",
        ),
        ({"metric": "exactMatch", "relativeTo": "Base"}, value(0.45, 0.5), False, "exactMatch 0.45 < base 0.5"),
        (
            {"metric": "loss", "relativeTo": "Base"},
            value(1.0),
            False,
            "loss 1 cannot be compared: the base model was not measured",
        ),
    ],
)
def test_table(gate: dict[str, str], measured: MetricValue, expected: bool, words: str) -> None:
    parsed = Gate.model_validate(gate)
    (result,) = evaluate_gate([parsed], {parsed.metric.value: measured})
    assert (result.passed, result.message) == (expected, words)


def test_what_was_not_measured_does_not_pass() -> None:
    (result,) = evaluate_gate([Gate.model_validate({"metric": "exactMatch", "min": "0"})], {})
    assert not result.passed
    assert "was not measured" in result.message


def test_not_a_number_passes_nothing() -> None:
    for limit in ({"max": "5"}, {"min": "0"}):
        (result,) = evaluate_gate([Gate.model_validate({"metric": "loss"} | limit)], {"loss": value(math.nan)})
        assert not result.passed


def test_results_keep_the_order_and_only_failures_are_told() -> None:
    gates = [Gate.model_validate({"metric": "loss", "max": m}) for m in ("2", "0.5", "0.1")]
    results = evaluate_gate(gates, {"loss": value(1)})
    assert [r.passed for r in results] == [True, False, False]
    assert not passed(results)
    assert in_words(results) == "loss 1 > max 0.5; loss 1 > max 0.1"


def test_no_gate_passes() -> None:
    assert passed([])
    assert in_words([]) == "every gate passed"
