import copy
import json

from finetune_operator.core.names import ANNOTATION_RECORD, ANNOTATION_RUN_CONFIG
from finetune_operator.kube.compact import compact, share
from tests.kube.builders import batch_job, finetunejob, node, pod, served


def test_the_argument_is_left_alone() -> None:
    for obj in (finetunejob(), batch_job(), pod(), node()):
        before = copy.deepcopy(obj)
        compact(obj["kind"], obj)
        assert obj == before


def test_bulk_goes_and_facts_stay() -> None:
    job = batch_job(status={"conditions": [{"type": "Failed", "status": "True"}]})
    job["metadata"]["managedFields"] = [{"manager": "m"}]
    job["metadata"]["annotations"] = {ANNOTATION_RUN_CONFIG: "x" * 9000, "keep": "me"}
    slim = compact("Job", job)
    assert slim["spec"] == {"completions": 2}
    assert slim["status"] == job["status"]
    assert slim["metadata"]["annotations"] == {"keep": "me"}
    assert "managedFields" not in slim["metadata"]
    assert slim["metadata"]["ownerReferences"] == job["metadata"]["ownerReferences"]


def test_a_pod_keeps_its_evidence() -> None:
    state = {"terminated": {"exitCode": 77, "message": '{"exitCode": 77}'}}
    status = {
        "phase": "Failed",
        "podIP": "10.0.0.1",
        "qosClass": "Burstable",
        "conditions": [{"type": "DisruptionTarget", "status": "True"}],
        "containerStatuses": [{"name": "main", "state": state, "imageID": "sha256:…", "restartCount": 0}],
    }
    slim = compact("Pod", pod(status=status))
    assert slim["spec"] == {"nodeName": "n1"}
    assert slim["status"]["containerStatuses"] == [{"name": "main", "state": state, "restartCount": 0}]
    assert slim["status"]["conditions"] == status["conditions"]
    assert slim["status"]["podIP"] == "10.0.0.1"
    assert "qosClass" not in slim["status"]


def test_a_node_keeps_taints_and_conditions_without_heartbeats() -> None:
    taints = [{"key": "k", "effect": "NoSchedule"}]
    assert compact("Node", node(taints=taints, rv=1))["spec"] == {"taints": taints}
    one, other = compact("Node", node(rv=1)), compact("Node", node(rv=2))
    assert one["status"] == other["status"] == {"conditions": [{"type": "Ready", "status": "True"}]}


def test_a_deployment_keeps_its_size_status_and_record() -> None:
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": []}}}
    body = served("Deployment", "chat-aaa", spec=spec, status={"readyReplicas": 1, "conditions": []})
    body["metadata"]["annotations"] = {ANNOTATION_RECORD: "{}"}
    slim = compact("Deployment", body)
    assert slim["spec"] == {"replicas": 2}
    assert slim["status"] == body["status"]
    assert slim["metadata"]["annotations"] == {ANNOTATION_RECORD: "{}"}
    assert slim["metadata"]["ownerReferences"] == body["metadata"]["ownerReferences"]


def test_a_route_stays_whole() -> None:
    body = served("HTTPRoute", "chat", spec={"rules": [{"backendRefs": []}]}, status={"parents": []})
    slim = compact("HTTPRoute", body)
    assert (slim["spec"], slim["status"]) == (body["spec"], body["status"])


def test_a_users_spec_stays_whole() -> None:
    job = finetunejob()
    assert compact("FineTuneJob", job)["spec"] == job["spec"]


def test_equal_strings_of_two_objects_are_one() -> None:
    one, two = (share(json.loads('{"someKey": "some value here"}')) for _ in range(2))
    assert next(iter(one)) is next(iter(two))
    assert one["someKey"] is two["someKey"]
