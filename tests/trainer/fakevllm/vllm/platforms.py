"""`FAKE_GPU` set: an accelerator."""

import os
from types import SimpleNamespace

current_platform = SimpleNamespace(is_cpu=lambda: "FAKE_GPU" not in os.environ)
