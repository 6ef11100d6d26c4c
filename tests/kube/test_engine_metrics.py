import math
import re

import pytest

from finetune_api.rollout import MetricName
from finetune_operator.kube.engine_metrics import NotMetrics, parse
from tests.kube.engines import REAL_PAGE, Engine


def test_a_real_page_of_vllm() -> None:
    sample = parse(REAL_PAGE)
    assert (sample.served, sample.aborted, sample.failed, sample.refused) == (5, 0, 0, 0)
    assert (sample.tokens, sample.running, sample.waiting) == (23, 0, 0)
    assert sample.started == pytest.approx(1.79538042756e09)
    assert {name: sum(h.counts.values()) for name, h in sample.histograms.items()} == {
        MetricName.E2E_LATENCY: 5,
        MetricName.TTFT: 5,
        MetricName.INTER_TOKEN_LATENCY: 18,
        MetricName.QUEUE_TIME: 5,
    }
    e2e = sample.histograms[MetricName.E2E_LATENCY]
    assert e2e.counts[0.3] == 1
    assert e2e.counts[1.0] == 2
    assert list(e2e.counts)[-1] == math.inf
    assert e2e.sum == pytest.approx(27.93977689743042)


def test_what_failed_and_what_was_given_up() -> None:
    engine = Engine(running=3, waiting=2)
    engine.serve(0.2, 0.3)
    engine.serve(0.4, reason="abort")
    engine.refuse(2)
    engine.http["4xx"] = 7
    sample = parse(engine.page())
    assert (sample.served, sample.aborted, sample.failed, sample.refused) == (2, 1, 2, 2)
    assert (sample.running, sample.waiting) == (3, 2)


def test_only_completions_count_as_refused() -> None:
    page = Engine().page() + b'http_requests_total{handler="/tokenize",method="POST",status="5xx"} 4.0\n'
    assert parse(page).refused == 0


def test_several_engines_behind_one_port_are_added_up() -> None:
    one = Engine(running=1)
    one.serve(0.2, 0.7)
    page = one.page().decode()
    both = page + re.sub('engine="0"', 'engine="1"', page).replace("process_start_time_seconds 1000.0\n", "")
    sample = parse(both.encode())
    assert (sample.served, sample.running, sample.started) == (4, 2, 1000.0)
    assert sample.histograms[MetricName.E2E_LATENCY].counts == {0.1: 0, 0.5: 2, 1.0: 2, 5.0: 0, math.inf: 0}


def test_labels_may_hold_anything_and_samples_a_timestamp() -> None:
    lines = (
        r'vllm:num_requests_running{model_name="a\"b,}\\",engine="0"} 2 1700000000000',
        'vllm:request_success_total{finished_reason="stop",} 3e1',
    )
    sample = parse("\n".join(lines).encode())
    assert (sample.running, sample.served) == (2, 30)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (b"", "lacks vllm:request_success_total, vllm:num_requests_running"),
        (b"<html>not found</html>", "is this vLLM"),
        (b"\xff\xfe", "not UTF-8"),
        (b"vllm:num_requests_running", "line 1 is not a sample"),
        (b"vllm:num_requests_running{a=b} 1", "line 1: its labels cannot be read"),
        (b"vllm:num_requests_running{} one", "line 1: the value of vllm:num_requests_running is not a number"),
        (b"vllm:num_requests_running NaN", "is NaN"),
        (b"vllm:request_success_total -1", "is -1"),
        (b'vllm:e2e_request_latency_seconds_bucket{le="x"} 1', "no usable bound"),
    ],
)
def test_what_is_no_engine_is_refused_in_words(page: bytes, words: str) -> None:
    with pytest.raises(NotMetrics, match=re.escape(words)):
        parse(page)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [('le="+Inf"', 'le="9"', "do not end with +Inf"), ('le="5.0"} 1.0', 'le="5.0"} 0.0', "are not cumulative")],
)
def test_a_histogram_that_cannot_be_is_refused(old: str, new: str, words: str) -> None:
    engine = Engine()
    engine.serve(0.2)
    with pytest.raises(NotMetrics, match=re.escape(words)):
        parse(engine.page().decode().replace(old, new).encode())
