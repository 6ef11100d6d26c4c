import asyncio
from typing import Any

import pytest
from fakeapi import World

from finetune_operator.core.types import FINETUNEJOBS, HTTPROUTES, JOBS, NODES, PODS, SERVICES
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client, path_of
from tests.kube.builders import Naps, ScriptedTransport, Sent, finetunejob, new_finetunejob, refusal


def scripted(*answers: Any, **more: Any) -> tuple[Client, ScriptedTransport, Naps]:
    transport, naps = ScriptedTransport(list(answers)), Naps()
    return Client(transport, sleep=naps, **more), transport, naps


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (path_of(PODS, "team", "p"), "/api/v1/namespaces/team/pods/p"),
        (path_of(PODS, None), "/api/v1/pods"),
        (path_of(JOBS, "team"), "/apis/batch/v1/namespaces/team/jobs"),
        (path_of(NODES, "ignored", "n1"), "/api/v1/nodes/n1"),
        (
            path_of(FINETUNEJOBS, "team", "bot", "status"),
            "/apis/finetune.dev/v1alpha1/namespaces/team/finetunejobs/bot/status",
        ),
    ],
)
def test_paths(path: str, expected: str) -> None:
    assert path == expected


async def test_list_follows_pages_and_names_the_kind() -> None:
    first = {"metadata": {"resourceVersion": "9", "continue": "c"}, "items": [{"metadata": {"name": "a"}}]}
    second = {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "b"}}]}
    client, transport, _ = scripted(first, second)
    items, version = await client.list(PODS, "team", selector="x=y")
    assert [(i["kind"], i["metadata"]["name"]) for i in items] == [("Pod", "a"), ("Pod", "b")]
    assert version == "9"
    assert [s.params for s in transport.sent] == [
        {"limit": "500", "labelSelector": "x=y"},
        {"limit": "500", "labelSelector": "x=y", "continue": "c"},
    ]


async def test_list_begins_anew_when_the_token_expired() -> None:
    first = {"metadata": {"resourceVersion": "9", "continue": "c"}, "items": [{"metadata": {"name": "gone"}}]}
    again = {"metadata": {"resourceVersion": "12"}, "items": []}
    client, _, _ = scripted(first, refusal(410, "Expired"), again)
    assert await client.list(PODS) == ([], "12")


async def test_reads_are_repeated_with_growing_pauses() -> None:
    client, _, naps = scripted(TimeoutError(), ConnectionResetError(), refusal(503), {"metadata": {"name": "p"}})
    assert (await client.get(PODS, "team", "p"))["metadata"]["name"] == "p"
    assert naps.taken == [0.2, 0.4, 0.8]


async def test_reads_give_up() -> None:
    client, transport, _ = scripted(*[TimeoutError()] * 9)
    with pytest.raises(errors.RequestTimeout, match="no answer within 30 s"):
        await client.get(PODS, "team", "p")
    assert len(transport.sent) == 4


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (TimeoutError(), errors.RequestTimeout),
        (ConnectionResetError("reset"), errors.ConnectionLost),
        (refusal(500), errors.ServerError),
    ],
)
async def test_a_write_of_unknown_fate_is_never_repeated(failure: Any, kind: type[Exception]) -> None:
    client, transport, naps = scripted(failure, {"never": "sent"})
    with pytest.raises(kind):
        await client.create(PODS, "team", {"metadata": {"name": "p"}})
    assert len(transport.sent) == 1
    assert naps.taken == []


async def test_a_throttled_write_waits_as_long_as_the_server_asked() -> None:
    client, transport, naps = scripted(
        refusal(429, **{"Retry-After": "4"}), refusal(429, **{"Retry-After": "900"}), {"metadata": {"name": "p"}}
    )
    await client.create(PODS, "team", {"metadata": {"name": "p"}})
    assert naps.taken == [4.0, 30.0]
    assert len(transport.sent) == 3


async def test_throttled_for_too_long_is_told_with_the_pause() -> None:
    client, _, _ = scripted(*[refusal(429, **{"Retry-After": "2"})] * 4)
    with pytest.raises(errors.TooManyRequests) as caught:
        await client.create(PODS, "team", {})
    assert caught.value.retry_after == 2.0


