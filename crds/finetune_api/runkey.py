"""The identity of a run: what must be equal for two jobs to train the same model.

Secrets, resources, evaluation, output and retry policy are left out: they change where and how a run happens, not what
it learns. The canonical form carries a format version and is golden-tested, so that an operator upgrade never renames
a run directory.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from finetune_api.finetunejob import FineTuneJobSpec

_FORMAT = 1
_SAME_MODEL = ("microBatchSize", "onOOM", "activationCheckpointing", "compile", "kernels")
"""Of `training`: how it is computed, not what."""


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if k != "secretRef"}
    if isinstance(value, list):
        return [_without_secrets(v) for v in value]
    return value


def _training_relevant(spec: FineTuneJobSpec) -> dict[str, Any]:
    # Defaults are left out, so that a field added later with a default changes no key.
    wire = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    training = {k: v for k, v in wire.get("training", {}).items() if k not in _SAME_MODEL}
    if spec.is_custom:
        # The image is left out as for the built-in trainer: it may be repaired between attempts.
        learns = {"custom": wire["trainer"]["custom"]}
    else:
        learns = {"method": wire["method"], "training": training}
        # Left out while nothing of it differs from SFT: the keys of runs made before it existed stay what they are.
        learns |= {"objective": _without_secrets(wire["objective"])} if wire.get("objective") else {}
        learns |= {"retention": _without_secrets(wire["retention"])} if wire.get("retention") else {}
    return {"model": wire["model"]["uri"], "data": _without_secrets(wire["data"])} | learns


def run_key(
    spec: FineTuneJobSpec, *, model_revision: str, data_fingerprint: str, teacher_revision: str | None = None
) -> str:
    """16 hex digits; part of the run directory's path."""
    form = {
        "format": _FORMAT,
        "spec": _training_relevant(spec),
        "modelRevision": model_revision,
        "dataFingerprint": data_fingerprint,
        "runId": spec.run_id,
    }
    # As with the objective: without a teacher the keys stay what they are.
    form |= {"teacherRevision": teacher_revision} if teacher_revision else {}
    return hashlib.sha256(_canonical(form)).hexdigest()[:16]


def frozen_digest(spec: FineTuneJobSpec) -> str:
    """Over the fields that may not change once a run has begun; a difference is `SpecDrift`."""
    frozen = _training_relevant(spec) | {"checkpoint": spec.checkpoint.uri, "runId": spec.run_id}
    return hashlib.sha256(_canonical(frozen)).hexdigest()[:16]


def spec_digest(spec: FineTuneJobSpec) -> str:
    """Over the whole spec: which spec an attempt was made from."""
    return hashlib.sha256(_canonical(spec.to_wire())).hexdigest()[:16]


def publish_digest(spec: FineTuneJobSpec) -> str:
    """Over evaluation, output and the served check: editing them after `GateFailed` publishes again, without
    training."""
    wire = spec.to_wire()
    form = {"evaluation": wire["evaluation"], "output": wire["output"]}
    # Left out while nothing of it is set: the digests of tries made before it existed stay what they are.
    check = spec.publish.served_check.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    if check:
        form["servedCheck"] = check
    return hashlib.sha256(_canonical(form)).hexdigest()[:16]
