"""Whether a canary is worse than stable: pure statistics on totals, verdicts in words (docs/design/canary-analysis.md)."""
