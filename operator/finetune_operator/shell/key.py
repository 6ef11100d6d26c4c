"""The installation key: from it each attempt's token is derived, so that the operator never reads a token back.

It lives in the one Secret that the operator may read. Without it a restarted operator could not talk to the pods that
run; with it, nothing about tokens has to be stored.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Sequence

from finetune_operator.core.names import LABEL_MANAGED_BY, MANAGER
from finetune_operator.core.types import SECRETS
from finetune_operator.kube import errors
from finetune_operator.kube.client import Client
from finetune_operator.kube.compact import Json
from finetune_operator.shell.config import ConfigError

KEY_SECRET = "finetune-operator-key"  # noqa: S105 - a name
_FIELD = "key"
_BYTES = 32
_BYTES_MIN = 16


async def installation_key(
    client: Client,
    namespace: str,
    *,
    owners: Sequence[Json] = (),
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> bytes:
    """The key, made at the first start. Two replicas starting together end with the same one."""
    try:
        return _read(await client.get(SECRETS, namespace, KEY_SECRET), namespace)
    except errors.NotFound:
        pass
    key = random(_BYTES)
    body: Json = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": KEY_SECRET,
            "namespace": namespace,
            "labels": {LABEL_MANAGED_BY: MANAGER},
            "ownerReferences": list(owners),
        },
        "type": "Opaque",
        "immutable": True,
        "data": {_FIELD: base64.b64encode(key).decode()},
    }
    try:
        await client.create(SECRETS, namespace, body)
    except errors.AlreadyExists:
        return _read(await client.get(SECRETS, namespace, KEY_SECRET), namespace)
    return key


def _read(secret: Json, namespace: str) -> bytes:
    try:
        key = base64.b64decode((secret.get("data") or {}).get(_FIELD, ""), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < _BYTES_MIN:
        raise ConfigError(
            f"Secret {namespace}/{KEY_SECRET} has no usable field {_FIELD!r} (at least {_BYTES_MIN} bytes); "
            "delete it while no FineTuneJob runs, and the operator makes a new one"
        )
    return key
