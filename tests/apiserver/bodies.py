"""Random bodies for each kind. Few values, so that managers and versions meet."""

from __future__ import annotations

import random
from typing import Any

from tests.apiserver.operations import Kind

Obj = dict[str, Any]


class Bodies:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def _meta(self) -> Obj:
        rng = self.rng
        out: Obj = {}
        if rng.random() < 0.7:
            out["labels"] = {k: rng.choice(["1", "2"]) for k in rng.sample(["x", "y", "z"], rng.randint(0, 3))}
        if rng.random() < 0.3:
            out["annotations"] = {k: rng.choice(["1", "2"]) for k in rng.sample(["p", "q"], rng.randint(1, 2))}
        if rng.random() < 0.15:
            out["finalizers"] = rng.sample(["example.test/f", "example.test/g"], rng.randint(1, 2))
        if rng.random() < 0.2:
            out["ownerReferences"] = [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": n, "uid": f"00000000-0000-4000-8000-00000000000{n}"}
                for n in rng.sample(["3", "4"], rng.randint(1, 2))
            ]
        return out

    def _strings(self) -> dict[str, str]:
        rng = self.rng
        return {k: rng.choice(["1", "2"]) for k in rng.sample(["k1", "k2", "k3"], rng.randint(0, 3))}

    def _secret_data(self) -> dict[str, str]:
        return {k: {"1": "MQ==", "2": "Mg=="}[v] for k, v in self._strings().items()}

    def _ports(self) -> list[Obj]:
        rng = self.rng
        out = []
        for port in rng.sample([80, 81, 82], rng.randint(1, 3)):
            entry: Obj = {"port": port, "name": f"p{port}"}
            if rng.random() < 0.4:
                entry["targetPort"] = rng.choice([8080, "web"])
            if rng.random() < 0.3:
                entry["protocol"] = "TCP"
            out.append(entry)
        return out

    def _container(self) -> Obj:
        rng = self.rng
        out: Obj = {"name": rng.choice(["main", "side"]), "image": rng.choice(["i:1", "i:latest", "i"])}
        if rng.random() < 0.5:
            out["env"] = [
                {"name": n, "value": rng.choice(["1", "2"])} for n in rng.sample(["E1", "E2"], rng.randint(1, 2))
            ]
        if rng.random() < 0.3:
            out["resources"] = {"limits": {"cpu": rng.choice(["1", "2"])}}
        if rng.random() < 0.3:
            out["ports"] = [{"containerPort": 8080}]
        if rng.random() < 0.2:
            out["readinessProbe"] = {"httpGet": {"port": 8080}}
        return out

    def _pod_spec(self) -> Obj:
        rng = self.rng
        out: Obj = {"restartPolicy": "Never", "containers": [self._container()], "automountServiceAccountToken": False}
        if rng.random() < 0.3:
            out["volumes"] = [{"name": "v", "configMap": {"name": "x"}}, {"name": "e", "emptyDir": {}}]
        if rng.random() < 0.3:
            out["nodeSelector"] = {"disk": rng.choice(["ssd", "hdd"])}
        if rng.random() < 0.3:
            out["terminationGracePeriodSeconds"] = 7
        if rng.random() < 0.2:
            out["tolerations"] = [{"key": "spot", "operator": "Exists"}]
        return out

    def _full(self, kind: Kind) -> Obj:
        rng = self.rng
        match kind.kind:
            case "ConfigMap":
                return {"data": self._strings(), **({"immutable": True} if rng.random() < 0.1 else {})}
            case "Secret":
                return rng.choice(
                    [{"data": self._secret_data()}, {"stringData": self._strings()},
                     {"data": self._secret_data(), "stringData": self._strings(), "immutable": rng.random() < 0.2}]
                )  # fmt: skip
            case "Service":
                spec: Obj = {"ports": self._ports(), "selector": {"app": rng.choice(["a", "b"])}}
                if rng.random() < 0.5:
                    spec["clusterIP"] = "None"
                if rng.random() < 0.3:
                    spec["publishNotReadyAddresses"] = True
                return {"spec": spec}
            case "Job":
                return {"spec": self._job_spec()}
            case "Lease":
                return {"spec": self._lease_spec()}
            case "Pod":
                return {"spec": self._pod_spec()}
            case "NetworkPolicy":
                return {"spec": self._policy_spec()}
            case "Deployment":
                return {"spec": self._deployment_spec()}
            case "HTTPRoute":
                return {"spec": self._route_spec()}
            case "ModelDeployment":
                return {"spec": self._serving_spec()}
            case "Event":
                return {
                    "involvedObject": {"kind": "ConfigMap", "name": "a", "namespace": "NAMESPACE"},
                    "reason": rng.choice(["R1", "R2"]),
                    "message": "m",
                    "type": "Normal",
                }
        return {"spec": self._widget_spec(), "status": {"phase": "Ignored"}}

    def _job_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {"template": {"spec": self._pod_spec()}}
        if rng.random() < 0.7:
            spec |= {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0}
        if rng.random() < 0.3:
            spec["suspend"] = True
        if rng.random() < 0.3:
            spec["template"]["metadata"] = {"labels": {"t": "1"}}
        if rng.random() < 0.3:
            spec["podReplacementPolicy"] = "Failed"
        if rng.random() < 0.05:
            spec["template"]["spec"]["restartPolicy"] = "Always"
        if rng.random() < 0.2:
            spec["podFailurePolicy"] = {
                "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            }
        return spec

    def _deployment_spec(self) -> Obj:
        rng = self.rng
        app = {"app": rng.choice(["a", "a", "b"])}
        pod = {k: v for k, v in self._pod_spec().items() if k != "restartPolicy" or rng.random() < 0.1}
        spec: Obj = {"selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": app}, "spec": pod}}
        if rng.random() < 0.6:
            spec["replicas"] = rng.choice([0, 1, 2])
        if rng.random() < 0.4:
            spec["strategy"] = rng.choice(
                [{"type": "Recreate"}, {"rollingUpdate": {"maxSurge": 1}}, {"type": "RollingUpdate"}]
            )
        if rng.random() < 0.2:
            spec["revisionHistoryLimit"] = 0
        if rng.random() < 0.1:
            del spec["selector"]
        return spec

    def _backends(self) -> list[Obj]:
        rng = self.rng
        first, second = {"name": "s1", "port": 80}, {"name": "s2", "port": 80}
        if rng.random() < 0.7:
            first, second = {**first, "weight": rng.choice([80, 50])}, {**second, "weight": rng.choice([20, 50])}
        return [first] if rng.random() < 0.4 else [first, second]

    def _route_spec(self) -> Obj:
        rng = self.rng
        rule: Obj = {"backendRefs": self._backends()}
        if rng.random() < 0.5:
            rule["matches"] = [{"path": {"type": "PathPrefix", "value": rng.choice(["/", "/x"])}}]
        spec: Obj = {"parentRefs": [{"name": rng.choice(["g1", "g2"])}], "rules": [rule]}
        if rng.random() < 0.5:
            spec["hostnames"] = [rng.choice(["a.example", "b.example"])]
        if rng.random() < 0.1:
            spec["hostnames"] = ["Not A Name"]
        return spec

    def _serving_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {"model": {"uri": rng.choice(["s3://m/1", "s3://m/2"])}}
        if rng.random() < 0.6:
            spec["replicas"] = rng.choice([0, 1, 2])
        if rng.random() < 0.3:
            spec["engine"] = {"maxModelLen": rng.choice([128, 256])}
        if rng.random() < 0.3:
            spec["rollout"] = {"steps": rng.choice([[], [{"weight": 10}], [{"weight": 0}]])}
        return spec

    def _lease_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {"holderIdentity": rng.choice(["h1", "h2"])}
        if rng.random() < 0.6:
            spec["leaseDurationSeconds"] = rng.choice([15, 30, 0])
        if rng.random() < 0.6:
            spec["renewTime"] = rng.choice(["2025-01-01T00:00:00.000000Z", "2025-01-01T00:00:01.500000Z"])
        if rng.random() < 0.4:
            spec["leaseTransitions"] = rng.choice([0, 1])
        return spec

    def _policy_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {"podSelector": {"matchLabels": {"app": rng.choice(["a", "b"])}}, "policyTypes": ["Ingress"]}
        if rng.random() < 0.7:
            spec["ingress"] = [
                {"from": [{"podSelector": {}}], "ports": [{"port": rng.choice([80, 81]), "protocol": "TCP"}]}
            ]
        return spec

    def _widget_spec(self) -> Obj:
        rng = self.rng
        spec: Obj = {}
        if rng.random() < 0.5:
            spec["size"] = rng.choice([1, 2, -1]) if rng.random() < 0.2 else rng.choice([1, 2])
        if rng.random() < 0.4:
            spec["mode"] = rng.choice(["A", "B", "B", "C"])
        if rng.random() < 0.4:
            spec["inner"] = rng.choice([{}, {"note": "n"}, {"depth": 4}, {"note": "m", "extra": 1}])
        if rng.random() < 0.4:
            spec["tags"] = rng.sample(["t1", "t2", "t3"], rng.randint(0, 3))
        if rng.random() < 0.4:
            spec["plain"] = rng.sample(["t1", "t2"], rng.randint(0, 2))
        if rng.random() < 0.4:
            spec["options"] = self._strings()
        if rng.random() < 0.1:
            spec["unknown"] = "pruned"
        return spec

    def _partial(self, kind: Kind) -> Obj:
        """For apply: sometimes everything, sometimes one corner."""
        rng = self.rng
        if rng.random() < 0.6:
            body = self._full(kind)
            if kind.kind != "Widget":
                return body
            return {"spec": body["spec"]}
        match kind.kind:
            case "Service":
                return {"spec": {"ports": self._ports()}}
            case "Job":
                return {"spec": {"suspend": rng.random() < 0.5}}
            case "Lease":
                return {"spec": {"holderIdentity": rng.choice(["h1", "h2"])}}
            case "Deployment":
                return {"spec": {"replicas": rng.choice([1, 2])}}
            case "HTTPRoute":
                return {"spec": {"rules": [{"backendRefs": self._backends()}]}}
            case "ModelDeployment":
                return {"spec": {"replicas": rng.choice([1, 2])}}
            case "Widget":
                return {"spec": {"options": self._strings()}}
            case "Pod":
                return {}
        return self._full(kind)

    def _change(self, kind: Kind) -> Obj:
        rng = self.rng
        roll = rng.random()
        if roll < 0.35:
            value = rng.choice(["1", "2", None])
            return {"metadata": {"labels": {rng.choice(["x", "y"]): value}}}
        if roll < 0.5:
            return {"metadata": {"finalizers": rng.choice([["example.test/f"], [], None])}}
        match kind.kind:
            case "ConfigMap":
                return rng.choice(
                    [{"data": {"k1": rng.choice(["1", "2", None])}}, {"data": None}, {"immutable": True},
                     {"binaryData": {"k9": "MQ=="}}, {"data": {"bad key": "1"}}]
                )  # fmt: skip
            case "Secret":
                return rng.choice(
                    [
                        {"data": {"k1": rng.choice(["MQ==", "Mg==", None])}},
                        {"stringData": {"k2": "3"}},
                        {"type": "kubernetes.io/x"},
                    ]
                )
            case "Service":
                return rng.choice(
                    [{"spec": {"selector": {"app": "c"}}}, {"spec": {"ports": self._ports()}},
                     {"spec": {"publishNotReadyAddresses": True}}, {"spec": {"clusterIP": "None"}}]
                )  # fmt: skip
            case "Job":
                return rng.choice(
                    [{"spec": {"suspend": rng.random() < 0.5}}, {"spec": {"parallelism": 3}},
                     {"spec": {"backoffLimit": 3}},
                     {"spec": {"completions": 5}}, {"spec": {"completionMode": "NonIndexed"}},
                     {"spec": {"template": {"spec": {"nodeSelector": {"disk": "nvme"}}}}},
                     {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}},
                     {"spec": {"template": {"metadata": {"annotations": {"note": "1"}}}}}]
                )  # fmt: skip
            case "Lease":
                return {"spec": self._lease_spec()}
            case "Pod":
                return rng.choice(
                    [{"spec": {"nodeSelector": {"disk": "nvme"}}}, {"spec": {"activeDeadlineSeconds": rng.choice([50, 60, None])}},
                     {"spec": {"terminationGracePeriodSeconds": 9}},
                     {"spec": {"tolerations": []}},
                     {"metadata": {"annotations": {"note": "1"}}}]
                )  # fmt: skip
            case "NetworkPolicy":
                return {"spec": self._policy_spec()}
            case "Deployment":
                return rng.choice(
                    [{"spec": {"replicas": rng.choice([0, 3])}}, {"spec": {"selector": {"matchLabels": {"app": "b"}}}},
                     {"spec": {"template": {"metadata": {"annotations": {"note": "1"}}}}},
                     {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}},
                     {"spec": {"template": {"spec": {"nodeSelector": {"disk": "nvme"}}}}}]
                )  # fmt: skip
            case "HTTPRoute":
                return rng.choice(
                    [{"spec": {"rules": [{"backendRefs": self._backends()}]}}, {"spec": {"hostnames": ["c.example"]}},
                     {"spec": self._route_spec()}]
                )  # fmt: skip
            case "ModelDeployment":
                return rng.choice([{"spec": {"replicas": rng.choice([0, 3])}}, {"spec": self._serving_spec()}])
            case "Event":
                return {"message": rng.choice(["m", "n"]), "count": rng.choice([1, 2])}
        return {"spec": self._widget_spec()}

    def _status(self, kind: Kind) -> Obj:
        rng = self.rng
        match kind.kind:
            case "Job":
                return {"active": rng.choice([1, 2]), "ready": rng.choice([0, 1])}
            case "Deployment":
                return {"replicas": 2, "readyReplicas": rng.choice([1, 2]), "observedGeneration": 1}
            case "HTTPRoute":
                entry = {"type": "Accepted", "reason": "Accepted", "message": "", **self._condition()}
                parent = {"parentRef": {"name": "g1"}, "controllerName": "example.test/c", "conditions": [entry]}
                return {"parents": [parent]}
            case "ModelDeployment":
                out = {"phase": "Healthy", "replicas": rng.choice([1, 2]), "selector": rng.choice(["a=b", "a=c"])}
                return out | ({"draining": "no list"} if rng.random() < 0.1 else {})
            case "Service":
                return {"conditions": [self._condition() | {"reason": "R", "message": ""}]}
            case "Pod":
                return {"phase": rng.choice(["Pending", "Running"]), "conditions": [self._condition()]}
        out: Obj = {"phase": rng.choice(["P1", "P2"])}
        if rng.random() < 0.6:
            out["conditions"] = [
                {"type": t, "status": rng.choice(["True", "False"])} for t in rng.sample(["A", "B"], rng.randint(1, 2))
            ]
        if rng.random() < 0.3:
            out["count"] = rng.choice([1, 2, "three"])
        return out

    def _condition(self) -> Obj:
        return {
            "type": self.rng.choice(["Ready", "Other"]),
            "status": self.rng.choice(["True", "False"]),
            "lastTransitionTime": "2025-01-01T00:00:00Z",
        }
