import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_operator.kube.keys import deployment_key, job_key
from finetune_operator.kube.store import Store
from tests.kube.builders import Json, batch_job, engine_pod, finetunejob, modeldeployment, node, pod, served, service

KEY = job_key("team", "bot")


def filled(*objects: Json) -> Store:
    store = Store()
    for obj in objects:
        store.apply("ADDED", obj)
    return store


def test_a_child_wakes_the_job_that_its_label_names() -> None:
    store = Store()
    assert store.apply("ADDED", finetunejob()) == {KEY}
    assert store.apply("ADDED", batch_job()) == {KEY}
    assert store.apply("ADDED", pod()) == {KEY}
    assert store.apply("ADDED", {"kind": "Pod", "metadata": {"name": "x", "namespace": "team", "uid": "u"}}) == set()
    assert [j["metadata"]["name"] for j in store.children("Job", KEY)] == ["bot-1"]


def test_an_older_or_equal_version_changes_nothing() -> None:
    store = filled(finetunejob(rv=5, status={"phase": "Running"}))
    for rv in (4, 5):
        assert store.apply("MODIFIED", finetunejob(rv=rv, status={"phase": "Pending"})) == set()
    assert store.find(KEY) is not None
    assert store.find(KEY)["status"]["phase"] == "Running"  # type: ignore[index]
    assert store.apply("MODIFIED", finetunejob(rv=6)) == {KEY}


def test_what_was_deleted_does_not_come_back_by_late_events() -> None:
    store = filled(finetunejob(rv=5))
    assert store.apply("DELETED", finetunejob(rv=7)) == {KEY}
    assert store.apply("MODIFIED", finetunejob(rv=6)) == set()
    assert store.find(KEY) is None


def test_an_object_that_only_left_the_selector_may_return() -> None:
    store = filled(pod(rv=5))
    store.apply("DELETED", pod(rv=7))
    assert store.apply("ADDED", pod(rv=9)) == {KEY}


def test_a_new_object_of_the_same_name_replaces_the_old_one() -> None:
    store = filled(finetunejob(uid="old", rv=5))
    assert store.apply("ADDED", finetunejob(uid="new", rv=9)) == {KEY}
    assert store.apply("DELETED", finetunejob(uid="old", rv=8)) == set()
    assert store.find(KEY)["metadata"]["uid"] == "new"  # type: ignore[index]


def test_a_list_removes_what_it_lacks_unless_that_is_newer() -> None:
    store = filled(
        finetunejob("old", uid="a", rv=5), finetunejob("young", uid="b", rv=12), finetunejob("kept", uid="c")
    )
    assert store.prune("FineTuneJob", {("team", "kept")}, "10") == {job_key("team", "old")}
    assert store.keys() == [job_key("team", "young"), job_key("team", "kept")]


def test_a_list_of_one_jobs_children_leaves_other_jobs_alone() -> None:
    store = filled(pod("bot-1-0-x"), pod("other-1-0-x", of="other"))
    assert store.replace_children("Pod", KEY, [pod("bot-1-1-y")], "10") == {KEY}
    assert [p["metadata"]["name"] for p in store.all("Pod")] == ["other-1-0-x", "bot-1-1-y"]


def test_pods_that_are_gone_stay_as_evidence_while_their_job_is_known() -> None:
    store = filled(batch_job(), pod(rv=1))
    last = pod(rv=4, status={"phase": "Failed", "containerStatuses": [{"name": "main", "state": {"terminated": {}}}]})
    assert store.apply("DELETED", last) == {KEY}
    assert [p["status"]["phase"] for p in store.gone_pods("job-1")] == ["Failed"]
    assert store.children("Pod", KEY) == []
    store.apply("DELETED", batch_job(rv=9))
    assert store.gone_pods("job-1") == []


def test_pods_without_a_known_job_leave_nothing_behind() -> None:
    store = filled(pod())
    store.apply("DELETED", pod(rv=2))
    assert store.gone_pods("job-1") == []


def test_evidence_is_bounded() -> None:
    store = filled(batch_job())
    for n in range(200):
        one = pod(f"bot-1-0-{n}", rv=n + 1)
        store.apply("ADDED", one)
        store.apply("DELETED", one)
    assert len(store.gone_pods("job-1")) == 64


def test_a_node_wakes_its_jobs_only_when_it_matters() -> None:
    store = filled(finetunejob(), pod(node="n1"), pod("other-1-0-x", of="other", node="n2"), node("n1", rv=1))
    assert store.apply("MODIFIED", node("n1", rv=2)) == set()
    assert store.apply("MODIFIED", node("n1", rv=3, taints=[{"key": "spot", "effect": "NoSchedule"}])) == {KEY}
    assert store.apply("MODIFIED", node("n1", rv=4, ready="Unknown")) == {KEY}
    assert store.apply("DELETED", node("n1", rv=5)) == {KEY}


