from typing import Any

import pytest

from finetune_operator.core.names import LABEL_ATTEMPT, LABEL_ROLE
from finetune_operator.kube.keys import deployment_key, job_key
from finetune_operator.kube.store import Store
from finetune_operator.shell.lanes import Lane
from finetune_operator.shell.news import take
from tests.kube.builders import Json, batch_job, engine_pod, finetunejob, modeldeployment, node, pod

KEY = job_key("team", "bot")
CHAT = deployment_key("team", "chat")
ENDED = {"state": {"terminated": {"exitCode": 85}}, "name": "main"}
ENDINGS: list[Json] = [
    {"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}},
    {"status": {"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True"}]}},
    {"status": {"phase": "Running", "containerStatuses": [ENDED]}},
    {"status": {"phase": "Failed"}},
]


def child(obj: Json, role: str = "trainer", attempt: int = 1) -> Json:
    obj["metadata"]["labels"] |= {LABEL_ROLE: role, LABEL_ATTEMPT: str(attempt)}
    return obj


def newer(obj: Json, **changes: Any) -> Json:
    """The same object at a later resourceVersion."""
    version = str(int(obj["metadata"]["resourceVersion"]) + 100)
    meta = {**obj["metadata"], "resourceVersion": version, **changes.pop("metadata", {})}
    return {**obj, **changes, "metadata": meta}


def status(**attempt: Any) -> Json:
    return {"phase": "Running", "attempts": [{"index": 1, **attempt}]}


class Cluster:
    """One running gang of one pod, on node n1."""

    def __init__(self, told: Json | None = None) -> None:
        self.store = Store()
        self.job = finetunejob(status=told or status())
        self.pod, self.batch = child(pod()), child(batch_job())
        for obj in (node(), self.job, self.batch, self.pod):
            list(take(self.store, None, obj))

    def tell(self, obj: Json, event: str = "MODIFIED") -> Any:
        return dict(take(self.store, event, obj))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_pod_that_is_taken_away_or_ends_is_news(ending: Json) -> None:
    cluster = Cluster()
    assert cluster.tell(newer(cluster.pod, **ending)) == {KEY: Lane.NOTICE}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "told",
    [
        status() | {"preemptions": [{"attempt": 1}]},
        status(stopping="Suspended"),
        status(finishedAt="2026-01-01T12:00:00Z"),
        {"phase": "Running", "attempts": [{"index": 1}, {"index": 2}]},
    ],
)
def test_what_the_status_tells_already_is_not(ending: Json, told: Json) -> None:
    cluster = Cluster(told)
    assert cluster.tell(newer(cluster.pod, **ending)) == {KEY: Lane.CHANGE}


def test_a_deleted_pod_is_news() -> None:
    cluster = Cluster()
    assert cluster.tell(newer(cluster.pod), "DELETED") == {KEY: Lane.NOTICE}


@pytest.mark.parametrize("kind", ["Failed", "FailureTarget", "Complete"])
def test_the_end_of_a_gangs_job_is_news(kind: str) -> None:
    cluster = Cluster()
    over = newer(cluster.batch, status={"conditions": [{"type": kind, "status": "True"}]})
    assert cluster.tell(over) == {KEY: Lane.NOTICE}


def test_what_goes_on_as_it_should_is_work() -> None:
    cluster = Cluster()
    assert cluster.tell(newer(cluster.pod, status={"phase": "Running", "podIP": "10.0.0.1"})) == {KEY: Lane.WORK}
    assert cluster.tell(newer(cluster.batch, status={"active": 1})) == {KEY: Lane.WORK}
    assert cluster.tell(child(pod("bot-1-1-y")), "ADDED") == {KEY: Lane.WORK}
    assert cluster.tell(child(pod("bot-preflight"), "preflight"), "ADDED") == {KEY: Lane.WORK}
    over = newer(child(pod("bot-preflight"), "preflight"), status={"phase": "Succeeded"})
    assert cluster.tell(over) == {KEY: Lane.WORK}, "a new job's first steps"


def test_a_node_with_something_new_to_say_is_news_for_the_gangs_on_it() -> None:
    cluster = Cluster()
    assert cluster.tell(newer(node(taints=[{"key": "spot", "effect": "NoSchedule"}]))) == {KEY: Lane.NOTICE}
    assert cluster.tell(newer(newer(node(taints=[{"key": "spot", "effect": "NoSchedule"}])))) == {}, "a heartbeat"


def test_a_users_wish_is_news_and_a_new_object_is_work() -> None:
    cluster = Cluster()
    assert cluster.tell(newer(cluster.job, metadata={"generation": 2})) == {KEY: Lane.NOTICE}
    assert cluster.tell(finetunejob("other", uid="u2"), "ADDED") == {job_key("team", "other"): Lane.WORK}
    again = newer(newer(cluster.job, metadata={"generation": 2}), status=status(stopping="Suspended"))
    assert cluster.tell(again) == {KEY: Lane.CHANGE}, "a status"
    noted = newer(again, metadata={"generation": 2, "annotations": {"finetune.dev/retry": "1"}})
    assert cluster.tell(noted) == {KEY: Lane.NOTICE}


def test_rollouts_go_before_new_jobs_and_after_notices() -> None:
    cluster = Cluster()
    cluster.tell(modeldeployment(), "ADDED")
    assert cluster.tell(engine_pod(), "ADDED") == {CHAT: Lane.CHANGE}
    done = newer(cluster.job, status={"phase": "Succeeded", "output": {"uri": "s3://b/m"}})
    assert cluster.tell(done) == {KEY: Lane.CHANGE, CHAT: Lane.CHANGE}, "its model is there"


def test_what_is_not_watched_bears_on_nobody() -> None:
    assert Cluster().tell({"kind": "Secret", "metadata": {"name": "s", "namespace": "team"}}) == {}
