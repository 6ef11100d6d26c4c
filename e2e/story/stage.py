"""A namespace on the real cluster with the demo's model, data and Secret in it, and ways to look at jobs there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import Cluster
from e2e.story.narrator import Narrator
from e2e.tools.places import cache_dir
from finetune_artifacts import Store, open_store

REPO = Path(__file__).resolve().parents[2]
EXAMPLES = REPO / "examples"
SECRET = "finetune-artifacts"
SYSTEM = "finetune-system"
OURS = "finetune.dev/v1alpha1"
_POLL = 1.0

Job = dict[str, Any]


class StoryError(AssertionError):
    """Something in the story did not happen; the message holds what was seen instead."""


@dataclass
class Stage:
    cluster: Cluster
    narrator: Narrator
    namespace: str = "demo"
    facts: list[tuple[str, str, str]] = field(default_factory=list)
    """(letter, what, figure) for the summary."""

    def kubectl(self, *args: str, stdin: str | None = None, show: bool = False) -> str:
        if show:
            self.narrator.command("kubectl " + " ".join(args))
        out = self.cluster.kubectl(*args, input=stdin)
        if show:
            self.narrator.output(out)
        return out

    def refused(self, *args: str, stdin: str | None = None) -> str:
        """The words with which the API server refuses a command that must not succeed."""
        try:
            out = self.cluster.kubectl(*args, input=stdin)
        except subprocess.CalledProcessError as error:
            return str(error.stderr).strip()
        raise StoryError(f"kubectl {' '.join(args)} was accepted: {out}")

    @property
    def store(self) -> Store:
        s3 = self.cluster.s3
        return open_store(
            f"s3://{s3.bucket}",
            credentials={
                "AWS_ACCESS_KEY_ID": s3.access_key,
                "AWS_SECRET_ACCESS_KEY": s3.secret_key,
                "AWS_ENDPOINT_URL": s3.endpoint,
                "AWS_REGION": "us-east-1",
            },
        )

    def secret(self, name: str = SECRET) -> Job:
        return dict(self.cluster.s3.secret(name, self.namespace))

    def set_up(self) -> None:
        """Namespace (restricted pods enforced), Secret, base model and data. Leftovers of an earlier run go first."""
        self.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=true", "--timeout=180s")
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": self.namespace,
                    "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
                },
            }
        )
        self.apply(self.secret())
        self.store.delete_tree(f"runs/{self.namespace}")
        self.store.delete_tree("demo")
        self.store.upload_tree(self.generated(), "demo")

    def generated(self) -> Path:
        """The base model and data: made once for each version of the generator, then kept in the cache."""
        sources = sorted((EXAMPLES / "tiny").glob("*.py"))
        version = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:12]
        folder = cache_dir() / "demo" / version
        if folder.exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.narrator.command("python examples/tiny/generate.py --out DIR")
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            made = Path(work) / "made"
            command = [sys.executable, "examples/tiny/generate.py", "--out", str(made)]
            with subprocess.Popen(command, cwd=REPO, stdout=subprocess.PIPE, text=True) as process:
                for text in process.stdout or ():
                    self.narrator.live(text.strip())
            if process.returncode:
                raise StoryError(f"the generator ended with {process.returncode}: {' '.join(command)}")
            made.rename(folder)
        return folder

    def example(self, file: str, **changes: Any) -> Job:
        """A manifest of examples/, with `name` and spec fields changed."""
        job: Job = yaml.safe_load((EXAMPLES / file).read_text())
        job["metadata"]["namespace"] = self.namespace
        job["metadata"]["name"] = changes.pop("name", job["metadata"]["name"])
        _merge(job["spec"], changes)
        return job

    def apply(self, obj: Job) -> str:
        return self.kubectl("apply", "-f", "-", stdin=json.dumps(obj))

    def get(self, name: str) -> Job:
        return self.read("finetunejobs", name)

    def read(self, kind: str, name: str, group: str = OURS) -> Job:
        """An object in the stage's namespace, by its plural, with a status."""
        out = self.cluster.read(f"/apis/{group}/namespaces/{self.namespace}/{kind}/{name}")
        out.setdefault("status", {})
        return out

    def pods(self, selector: str) -> list[Job]:
        out = self.cluster.read(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=selector)
        return list(out["items"])

    def trainers(self, name: str, attempt: int) -> list[Job]:
        return self.pods(f"finetune.dev/job={name},finetune.dev/role=trainer,finetune.dev/attempt={attempt}")

    def wait(self, name: str, what: str, done: Callable[[Job], Any], *, timeout: float = 240) -> Job:
        """Poll the job's status until `done`. A terminal Failed that is not asked for ends the wait at once."""
        deadline = time.monotonic() + timeout
        for job in self._watch(name):
            self.narrator.live(f"{name}: waiting until {what} — {line(job)}")
            if done(job):
                self.narrator.settle()
                return job
            if time.monotonic() > deadline or job["status"].get("phase") == "Failed":
                raise StoryError(f"{name}: not seen in {timeout:.0f} s: {what}\n{self.dump(name, job)}")
        raise AssertionError("unreachable")

    def _watch(self, name: str) -> Iterator[Job]:
        while True:
            yield self.get(name)
            time.sleep(_POLL)

    def until(self, what: str, done: Callable[[], Any], *, timeout: float = 120) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            result = done()
            if result:
                return result
            self.narrator.live(f"waiting until {what}")
            if time.monotonic() > deadline:
                raise StoryError(f"not seen in {timeout:.0f} s: {what}")
            time.sleep(_POLL)

    def dump(self, name: str, job: Job) -> str:
        """What a person would look at next."""
        parts = [yaml.safe_dump(job["status"], sort_keys=False)]
        for args in (
            ("get", "jobs,pods", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", "-l", f"finetune.dev/job={name}", "--tail=30", "--prefix", "--all-pods=true"),
        ):
            try:
                parts.append(self.kubectl("-n", self.namespace, *args))
            except subprocess.CalledProcessError as error:
                parts.append(str(error.stderr))
        return "\n".join(parts)

    def fact(self, letter: str, what: str, figure: object) -> None:
        self.facts.append((letter, what, str(figure)))
        self.narrator.good(f"{what}: {figure}")


def _merge(into: Job, changes: Job) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def line(job: Job) -> str:
    """One line of a job's status."""
    status = job["status"]
    progress = status.get("progress") or {}
    words = [str(status.get("phase", "…")), str(status.get("reason") or "")]
    if progress:
        words += [progress["summary"], f"loss {progress.get('lossText', '-')}", f"eta {progress.get('eta', '-')}"]
    return " ".join(word for word in words if word)


def step(job: Job) -> int:
    return int((job["status"].get("progress") or {}).get("step", 0))


def attempts(job: Job) -> list[Job]:
    return list(job["status"].get("attempts") or [])


def condition(job: Job, kind: str) -> Job:
    found = [c for c in job["status"].get("conditions") or [] if c["type"] == kind]
    return found[0] if found else {"status": "Unknown", "reason": "", "message": ""}
