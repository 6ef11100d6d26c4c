"""A thing in storage, named by a URI."""

from __future__ import annotations

from finetune_api.base import ApiModel, SourceUri
from finetune_api.running import SecretRef


class Stored(ApiModel):
    """A thing in storage that is read, and the credentials to reach it."""

    uri: SourceUri
    secret_ref: SecretRef | None = None
