"""peft, without bitsandbytes. Whoever needs peft takes it from here.

peft imports bitsandbytes wherever it is installed, which imports torch's compiler: a fifth of the CPU time that a rank
needs to start, and so of every resumption (docs/design/start-time.md). No method here puts peft's layers over
bitsandbytes' (quantize.py has layers of its own), so peft is told that there is none.
"""

from __future__ import annotations

from finetune_trainer.common.hidden import hidden

with hidden("bitsandbytes"):
    import peft
    from peft.import_utils import is_bnb_4bit_available, is_bnb_available

    # They remember what they find first.
    is_bnb_available()
    is_bnb_4bit_available()

__all__ = ["peft"]
