"""What we take from an engine's `/metrics`: a handful of vLLM's series, by hand.

The page has hundreds of lines of which about 150 matter. Reading those alone costs a fraction of a full parser, and a
page that does not say what vLLM says is refused in words instead of being half understood. Several engines behind one
port (data parallel ranks, several model names) are added up.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from finetune_api.rollout import MetricName

_HISTOGRAMS = {
    "vllm:e2e_request_latency_seconds": MetricName.E2E_LATENCY,
    "vllm:time_to_first_token_seconds": MetricName.TTFT,
    "vllm:inter_token_latency_seconds": MetricName.INTER_TOKEN_LATENCY,
    "vllm:request_queue_time_seconds": MetricName.QUEUE_TIME,
}
_FINISHED = "vllm:request_success_total"
_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_TOKENS = "vllm:generation_tokens_total"
_HTTP = "http_requests_total"
_STARTED = "process_start_time_seconds"
_WANTED = (*_HISTOGRAMS, _FINISHED, _RUNNING, _WAITING, _TOKENS, _HTTP, _STARTED)
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"[ \t]*(?:,|$)')
_BUCKETS_MAX = 200


class NotMetrics(Exception):
    """The page is not what an engine says, in words."""


@dataclass(frozen=True)
class Buckets:
    """One histogram: observations per bucket (not cumulative) by upper bound, and their total in seconds."""

    counts: Mapping[float, float]
    sum: float


@dataclass(frozen=True)
class EngineSample:
    """One engine's counters since it started, and what it does now."""

    served: int
    """Requests that ended by themselves: stop, length, repetition."""
    aborted: int
    """By the client, or by an engine that stops."""
    failed: int
    """By the engine."""
    refused: int
    """Completions answered with 5xx; those that failed in the engine are often among them."""
    tokens: int
    running: int
    waiting: int
    started: float
    """When the process began, seconds since the epoch; 0 when it does not say."""
    histograms: Mapping[MetricName, Buckets] = field(default_factory=dict)


def parse(page: bytes) -> EngineSample:
    """Raises NotMetrics."""
    try:
        text = page.decode()
    except UnicodeDecodeError as error:
        raise NotMetrics("the page is not UTF-8") from error
    finished: defaultdict[str, float] = defaultdict(float)
    single: defaultdict[str, float] = defaultdict(float)
    cumulative: defaultdict[MetricName, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    sums: defaultdict[MetricName, float] = defaultdict(float)
    refused = 0.0
    seen: set[str] = set()
    for name, labels, value in _samples(text):
        seen.add(name)
        family, _, part = name.rpartition("_")
        if (metric := _HISTOGRAMS.get(family)) is not None:
            if part == "bucket":
                cumulative[metric][_bound(labels)] += value
            elif part == "sum":
                sums[metric] += value
        elif name == _FINISHED:
            finished[labels.get("finished_reason", "")] += value
        elif name == _HTTP:
            refused += value if _is_refusal(labels) else 0.0
        elif name in _WANTED:
            single[name] += value
    missing = [name for name in (_FINISHED, _RUNNING) if name not in seen]
    if missing:
        raise NotMetrics(f"the page lacks {', '.join(missing)}: is this vLLM, and without --disable-log-stats?")
    aborted, failed = finished.pop("abort", 0.0), finished.pop("error", 0.0)
    return EngineSample(
        served=int(sum(finished.values())),
        aborted=int(aborted),
        failed=int(failed),
        refused=int(refused),
        tokens=int(single[_TOKENS]),
        running=int(single[_RUNNING]),
        waiting=int(single[_WAITING]),
        started=single[_STARTED],
        histograms={metric: Buckets(_apart(metric, found), sums[metric]) for metric, found in cumulative.items()},
    )


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.startswith(_WANTED):
            continue
        found = _SAMPLE.fullmatch(line)
        if found is None:
            raise NotMetrics(f"line {number} is not a sample")
        name, labels, value = found.groups()
        if name.endswith("_created"):
            continue
        try:
            number_read = float(value)
        except ValueError as error:
            raise NotMetrics(f"line {number}: the value of {name} is not a number") from error
        if not (math.isfinite(number_read) and number_read >= 0):
            raise NotMetrics(f"line {number}: the value of {name} is {value[:20]}")
        yield name, _labels(labels or "", number), number_read


def _labels(text: str, number: int) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        label = _LABEL.match(text, at)
        if label is None:
            raise NotMetrics(f"line {number}: its labels cannot be read")
        found[label[1]] = label[2]
        at = label.end()
    return found


def _bound(labels: Mapping[str, str]) -> float:
    try:
        bound = float(labels["le"])
    except (KeyError, ValueError) as error:
        raise NotMetrics("a histogram's bucket has no usable bound") from error
    if math.isnan(bound):
        raise NotMetrics("a histogram's bucket has no usable bound")
    return bound


def _is_refusal(labels: Mapping[str, str]) -> bool:
    return labels.get("status", "").startswith("5") and labels.get("handler", "").startswith("/v1/")


def _apart(metric: MetricName, cumulative: Mapping[float, float]) -> dict[float, float]:
    """Per bucket, from counts that are cumulative on the page."""
    bounds = sorted(cumulative)
    if bounds[-1] != math.inf or len(bounds) > _BUCKETS_MAX:
        raise NotMetrics(f"the buckets of {metric.value} do not end with +Inf, or are more than {_BUCKETS_MAX}")
    before = 0.0
    apart: dict[float, float] = {}
    for bound in bounds:
        apart[bound] = cumulative[bound] - before
        before = cumulative[bound]
        if apart[bound] < 0:
            raise NotMetrics(f"the buckets of {metric.value} are not cumulative")
    return apart
