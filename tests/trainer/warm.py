"""Trainer pods without the imports: a template process that has imported everything forks launchers and ranks.

Importing torch and transformers takes 5 to 20 s per process; a test that stops a hundred gangs at random moments can
not pay that four hundred times. `shim` stands in for the Python interpreter: whoever starts it (a test, or torch
elastic inside a launcher) sees an ordinary child that takes signals and ends with the real one's exit code or signal,
while the real process is a fork of the template. Nothing of the trainer is replaced; what a forked process does more
is told by FINETUNE_TEST_SLOW (see `slow`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

SOCKET_ENV = "FINETUNE_TEST_WARM"
IMPORTS = (
    "torch.distributed.launcher.api",
    "torch.utils.tensorboard",
    "transformers.models.llama.modeling_llama",
    "peft",
    "finetune_trainer.engine.assemble",
    "finetune_trainer.engine.worker",
    "finetune_trainer.launcher.main",
    "finetune_trainer.__main__",
)
SHIM = """#!{python} -SEs
import ctypes, json, os, signal, socket, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
passed_on = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)
with socket.socket(socket.AF_UNIX) as link:
    link.connect(os.environ["{variable}"])
    request = json.dumps({{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd()}})
    socket.send_fds(link, [len(request.encode()).to_bytes(4, "big")], [0, 1, 2])
    link.sendall(request.encode())
    for number in passed_on:
        signal.signal(number, lambda n, _frame: link.send(bytes([n])))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
    answer = link.recv(64)
code = int(answer or b"1")
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Template:
    """Started once per test module; `python` is what to start pods with, `environment` what they need."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._socket = folder / "warm.sock"
        self.python = folder / "python"
        self.python.write_text(SHIM.format(python=sys.executable, variable=SOCKET_ENV))
        self.python.chmod(0o755)
        self._log = (folder / "template.log").open("wb")
        path = os.pathsep.join([str(Path(__file__).parents[2]), *(p for p in sys.path if p)])
        self.environment = {SOCKET_ENV: str(self._socket), "PYTHONPATH": path}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.trainer.warm", str(self._socket), str(self.python)],
            env={**os.environ, **self.environment, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + 300
        while not self._socket.exists():
            assert self._process.poll() is None, (folder / "template.log").read_text()
            assert time.monotonic() < deadline, "the template did not start"
            time.sleep(0.05)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


class _Server:
    def __init__(self, path: str, python: str) -> None:
        self._python = python
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path + ".new")
        self._listener.listen(64)
        Path(path + ".new").rename(path)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._links: dict[int, tuple[socket.socket, int]] = {}
        """By file descriptor of a child's process: who asked for it, and its pid."""

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._start()
                elif isinstance(key.fileobj, int):
                    self._ended(key.fileobj)
                else:
                    self._heard(key.data)

    def _start(self) -> None:
        link, _ = self._listener.accept()
        head, descriptors, _, _ = socket.recv_fds(link, 4, 3)
        size, body = int.from_bytes(head, "big"), b""
        while len(body) < size:
            chunk = link.recv(size - len(body))
            if not chunk:
                return
            body += chunk
        pid = os.fork()
        if pid == 0:
            self._listener.close()
            link.close()
            for other, _ in self._links.values():
                other.close()
            _become(json.loads(body), descriptors, self._python)
        for descriptor in descriptors:
            os.close(descriptor)
        watch = os.pidfd_open(pid)
        self._links[watch] = (link, pid)
        self._selector.register(watch, selectors.EVENT_READ)
        self._selector.register(link, selectors.EVENT_READ, watch)

    def _heard(self, watch: int) -> None:
        link, pid = self._links[watch]
        try:
            numbers = link.recv(64)
        except OSError:
            numbers = b""
        for number in numbers or bytes([signal.SIGKILL]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if not numbers:
            self._selector.unregister(link)

    def _ended(self, watch: int) -> None:
        link, pid = self._links.pop(watch)
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(watch)
        os.close(watch)
        with contextlib.suppress(KeyError):
            self._selector.unregister(link)
        with contextlib.suppress(OSError):
            link.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        link.close()


def _become(request: dict[str, object], descriptors: list[int], python: str) -> None:
    """In the fork: the process that `python -m <module>` would be. Never returns."""
    code = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        arguments, environment = request["arguments"], request["environment"]
        assert isinstance(arguments, list)
        assert isinstance(environment, dict)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(str(request["folder"]))
        sys.executable = python
        module, rest = arguments[arguments.index("-m") + 1], arguments[arguments.index("-m") + 2 :]
        sys.argv = [module, *rest]
        from finetune_trainer import __main__ as launcher
        from finetune_trainer.common import signals
        from finetune_trainer.engine import worker
        from tests.trainer import slow

        if not module.endswith("worker"):
            signals.listen()
        slow.install(rank=module.endswith("worker"))
        if module.endswith("worker"):
            worker.main()
        else:
            launcher.main(rest)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    for name in IMPORTS:
        __import__(name)
    _Server(sys.argv[1], sys.argv[2]).serve()


if __name__ == "__main__":
    main()
