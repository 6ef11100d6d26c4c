"""Where things live outside the checkout: what may be deleted (cache), what a running cluster needs (state)."""

from __future__ import annotations

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def cache_dir() -> Path:
    """Built tools and images, keyed by version or digest; safe to delete when no cluster is up."""
    return Path(os.environ.get("FINETUNE_CACHE") or "~/.cache/finetune-operator").expanduser()


def state_dir() -> Path:
    """Data, logs, pids, certificates and kubeconfig of the cluster of this user."""
    return Path(os.environ.get("FINETUNE_STATE") or "~/.local/state/finetune-operator").expanduser() / "cluster"
