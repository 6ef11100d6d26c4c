"""What share of the traffic the canary really got, from the engines' own counters."""

from __future__ import annotations

from finetune_operator.core.serving.analysis.totals import Totals


def observed_weight(stable: Totals | None, canary: Totals) -> float | None:
    """Percent of all requests; None before the first."""
    total = canary.requests + (0 if stable is None else stable.requests)
    return 100 * canary.requests / total if total else None
