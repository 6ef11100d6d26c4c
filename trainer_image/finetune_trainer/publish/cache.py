"""The evaluation and the engine's answer, kept in the run directory: relaxing a gate costs neither training, nor a
second evaluation, nor a second start of the engine.

A key holds everything a result depends on; with any other key the cached numbers are not ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from finetune_api.finetunejob import FineTuneJobSpec
from finetune_api.layout import METRICS, SERVED
from finetune_api.manifests import MetricValue
from finetune_api.publishing import ServedCheck
from finetune_api.served import SERVED_CHECK, ServedReference
from finetune_artifacts import NotFound, Store, digest_file

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
    return _digest(form)


def artefact_key(folder: Path, image: str, check: ServedCheck) -> str:
    """The very bytes the engine loads, what it is asked, and how it is started; not the limit it is judged by."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SERVED_CHECK)
    reference = ServedReference.model_validate_json((folder / SERVED_CHECK).read_bytes())
    form = {
        "format": _FORMAT,
        "files": [[path.relative_to(folder).as_posix(), digest_file(path)] for path in files],
        "asked": [[prompt.token_ids, len(prompt.continuation)] for prompt in reference.prompts],
        "image": image,
        "check": check.model_copy(update={"enabled": None, "max_logprob_delta": None, "timeout": "1s"}).to_wire(),
    }
    return _digest(form)


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


def read_answer(run: Store, key: str) -> dict[str, Any] | None:
    """The engine's answer of an earlier try, as `served.EngineAnswer` writes it; None when there is no fitting one."""
    try:
        document = json.loads(run.get_bytes(SERVED))
        return dict(document["answer"]) if document["key"] == key else None
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError):
        return None


def write_answer(run: Store, key: str, answer: Mapping[str, Any], at: str) -> None:
    run.put_bytes(SERVED, json.dumps({"format": _FORMAT, "key": key, "answer": answer, "at": at}).encode())


def _digest(form: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()[:32]
