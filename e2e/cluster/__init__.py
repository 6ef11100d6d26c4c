"""Real Kubernetes for tests: a whole cluster (`Cluster`), or just its API server (`ApiServer`)."""

from e2e.cluster.apiserver import ApiServer

__all__ = ["ApiServer"]
