"""The page of training speed says what was measured, pair by pair, and whether the target was met."""

from __future__ import annotations

from typing import Any

import pytest

from bench.trainer.__main__ import page

FIGURES: dict[str, Any] = {
    "tokens/s": 1200.4,
    "TRL tokens/s": 1000.0,
    "ratio": 1.2,
    "ratios": [1.25, 1.2, 1.1],
    "split": {"forward": 40.0, "backward": 55.5, "other": 4.5},
    "checkpoint bytes": 2_500_000,
    "checkpoint stall seconds": 0.0021,
    "checkpoint seconds": 0.04,
    "SIGTERM to committed seconds": 0.31,
}


@pytest.mark.parametrize(("ratio", "verdict"), [(1.1, "met"), (1.09, "**missed**")])
def test_each_task_has_its_pairs_and_a_verdict(ratio: float, verdict: str) -> None:
    text = page({"LoRA, FP32": {**FIGURES, "ratio": ratio}}, "torch 2.14, trl 1.3")
    assert "torch 2.14, trl 1.3" in text
    assert f"| LoRA, FP32 | 1,200 | 1,000 | {ratio:.2f} (1.25, 1.20, 1.10) | ≥ 1.1 {verdict} |" in text
    assert "| LoRA, FP32 | 40.0 | 55.5 | 4.5 |" in text
    assert "| LoRA, FP32 | 2.5 MB | 2 ms | 40 ms | 310 ms |" in text
