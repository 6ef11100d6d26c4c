"""What runs around an engine, from the small image: `verify` before it, `fetch` in its pod, `check` before traffic."""
