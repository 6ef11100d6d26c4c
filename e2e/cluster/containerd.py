"""containerd of a node (or of the seed from which nodes are copied), and the images inside it.

Loading 6 GB of images takes over a minute and happens once, into a *seed* root in the cache that never runs a
container. A fresh node's root is a hard-linked copy of it: no time, no disk. A running node gets a changed image as
an archive of only the layers it lacks.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from e2e import tools
from e2e.cluster import layout
from e2e.cluster.host import CNI_BIN
from e2e.cluster.process import Daemon, cmdline
from e2e.images import binaries, oci, product

CONFIG = """version = 3
root = "{root}"
state = "{run}/containerd"

[grpc]
  address = "{socket}"

[plugins."io.containerd.nri.v1.nri"]
  disable = true

[plugins."io.containerd.internal.v1.opt"]
  path = "{run}/opt"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"

[plugins."io.containerd.cri.v1.runtime"]
  # A container's wish for a lower OOM score needs CAP_SYS_RESOURCE, which a virtual machine may not have.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{cni_bin}"]
    conf_dir = "{conf}/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
"""


@dataclass(frozen=True)
class Containerd:
    """One containerd: `root` on disk, `run` for its socket and volatile state, `conf` for its configuration."""

    name: str
    root: Path
    run: Path
    conf: Path

    @classmethod
    def of(cls, node: layout.Node) -> Containerd:
        return cls(f"containerd-{node.name}", node.containerd_root, node.run, node.folder)

    @classmethod
    def seed(cls) -> Containerd:
        run = Path("/run/finetune-operator/seed")
        return cls("containerd-seed", layout.seed_root(), run, layout.seed_root().with_suffix(".conf"))

    @property
    def socket(self) -> Path:
        return self.run / "containerd.sock"

    def daemon(self) -> Daemon:
        binary = tools.path("containerd")
        env = os.environ | {"PATH": f"{binary.parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        return Daemon(self.name, layout.pids(), [str(binary), "--config", str(self.conf / "containerd.toml")], env)

    def start(self) -> None:
        runc = shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        for folder in (self.root, self.run, self.conf / "cni"):
            folder.mkdir(parents=True, exist_ok=True)
        config = CONFIG.format(
            root=self.root,
            run=self.run,
            conf=self.conf,
            socket=self.socket,
            pause=binaries.PAUSE,
            cni_bin=CNI_BIN,
            runc=runc,
        )
        if self.daemon().pid() is None:
            (self.conf / "containerd.toml").write_text(config)
        daemon = self.daemon()
        daemon.start()
        daemon.wait_until(self._answers, 60)

    def stop(self) -> None:
        self.daemon().stop()

    def _answers(self) -> bool:
        return subprocess.run(self._ctr("version"), capture_output=True).returncode == 0

    def _ctr(self, *args: str) -> list[str]:
        return [str(tools.path("ctr")), "--address", str(self.socket), "--namespace", "k8s.io", *args]

    def ctr(self, *args: str) -> str:
        return subprocess.run(self._ctr(*args), check=True, capture_output=True, text=True).stdout

    def images(self) -> set[str]:
        return set(self.ctr("images", "list", "--quiet").split())

    def load(self, image: str) -> int:
        """Import an image from the OCI layout, only the blobs not held yet; bytes transferred."""
        held = set(self.ctr("content", "list", "--quiet").split())
        return self._import(image, held)

    def _import(self, image: str, held: Collection[str]) -> int:
        command = self._ctr("images", "import", "--local", "--digests=false", "-")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        written: list[int] = []

        def feed() -> None:
            name, layout_dir = product.pushed_name(image), product.layout_dir()
            with cast(IO[bytes], process.stdin) as stdin:
                try:
                    written.append(oci.write_archive(layout_dir, name, image, held, stdin))
                except BrokenPipeError:
                    return  # ctr gave up; what it printed says why

        feeder = threading.Thread(target=feed)
        feeder.start()
        output = cast(IO[bytes], process.stdout).read()
        feeder.join()
        if process.wait():
            raise RuntimeError(f"importing {image} into {self.name} failed: {output.decode(errors='replace')}")
        return written[0] if written else 0

    def init_pid(self, container_id: str) -> int:
        """The host's pid of a container's first process."""
        for line in self.ctr("tasks", "list").splitlines()[1:]:
            task, pid, status = line.split()[:3]
            if task == container_id and status == "RUNNING":
                return int(pid)
        raise LookupError(f"container {container_id[:12]} does not run on {self.name}")

    def shims(self) -> list[int]:
        """Pids of the shims that serve this containerd (each names our socket in its command line)."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                command = cmdline(int(entry.name))
                if command and "containerd-shim" in command[0] and str(self.socket) in command:
                    found.append(int(entry.name))
        return found

    def kill_shims(self) -> None:
        for pid in self.shims():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@contextmanager
def seeded() -> Iterator[Containerd]:
    """The seed's containerd, running for the time of the block."""
    seed = Containerd.seed()
    seed.start()
    try:
        yield seed
    finally:
        seed.stop()


def clone_seed(target: Path) -> None:
    """A node's root from the stopped seed: files linked, databases copied, because those are written in place."""
    partial = target.with_name(target.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    linked = subprocess.run(["cp", "-al", layout.seed_root(), partial], capture_output=True)
    if linked.returncode:  # another file system
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["cp", "-a", layout.seed_root(), partial], check=True, capture_output=True)
    for database in partial.rglob("*.db"):
        copy = database.with_suffix(".copy")
        shutil.copy2(database, copy)
        copy.rename(database)
    for volatile in ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.runtime.v2.task"):
        shutil.rmtree(partial / volatile, ignore_errors=True)
    partial.rename(target)
