import base64

import pytest
from fakeapi import World

from finetune_operator.kube.client import Client
from finetune_operator.shell.config import ConfigError
from finetune_operator.shell.key import KEY_SECRET, installation_key


async def test_made_once_and_read_ever_after(world: World) -> None:
    client = Client(world.transport("operator"))
    first = await installation_key(client, "team")
    assert len(first) == 32
    assert await installation_key(client, "team") == first
    secret = world.get("", "secrets", "team", KEY_SECRET)
    assert secret["immutable"] is True
    assert base64.b64decode(secret["data"]["key"]) == first


async def test_two_replicas_starting_together_have_one_key(world: World) -> None:
    client = Client(world.transport("operator"))
    theirs = b"t" * 32

    def random(count: int) -> bytes:
        data = {"key": base64.b64encode(theirs).decode()}
        world.api.create("", "secrets", "team", {"metadata": {"name": KEY_SECRET}, "data": data})
        return b"o" * count

    assert await installation_key(client, "team", random=random) == theirs


@pytest.mark.parametrize("data", [{}, {"key": base64.b64encode(b"short").decode()}])
async def test_a_useless_secret_is_told_in_words(world: World, data: dict[str, str]) -> None:
    world.api.create("", "secrets", "team", {"metadata": {"name": KEY_SECRET}, "data": data})
    with pytest.raises(ConfigError, match=f"team/{KEY_SECRET} has no usable field"):
        await installation_key(Client(world.transport("operator")), "team")


async def test_the_key_belongs_to_its_owner(world: World) -> None:
    client = Client(world.transport("operator"))
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "name": "x", "uid": "u"}
    await installation_key(client, "team", owners=[crd])
    assert world.get("", "secrets", "team", KEY_SECRET)["metadata"]["ownerReferences"] == [crd]
