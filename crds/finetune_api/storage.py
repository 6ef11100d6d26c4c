"""A thing in storage, named by a URI."""

from __future__ import annotations

from finetune_api.base import ApiModel, Uri
from finetune_api.running import SecretRef


class Stored(ApiModel):
    """A thing in storage and the credentials to reach it."""

    uri: Uri
    secret_ref: SecretRef | None = None
