"""Real Kubernetes for tests: a whole cluster (`Cluster`), or just its API server (`ApiServer`)."""

from e2e.cluster.apiserver import ApiServer
from e2e.cluster.cluster import Cluster
from e2e.cluster.process import CommandFailed, NotUp

__all__ = ["ApiServer", "Cluster", "CommandFailed", "NotUp"]