def test_a_pod_is_found_on_its_node_after_it_was_scheduled() -> None:
    store = filled(pod(node=None, rv=1), node("n1"))
    store.apply("MODIFIED", pod(node="n1", rv=2))
    assert store.apply("DELETED", node("n1", rv=2)) == {KEY}


def test_the_gang_service_wakes_active_jobs_when_it_changes_or_goes() -> None:
    done = finetunejob("done", uid="d", status={"phase": "Succeeded"})
    far = finetunejob("far", namespace="elsewhere", uid="f")
    store = filled(finetunejob(), done, far)
    assert store.apply("ADDED", service(rv=1)) == set()
    assert store.apply("MODIFIED", service(rv=2, annotations={"a": "b"})) == set()
    assert store.apply("MODIFIED", service(rv=3, deletionTimestamp="2026-01-01T10:00:00Z")) == {KEY}
    assert store.apply("DELETED", service(rv=4)) == {KEY}


def test_every_child_of_a_deployment_wakes_it() -> None:
    store = filled(modeldeployment())
    chat = deployment_key("team", "chat")
    children = [
        served("Deployment", "chat-aaa"),
        served("Service", "chat-aaa"),
        served("HTTPRoute", "chat", revision=None),
        served("Job", "chat-verify-k", revision=None),
        engine_pod(),
    ]
    for child in children:
        assert store.apply("ADDED", child) == {chat}
        assert [c["metadata"]["name"] for c in store.children(child["kind"], chat)] == [child["metadata"]["name"]]
    for child in children:
        assert store.apply("DELETED", child) == {chat}
        assert store.children(child["kind"], chat) == []


def test_a_job_and_a_deployment_of_one_name_are_two() -> None:
    store = filled(finetunejob("bot"), modeldeployment("bot", model={"uri": "s3://x"}), batch_job())
    assert store.keys() == [job_key("team", "bot"), deployment_key("team", "bot")]
    assert store.children("Job", deployment_key("team", "bot")) == []
    assert store.apply("MODIFIED", batch_job(rv=2)) == {job_key("team", "bot")}


def test_kinds_that_are_not_watched_are_ignored() -> None:
    assert Store().apply("ADDED", {"kind": "Secret", "metadata": {"name": "s", "namespace": "team"}}) == set()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_any_order_of_the_same_events_ends_the_same(seed: int) -> None:
    """Late, repeated and reordered events of one history lead to the state that the history ends in."""
    rng = random.Random(seed)
    history: list[tuple[str, Json]] = []
    alive: dict[str, Json] = {}
    uids = {f"job{n}": f"uid-{n}-0" for n in range(3)}
    for rv in range(1, 25):
        name = rng.choice(list(uids))
        if name in alive and rng.random() < 0.4:
            history.append(("DELETED", finetunejob(name, uid=uids[name], rv=rv)))
            del alive[name]
            uids[name] += "'"
        else:
            event = "MODIFIED" if name in alive else "ADDED"
            alive[name] = finetunejob(name, uid=uids[name], rv=rv, status={"phase": str(rv)})
            history.append((event, alive[name]))
    mixed = history + rng.sample(history, 5)
    rng.shuffle(mixed)
    store = Store()
    for event, obj in mixed:
        store.apply(event, obj)
    found = {o["metadata"]["name"]: o["metadata"]["resourceVersion"] for o in store.all("FineTuneJob")}
    assert found == {name: o["metadata"]["resourceVersion"] for name, o in alive.items()}


def test_answer_to_an_own_call_wakes_whom_else_it_bears_on() -> None:
    """The watch brings it again, as old news: only this can tell the ModelDeployment that waits for the job."""
    store = Store()
    woken: list[Any] = []
    store.wake = woken.append
    job = {"kind": "FineTuneJob", "metadata": {"name": "j", "namespace": "team", "uid": "1", "resourceVersion": "1"}}
    spec = {"model": {"fineTuneJobRef": {"name": "j"}}}
    meta = {"name": "d", "namespace": "team", "uid": "2", "resourceVersion": "2"}
    store.apply(None, {"kind": "ModelDeployment", "metadata": meta, "spec": spec})
    store.apply(None, job)
    done = {**job, "metadata": {**job["metadata"], "resourceVersion": "3"}, "status": {"phase": "Succeeded"}}
    store.learn(None, done)
    assert woken == [deployment_key("team", "d")]
    assert store.apply("MODIFIED", done) == frozenset()
