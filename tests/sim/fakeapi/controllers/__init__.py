"""The simulated cluster around the API server: one class per real controller.

Each `step()` makes one small change and says whether it did; a scheduler can therefore interleave them in any order
and stop between any two. `due()` says when time alone will give a controller something to do.
"""

from .base import Cluster, Controller
from .collector import GarbageCollector
from .deployments import DeploymentController, ReplicaSetController
from .gateway import Answer, Gateway
from .jobs import JobController
from .kubelet import Kubelet
from .nodes import NodeLifecycle, PodCollector
from .process import Process, Program
from .scheduler import Scheduler

__all__ = [
    "Answer",
    "Cluster",
    "Controller",
    "DeploymentController",
    "GarbageCollector",
    "Gateway",
    "JobController",
    "Kubelet",
    "NodeLifecycle",
    "PodCollector",
    "Process",
    "Program",
    "ReplicaSetController",
    "Scheduler",
]
