"""An honest fake of the Kubernetes API server, with the controllers around it, for simulations.

Honest means: where a client of this project can tell the difference, this behaves like the real server; a
differential test holds both to the same random script.
"""

from .clock import FakeClock
from .crds import install_crd, register_custom, resource_of
from .errors import ApiError
from .faults import Crash, CrashAtWrite, Cut, Die, Partition, Policy, RandomFaults, Refuse, Script, Stale, Together
from .frontend import Frontend, Response
from .http import HttpFrontend
from .server import APPLY, FakeApiServer
from .transport import FakeTransport
from .watch import Watch
from .world import World

__all__ = [
    "APPLY",
    "ApiError",
    "Crash",
    "CrashAtWrite",
    "Cut",
    "Die",
    "FakeApiServer",
    "FakeClock",
    "FakeTransport",
    "Frontend",
    "HttpFrontend",
    "Partition",
    "Policy",
    "RandomFaults",
    "Refuse",
    "Response",
    "Script",
    "Stale",
    "Together",
    "Watch",
    "World",
    "install_crd",
    "register_custom",
    "resource_of",
]
