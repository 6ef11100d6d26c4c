"""Where the process begins, and listens before it imports anything.

A container's first process does not even get a signal that it has no handler for: a stop that came during the imports
would be lost, and the pod stay until its grace period has passed.
"""

import os
import signal


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing was begun; the operator has a handler of its own

    from finetune_operator.shell.main import main as operate

    return operate()


if __name__ == "__main__":
    raise SystemExit(main())
