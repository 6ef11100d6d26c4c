"""A revision's name: a hash over the model's digest and the serving fields that the user set.

Defaults of the operator and of the CRD are left out, so that an upgrade never renames a revision and never starts a
rollout. The canonical form carries a format version and is golden-tested. What means the same is the same in it: an
empty list or map and an absent one, the quantities 8 and "8".
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from finetune_api.modeldeployment import ModelDeploymentSpec

_FORMAT = 1
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels and no look-alikes: a name that reads as no word
_LENGTH = 10


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: kept for k, v in value.items() if (kept := _canonical(v)) not in (None, {}, [])}
    if isinstance(value, list):
        return [_canonical(v) for v in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _name(value: dict[str, Any]) -> str:
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    out = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        out.append(_ALPHABET[digit])
    return "".join(out)


def revision_name(spec: ModelDeploymentSpec, digest: str, *, served_name: str) -> str:
    """10 characters; part of the names of the revision's Deployment, Service and Jobs."""
    wire = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return _name(
        {
            "format": _FORMAT,
            "digest": digest,
            "servedName": served_name,
            "secretRef": wire["model"].get("secretRef"),
            "engine": wire.get("engine"),
            "resources": wire.get("resources"),
        }
    )


def model_key(uri: str, digest: str | None, *, require_gate: bool, secret: str | None) -> str:
    """Which verification a result belongs to: 10 characters, part of the verifier Job's name."""
    return _name({"format": _FORMAT, "uri": uri, "digest": digest, "requireGate": require_gate, "secret": secret})


def trial_key(spec: ModelDeploymentSpec) -> str:
    """Under which analysis and verification a revision was rejected: a change of these is a new trial."""
    wire = spec.rollout.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return _name({"format": _FORMAT, "analysis": wire.get("analysis"), "verify": wire.get("verify")})
