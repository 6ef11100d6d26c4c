"""The Job controller, for the Jobs that this project makes: Indexed, or of a single pod; with tracking finalizers.

The pod of a NonIndexed Job is treated as index 0, and says nothing of it.
"""

from __future__ import annotations

import random

from fakeapi.jsontools import copy, parse_time, rfc3339
from fakeapi.pods_api import set_condition
from fakeapi.server import FakeApiServer
from fakeapi.strategies.jobs import finished as job_finished

from .base import Controller, Obj, active, finished, is_true
from .failure_policy import judge

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"


def index_of(pod: Obj) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(INDEX, "0"))


def ranges(numbers: set[int]) -> str:
    """`0-2,5`, as status.completedIndexes has it."""
    out: list[str] = []
    for n in sorted(numbers):
        if out and int(out[-1].rpartition("-")[2]) == n - 1:
            out[-1] = f"{out[-1].partition('-')[0]}-{n}"
        else:
            out.append(str(n))
    return ",".join(out)


def numbers(text: str) -> set[int]:
    out: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        out |= set(range(int(first), int(last or first) + 1))
    return out


class JobController(Controller):
    name = "job-controller"

    def __init__(self, server: FakeApiServer, rng: random.Random | None = None) -> None:
        super().__init__(server)
        self._rng = rng or random.Random(1)

    def step(self) -> bool:
        jobs = self.cluster.objects("batch", "jobs")
        uids = {job["metadata"]["uid"] for job in jobs}
        for pod in self.cluster.pods():
            refs = [r for r in pod["metadata"].get("ownerReferences") or [] if r.get("controller")]
            if TRACKING in (pod["metadata"].get("finalizers") or []) and not any(r["uid"] in uids for r in refs):
                self.cluster.drop_finalizer("", "pods", pod, TRACKING)
                return True
        return any(self._sync(job, self.cluster.owned_pods(job["metadata"]["uid"])) for job in jobs)

    def due(self) -> float | None:
        times = []
        for job in self.cluster.objects("batch", "jobs"):
            deadline = job["spec"].get("activeDeadlineSeconds")
            started = (job.get("status") or {}).get("startTime")
            if deadline and started and not job_finished(job):
                times.append(parse_time(started) + deadline)
        return min((t for t in times if t > self.cluster.now), default=None)

    def _sync(self, job: Obj, pods: list[Obj]) -> bool:
        if self._account(job, pods):
            return True
        if job_finished(job) or "deletionTimestamp" in job["metadata"]:
            return self._count(job, pods) if not job_finished(job) else False
        if not job["spec"].get("suspend") and not (job.get("status") or {}).get("startTime"):
            new = copy(job)
            new["status"]["startTime"] = rfc3339(self.cluster.now)
            if is_true(job, "Suspended"):
                set_condition(new, "Suspended", "False", self.cluster.now, reason="JobResumed")
            self.cluster.put("batch", "jobs", new, "status")
            return True
        verdict = self._verdict(job)
        if verdict is not None:
            return self._target(job, "FailureTarget", *verdict)
        if is_true(job, "FailureTarget") or is_true(job, "SuccessCriteriaMet"):
            return self._finish(job, pods)
        if job["spec"].get("suspend"):
            return self._suspend(job, pods)
        done = self._done(job)
        if len(done) >= job["spec"].get("completions", 1):
            return self._target(
                job, "SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods"
            )
        return self._start_pods(job, pods, done) or self._count(job, pods)

    # Accounting

    def _account(self, job: Obj, pods: list[Obj]) -> bool:
        """Counts one finished pod and lets go of it."""
        replaces_early = job["spec"].get("podReplacementPolicy") == "TerminatingOrFailed"
        for pod in pods:
            if TRACKING not in (pod["metadata"].get("finalizers") or []):
                continue
            gone = finished(pod) or (replaces_early and "deletionTimestamp" in pod["metadata"])
            if not gone and not (job_finished(job) and "deletionTimestamp" in pod["metadata"]):
                continue
            if not job_finished(job):
                self._add(job, pod)
            fresh = self.cluster.find("", "pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
            assert fresh is not None
            self.cluster.drop_finalizer("", "pods", fresh, TRACKING)
            return True
        return False

    def _add(self, job: Obj, pod: Obj) -> None:
        new = copy(job)
        status = new["status"]
        if pod["status"].get("phase") == "Succeeded":
            done = self._done(job) | {index_of(pod)}
            if job["spec"]["completionMode"] == "Indexed":
                status["completedIndexes"] = ranges(done)
            status["succeeded"] = len(done)
        else:
            action, message = judge(job, pod)
            if action != "Ignore":
                status["failed"] = status.get("failed", 0) + 1
            if action == "FailJob" and not is_true(job, "FailureTarget"):
                set_condition(
                    new, "FailureTarget", "True", self.cluster.now, reason="PodFailurePolicy", message=message
                )
        self.cluster.put("batch", "jobs", new, "status")

    @staticmethod
    def _done(job: Obj) -> set[int]:
        status = job.get("status") or {}
        if job["spec"]["completionMode"] == "Indexed":
            return numbers(status.get("completedIndexes", ""))
        assert job["spec"].get("completions", 1) == 1, "NonIndexed Jobs of several pods are not simulated"
        return set(range(status.get("succeeded", 0)))

    def _count(self, job: Obj, pods: list[Obj]) -> bool:
        new = copy(job)
        status = new["status"]
        counts = {
            "active": sum(active(p) for p in pods),
            "ready": sum(active(p) and is_true(p, "Ready") for p in pods),
            "terminating": sum("deletionTimestamp" in p["metadata"] and not finished(p) for p in pods),
        }
        for name, value in counts.items():
            if value or name != "active":
                status[name] = value
            else:
                status.pop(name, None)
        if status == (job.get("status") or {}):
            return False
        self.cluster.put("batch", "jobs", new, "status")
        return True

    # Ends

    def _verdict(self, job: Obj) -> tuple[str, str] | None:
        if is_true(job, "FailureTarget") or is_true(job, "SuccessCriteriaMet"):
            return None
        status = job.get("status") or {}
        if status.get("failed", 0) > job["spec"]["backoffLimit"]:
            return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        deadline = job["spec"].get("activeDeadlineSeconds")
        if deadline and "startTime" in status and self.cluster.now >= parse_time(status["startTime"]) + deadline:
            return "DeadlineExceeded", "Job was active longer than specified deadline"
        return None

    def _target(self, job: Obj, kind: str, reason: str, message: str) -> bool:
        new = copy(job)
        set_condition(new, kind, "True", self.cluster.now, reason=reason, message=message)
        self.cluster.put("batch", "jobs", new, "status")
        return True

    def _finish(self, job: Obj, pods: list[Obj]) -> bool:
        """Ends what still runs; the final condition comes when no pod is left running."""
        for pod in pods:
            if active(pod):
                self.cluster.delete("", "pods", pod)
                return True
        if any(not finished(pod) for pod in pods):
            return self._count(job, pods)
        new = copy(job)
        failed = is_true(job, "FailureTarget")
        target = next(
            c for c in job["status"]["conditions"] if c["type"] == ("FailureTarget" if failed else "SuccessCriteriaMet")
        )
        status = new["status"]
        status.pop("active", None)
        status["ready"] = status["terminating"] = 0
        if not failed:
            status["completionTime"] = rfc3339(self.cluster.now)
        set_condition(
            new,
            "Failed" if failed else "Complete",
            "True",
            self.cluster.now,
            reason=target.get("reason", ""),
            message=target.get("message", ""),
        )
        self.cluster.put("batch", "jobs", new, "status")
        return True

    # Pods

    def _suspend(self, job: Obj, pods: list[Obj]) -> bool:
        for pod in pods:
            if active(pod):
                # Not tracked any longer: a pod that suspension ends is no failure.
                if TRACKING in (pod["metadata"].get("finalizers") or []):
                    self.cluster.drop_finalizer("", "pods", pod, TRACKING)
                self.cluster.delete("", "pods", pod)
                return True
        if not is_true(job, "Suspended"):
            new = copy(job)
            new["status"].pop("startTime", None)
            set_condition(new, "Suspended", "True", self.cluster.now, reason="JobSuspended")
            self.cluster.put("batch", "jobs", new, "status")
            return True
        return self._count(job, pods)

    def _start_pods(self, job: Obj, pods: list[Obj], done: set[int]) -> bool:
        spec = job["spec"]
        waits = spec.get("podReplacementPolicy") == "Failed"
        busy = {
            index_of(p)
            for p in pods
            if active(p) or (waits and "deletionTimestamp" in p["metadata"] and not finished(p))
        }
        if len(busy) >= spec["parallelism"]:
            return False
        for index in range(spec.get("completions", 1)):
            if index not in busy and index not in done:
                self._create_pod(job, index)
                return True
        return False

    def _create_pod(self, job: Obj, index: int) -> None:
        meta, template = job["metadata"], copy(job["spec"]["template"])
        labels = dict(template.get("metadata", {}).get("labels") or {})
        annotations = dict(template.get("metadata", {}).get("annotations") or {})
        indexed = job["spec"]["completionMode"] == "Indexed"
        if indexed:
            labels[INDEX] = annotations[INDEX] = str(index)
        suffix = "".join(self._rng.choices(_SUFFIX, k=5))
        base = f"{meta['name']}-{index}" if indexed else meta["name"]
        spec = template["spec"]
        if indexed:
            spec.setdefault("hostname", f"{meta['name']}-{index}")
            for container in [*spec["containers"], *spec.get("initContainers", [])]:
                field = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
                container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "valueFrom": field})
        pod = {
            "metadata": {
                "name": f"{base}-{suffix}",
                "generateName": f"{base}-",
                "labels": labels,
                "annotations": annotations,
                "finalizers": [TRACKING],
                "ownerReferences": [
                    {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "name": meta["name"],
                        "uid": meta["uid"],
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": spec,
        }
        self.cluster.create("", "pods", meta["namespace"], pod)
