"""The evaluation, kept in the run directory, so that relaxing a gate costs neither training nor a second evaluation.

The key holds everything a metric depends on; with any other key the cached numbers are not ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.layout import METRICS
from finetune_api.manifests import MetricValue
from finetune_artifacts import NotFound, Store

_FORMAT = 1
_METRICS = TypeAdapter(dict[str, MetricValue])


def cache_key(spec: FineTuneJobSpec, trainable_digest: str, kind: str) -> str:
    """Base model, data and training are fixed by the run directory itself."""
    evaluation = spec.evaluation
    form = {
        "format": _FORMAT,
        "trainable": trainable_digest,
        "kind": kind,
        "perplexity": evaluation.perplexity,
        "samples": evaluation.samples.to_wire(),
    }
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:32]


def read_metrics(run: Store, key: str) -> dict[str, MetricValue] | None:
    """None when nothing fitting is cached; an unreadable cache is no cache."""
    try:
        document = json.loads(run.get_bytes(METRICS))
        if document["key"] != key:
            return None
        return _METRICS.validate_python(document["metrics"])
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError, ValidationError):
        return None


def write_metrics(run: Store, key: str, metrics: Mapping[str, MetricValue], at: str) -> None:
    wire = {name: value.to_wire() for name, value in metrics.items()}
    run.put_bytes(METRICS, json.dumps({"format": _FORMAT, "key": key, "metrics": wire, "at": at}).encode())
