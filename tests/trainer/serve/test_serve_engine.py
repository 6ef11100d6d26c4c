"""The client reads vLLM's shapes, and tells every kind of failure from the others."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from finetune_trainer.common.errors import RunError
from finetune_trainer.serve import engine as module
from finetune_trainer.serve.engine import Away, Broken, Engine, EngineError, Refused, Silent
from tests.trainer.serve.fake_engine import FakeEngine, hangs_up, logprob, says, serving

S = 30.0


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    with serving(FakeEngine()) as engine:
        yield engine


@pytest.fixture
def client(fake: FakeEngine) -> Engine:
    return Engine(fake.url, fake.name)


def test_it_reads_what_vllm_answers(fake: FakeEngine, client: Engine) -> None:
    assert client.models(S).data[0].max_model_len == 512
    answer = client.complete(S, [72, 105], max_tokens=2, prompt_logprobs=0, logprobs=0, return_token_ids=True).choice
    assert answer.prompt_logprobs is not None
    assert answer.prompt_logprobs[0] is None
    assert answer.prompt_logprobs[1] is not None
    assert answer.prompt_logprobs[1][105].logprob == logprob(105)
    assert (answer.text, answer.token_ids) == ("re", [114, 101])
    assert client.chat(S, [{"role": "user", "content": "Hi"}], max_tokens=64).text == "re: <user>Hi<assistant>"
    assert client.tokenize(S, prompt="Hi") == [72, 105]
    assert all(body.get("temperature", 0) == 0 for _, body in fake.asked)


def flood(handler: BaseHTTPRequestHandler) -> None:
    says(200, b'{"choices": "' + b"x" * 4096 + b'"}')(handler)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (says(503, b"upstream"), Away, "HTTP 503: upstream"),
        (says(429, b'{"error": {"message": "too many"}}'), Away, "HTTP 429: too many"),
        (says(500, b'{"error": {"message": "EngineCore died"}}'), Broken, "HTTP 500: EngineCore died"),
        (says(400, b'{"error": {"message": "too\\u0000 long"}}'), Refused, "HTTP 400: too\ufffd long"),
        (says(404, b'{"detail": "Not Found"}'), Refused, "Not Found"),
        (says(200, b"<html>"), Broken, "is not JSON: <html>"),
        (says(200, b"[" * 100_000), Broken, "is not JSON"),
        (says(200, b'{"choices": []}'), Broken, "something else: choices"),
        (says(200, b'{"object": "error"}'), Broken, "choices: Field required"),
        (says(200, b'{"choices": [{"text": "x", "finish_reason": "abort"}]}'), Away, "is shutting down"),
        (says(200, b'{"choices": [{"text": "x", "finish_reason": "error"}]}'), Broken, "with an error"),
        (hangs_up, Broken, "hung up before it had answered /v1/completions"),
        (flood, Broken, "with more than 1024 bytes"),
    ],
)
def test_every_failure_by_its_kind(
    fake: FakeEngine,
    client: Engine,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[BaseHTTPRequestHandler], None],
    kind: type[EngineError],
    words: str,
) -> None:
    if fault is flood:
        monkeypatch.setattr(module, "MAX_ANSWER", 1024)
    fake.faults = [fault]
    with pytest.raises(EngineError) as error:
        client.complete(S, "Hi", max_tokens=1)
    assert type(error.value) is kind
    assert words in str(error.value)


def test_what_an_engine_says_is_clipped(fake: FakeEngine, client: Engine) -> None:
    fake.faults = [says(400, b"\x1b[31m" + b"x" * 100_000)]
    with pytest.raises(Refused) as error:
        client.complete(S, "Hi", max_tokens=1)
    assert len(str(error.value)) < 400
    assert "\x1b" not in str(error.value)


def test_redirects_are_not_followed(fake: FakeEngine, client: Engine) -> None:
    with serving(FakeEngine()) as elsewhere:
        fake.faults = [says(307, b"", Location=f"{elsewhere.url}/v1/completions")]
        with pytest.raises(Refused, match="HTTP 307"):
            client.complete(S, "Hi", max_tokens=1)
        assert elsewhere.asked == []


def test_silence_and_drips_end_at_the_timeout(fake: FakeEngine, client: Engine) -> None:
    stop = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        stop.wait(60)

    def drips(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not stop.wait(0.02):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    try:
        for fault in (silent, drips):
            fake.faults = [fault]
            with pytest.raises(Silent, match="did not answer /v1/completions within"):
                client.complete(0.3, "Hi", max_tokens=1)
    finally:
        stop.set()


def test_a_closed_port_is_away() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Away, match="does not take connections: Connection refused"):
        Engine(f"http://127.0.0.1:{port}", "x").models(S)


@pytest.mark.parametrize("url", ["https://x", "x:80", "http://", "http://x/v1", "http://x:port", "file:///etc/passwd"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(RunError, match="is no engine's address") as error:
        Engine(url, "x")
    assert (error.value.code, error.value.reason) == (64, "InvalidConfig")
