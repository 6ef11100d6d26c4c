"""The real operator, whole, in a simulated cluster and in simulated time.

Everything of the operator except Kopf and the sockets runs here: election, resync, queue, prober, reconciler, plan,
executor, client. One asyncio loop whose clock jumps carries operator and cluster; a seed gives one history.
"""

from .invariants import Violation, Watchdog
from .live import LiveSim
from .process import OperatorProcess
from .rundir import RunDirectory
from .sim import Sim
from .view import NAME, NAMESPACE

__all__ = ["NAME", "NAMESPACE", "LiveSim", "OperatorProcess", "RunDirectory", "Sim", "Violation", "Watchdog"]
