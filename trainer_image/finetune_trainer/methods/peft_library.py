"""peft, without bitsandbytes. Whoever needs peft takes it from here.

peft imports bitsandbytes wherever it is installed, which imports torch's compiler: a fifth of the CPU time that a rank
needs to start, and so of every resumption (docs/design/start-time.md). No method here puts peft's layers over
bitsandbytes' (quantize.py has layers of its own), so peft is told that there is none.
"""

from __future__ import annotations

import sys

_HIDDEN = "bitsandbytes"

_found = sys.modules.get(_HIDDEN)
sys.modules[_HIDDEN] = None  # type: ignore[assignment]
try:
    import peft
    from peft.import_utils import is_bnb_4bit_available, is_bnb_available

    # They remember what they find first.
    is_bnb_available()
    is_bnb_4bit_available()
finally:
    del sys.modules[_HIDDEN]
    if _found is not None:
        sys.modules[_HIDDEN] = _found

__all__ = ["peft"]
