"""The story of one fine-tuning job, told by `make demo` and asserted by `e2e/scenarios`: the same functions do both."""