async def test_status_goes_alone_with_the_version_that_was_read() -> None:
    client, transport, _ = scripted({"metadata": {"name": "bot"}})
    job = finetunejob(rv=7, status={"phase": "Old"})
    await client.update_status(FINETUNEJOBS, job, {"phase": "Running"})
    (sent,) = transport.sent
    assert sent.method == "PUT"
    assert sent.path.endswith("/finetunejobs/bot/status")
    assert sent.body == {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "bot", "namespace": "team", "uid": "ftj-uid", "resourceVersion": "7"},
        "status": {"phase": "Running"},
    }


async def test_a_status_write_removes_stale_fields_and_conflicts_with_an_old_reading(
    world: World, client: Client
) -> None:
    read = world.api.create("finetune.dev", "finetunejobs", "default", new_finetunejob())
    first = await client.update_status(FINETUNEJOBS, read, {"phase": "Pending", "message": "stale"})
    second = await client.update_status(FINETUNEJOBS, first, {"phase": "Running"})
    assert (second["status"]["phase"], second["status"].get("message")) == ("Running", None)
    assert second["spec"] == read["spec"]
    with pytest.raises(errors.Conflict):
        await client.update_status(FINETUNEJOBS, first, {"phase": "Failed"})


async def test_delete_carries_uid_and_propagation() -> None:
    client, transport, _ = scripted({"kind": "Status"}, {"kind": "Status"})
    await client.delete(JOBS, "team", "bot-1", uid="u1")
    await client.delete(PODS, "team", "p", uid=None, foreground=False)
    assert transport.sent[0].body["preconditions"] == {"uid": "u1"}
    assert [s.body["propagationPolicy"] for s in transport.sent] == ["Foreground", "Background"]
    assert "preconditions" not in transport.sent[1].body


async def test_apply_is_server_side_and_owned(world: World, client: Client) -> None:
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"clusterIP": "None"}}
    made = await client.apply(SERVICES, "default", "s", body)
    assert [m["manager"] for m in made["metadata"]["managedFields"]] == ["finetune-operator"]
    patched = await client.merge_patch(SERVICES, "default", "s", {"metadata": {"labels": {"a": "b"}}})
    assert patched["metadata"]["labels"] == {"a": "b"}


async def test_writes_in_flight_are_bounded() -> None:
    running = peak = 0
    release = asyncio.Event()

    class Slow(ScriptedTransport):
        async def request(self, method: str, path: str, **more: Any) -> Any:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            await release.wait()
            running -= 1
            return 200, {}, {}

    client = Client(Slow([]), max_writes=3)
    writes = [asyncio.create_task(client.create(PODS, "team", {})) for _ in range(10)]
    for _ in range(50):
        await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*writes)
    assert peak == 3


async def test_the_observer_hears_of_every_call() -> None:
    heard: list[tuple[str, str, str]] = []

    def answer(sent: Sent) -> Any:
        return refusal(404, "NotFound")

    client, _, _ = scripted(
        {}, answer, TimeoutError(), observer=lambda verb, kind, outcome: heard.append((verb, kind, outcome))
    )
    await client.get(PODS, "team", "p")
    with pytest.raises(errors.NotFound):
        await client.delete(JOBS, "team", "j", uid=None)
    with pytest.raises(errors.RequestTimeout):
        await client.create(PODS, "team", {})
    assert heard == [("get", "Pod", "ok"), ("delete", "Job", "NotFound"), ("create", "Pod", "RequestTimeout")]


async def test_an_answer_that_is_not_json_is_a_server_error() -> None:
    client, _, _ = scripted(*[(200, {}, "<html>a proxy</html>")] * 4)
    with pytest.raises(errors.ServerError, match="not JSON"):
        await client.get(PODS, "team", "p")


async def test_what_is_served_is_asked_for_by_kind(world: World) -> None:
    client = Client(world.transport("operator"))
    assert await client.serves(HTTPROUTES)
    assert await client.serves(PODS)
    bare = Client(World().transport("operator"))
    assert not await bare.serves(HTTPROUTES), "its group is unknown"
    other, _, _ = scripted({"resources": [{"name": "gateways"}, {"name": "httproutes/status"}]})
    assert not await other.serves(HTTPROUTES), "its group has other kinds"
    denied, _, _ = scripted(refusal(403))
    with pytest.raises(errors.Forbidden):
        await denied.serves(HTTPROUTES)
