"""Whether a canary is worse than stable: statistics of totals, in words (docs/design/canary-analysis.md)."""
