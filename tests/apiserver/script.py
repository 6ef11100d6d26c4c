"""Random scripts of operations."""

from __future__ import annotations

import random

from tests.apiserver.bodies import Bodies
from tests.apiserver.operations import KINDS, Kind, Op


class Writer(Bodies):
    """Writes random scripts. Few names and few values, so that operations meet."""

    def __init__(self, seed: int, kinds: list[Kind] | None = None) -> None:
        super().__init__(random.Random(seed))
        self._kinds = kinds or KINDS

    def script(self, length: int) -> list[Op]:
        return [self._op() for _ in range(length)]

    def _op(self) -> Op:
        rng = self.rng
        kind = rng.choice(self._kinds)
        name = rng.choice(["a", "b", "c"])
        verbs = (
            ["create"] * 4
            + ["apply"] * 6
            + ["put"] * 3
            + ["merge"] * 4
            + ["json", "strategic", "get", "list"]
            + ["delete"] * 2
        )
        verb = rng.choice(verbs)
        sub = "status" if kind.status and verb in ("apply", "put", "merge") and rng.random() < 0.35 else ""
        if kind.scale and verb in ("merge", "get") and rng.random() < 0.3:
            sub = "scale"
        op = Op(verb, kind, name, sub=sub)
        if verb in ("create",):
            op.body = {"metadata": {**self._meta(), "name": name}, **self._full(kind)}
            if rng.random() < 0.9:
                op.body |= {"apiVersion": kind.api, "kind": kind.kind}
            if rng.random() < 0.2:
                op.params["fieldManager"] = "m1"
            if rng.random() < 0.05:
                op.body["metadata"]["resourceVersion"] = "5"
        elif verb in ("put", "merge", "strategic"):
            op.body = {"status": self._status(kind)} if sub else self._change(kind)
            if sub == "scale":
                op.body = {"spec": {"replicas": rng.choice([rng.randint(5, 99), rng.randint(5, 99), -1, "many"])}}
            op.version = rng.choice(["", "", "current", "current", "stale"])
            op.uid = rng.choice(["", "", "", "current", "bogus"]) if verb == "put" else ""
            op.params["fieldManager"] = rng.choice(["m1", "m2", "editor"])
            if verb == "put" and sub == "" and rng.random() < 0.3:
                op.body["metadata"] = {**op.body.get("metadata", {}), "annotations": {"rewritten": "yes"}}
        elif verb == "json":
            op.body = rng.choice(
                [
                    [{"op": "add", "path": "/metadata/annotations", "value": {"j": "1"}}],
                    [{"op": "replace", "path": "/metadata/labels/x", "value": "json"}],
                    [{"op": "test", "path": "/metadata/name", "value": name}],
                    [{"op": "remove", "path": "/metadata/annotations/nothing"}],
                ]
            )
        elif verb == "apply":
            body = {"status": self._status(kind)} if sub else self._partial(kind)
            if not sub and rng.random() < 0.6:
                body["metadata"] = self._meta()
            op.body = body
            op.params = {"fieldManager": rng.choice(["m1", "m2"])}
            if rng.random() < 0.4:
                op.params["force"] = "true"
            if rng.random() < 0.03:
                op.params.pop("fieldManager")
            op.version = rng.choice([""] * 8 + ["current", "stale"])
            op.uid = rng.choice([""] * 12 + ["current", "bogus"])
        elif verb == "delete":
            op.uid = rng.choice(["", "current", "bogus"])
            op.version = rng.choice(["", "", "current", "stale"])
            op.body = rng.choice(
                [None, {"propagationPolicy": "Foreground"}, {"propagationPolicy": "Background"},
                 {"propagationPolicy": "Orphan"}, {"gracePeriodSeconds": 0}, {"gracePeriodSeconds": 5}]
            )  # fmt: skip
        elif verb == "list":
            op.name = ""
            op.params = dict(
                rng.choice(
                    [{}, {"labelSelector": "x=1"}, {"labelSelector": "x in (1,2),y!=2"}, {"labelSelector": "!x"},
                     {"limit": "1"}, {"limit": "2"}, {"fieldSelector": "metadata.name=b"},
                     {"fieldSelector": "metadata.name!=b", "limit": "1"}, {"fieldSelector": "spec.nope=1"}]
                )
            )  # fmt: skip
        return op
