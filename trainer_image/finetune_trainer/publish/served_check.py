"""The served check's container: `served_engine.py` beside it in a child process, under a deadline.

Runs under the serving image's own python3, where nothing of ours is installed: standard library only. The first
container of the publish pod leaves both files on the shared volume. A crash, a kill or a hang of the engine then ends
in words and not in a vanished pod; whether its answers are good is judged by the pod's last container.

    python3 served_check.py [--timeout SECONDS] [-- ENGINE ARGUMENTS...]
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODEL, REFERENCE, RESULT, FAILURE = "model", "served-check.json", "served.json", "served-failure.json"
DONE, INVALID_SPEC, FAILED, OUT_OF_MEMORY, HANG, STOPPED = 0, 64, 70, 71, 77, 86
DEFAULT_TIMEOUT = 900.0
_TAIL_LINES = 25
_ENVIRONMENT = {
    # One process: less memory, no second import, and the engine's own exception instead of "see the log above".
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Prompt logprobs would compile a kernel, which takes longer than all the rest and a C++ compiler.
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # torch asks for the user's name, and the pod's user has none in the image's /etc/passwd.
    "USER": "finetune",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/torchinductor",  # noqa: S108 - the pod's own emptyDir
}


def supervise(engine_args: Sequence[str], timeout: float, here: Path = HERE) -> int:
    (here / FAILURE).unlink(missing_ok=True)
    paths = [str(here / name) for name in (MODEL, f"{MODEL}/{REFERENCE}", RESULT, FAILURE)]
    environment = {**_ENVIRONMENT, **os.environ}
    environment.setdefault("OMP_NUM_THREADS", str(usable_cpus()))
    child = subprocess.Popen(
        [sys.executable, str(here / "served_engine.py"), *paths, "--", *engine_args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
    )
    stopped = threading.Event()

    def stop(_number: int, _frame: Any) -> None:
        stopped.set()
        kill(child)

    signal.signal(signal.SIGTERM, stop)
    tail: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
    reader = threading.Thread(target=pump, args=(child, tail), daemon=True)
    reader.start()
    late = False
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        late = True
        kill(child)
        child.wait()
    kill(child)  # workers that outlive it would keep the log open
    reader.join(10)
    if stopped.is_set():
        return last_words(STOPPED, "Stopped", "the served check was asked to stop")
    if (here / RESULT).exists():
        return DONE
    last = next((line for line in reversed(tail) if line.strip()), "nothing was said")
    log = "\n".join(tail)
    if late:
        message = f"the served check did not finish within {timeout:g} s; its last line: {last}. Raise "
        return last_words(
            HANG, "ServedCheckTimeout", message + "spec.publish.servedCheck.timeout if it needs longer", log
        )
    told = read_json(here / FAILURE)
    if told is not None:
        return last_words(int(told["code"]), str(told["reason"]), str(told["message"]), log)
    code = child.returncode
    if code == -signal.SIGKILL:
        message = (
            "the engine was killed, most likely for memory; raise spec.publish.servedCheck.resources.limits.memory"
        )
        return last_words(OUT_OF_MEMORY, "OutOfMemory", message, log)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return last_words(FAILED, "EngineCrashed", f"the engine ended with {how}; its last line: {last}", log)


def pump(child: subprocess.Popen[bytes], tail: collections.deque[str]) -> None:
    assert child.stdout is not None
    for raw in child.stdout:
        line = raw.decode(errors="replace").rstrip()
        tail.append(line[:400])
        print(line, flush=True)


def kill(child: subprocess.Popen[bytes]) -> None:
    """With everything the engine has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def last_words(code: int, reason: str, message: str, log: str = "") -> int:
    """For the operator: the termination message, in the form of publish's other containers."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    # The kubelet cuts at 4096 bytes, and half a document says nothing.
    for length, room in ((900, 2000), (900, 500), (900, 0), (300, 0)):
        report = {"exitCode": code, "reason": reason, "message": message[:length], "stage": "ServedCheck", "at": at}
        text = json.dumps(report | ({"traceback": log[-room:]} if room and log else {}))
        if len(text) <= 4096:
            break
    say(message, reason=reason, exitCode=code)
    try:
        Path(os.environ.get("FINETUNE_TERMINATION_LOG") or "/dev/termination-log").write_text(text)
    except OSError as error:
        say("no termination message written", cause=error.strerror)
    return code


def usable_cpus(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = cpu_max.read_text().split()
        return cpus if quota == "max" else max(1, min(cpus, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cpus


def say(message: str, **fields: Any) -> None:
    print(json.dumps({"message": message, "stage": "ServedCheck", **fields}), flush=True)


def read_json(path: Path) -> Any | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def main(argv: Sequence[str]) -> int:
    options, engine_args = list(argv), []
    if "--" in options:
        place = options.index("--")
        options, engine_args = options[:place], options[place + 1 :]
    timeout = DEFAULT_TIMEOUT
    if len(options) == 2 and options[0] == "--timeout":
        timeout = float(options[1])
    elif options:
        print("usage: served_check.py [--timeout SECONDS] [-- ENGINE ARGUMENTS...]", file=sys.stderr)
        return INVALID_SPEC
    if (HERE / RESULT).exists():
        say("an earlier try has asked this engine about the same model; nothing to do")
        return DONE
    if not (HERE / MODEL / REFERENCE).exists():
        say("there is no model to check")
        return DONE
    return supervise(engine_args, timeout)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
