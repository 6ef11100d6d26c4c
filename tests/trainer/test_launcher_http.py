"""The endpoints: who may ask what, and answers that stay small."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_api.reports import CheckpointRequest, Progress
from finetune_trainer.common.channel import Channel
from finetune_trainer.launcher.board import Board
from finetune_trainer.launcher.endpoints import MAX_BODY, address
from finetune_trainer.launcher.http import Server
from finetune_trainer.launcher.peers import Peers
from tests.trainer import runs

TOKEN = "correct horse"
Answer = tuple[int, Any]


class Service:
    def __init__(self, folder: Path, token: str | None = TOKEN) -> None:
        config = runs.config(folder / "store", runs.spec(Path("/m"), Path("/d")))
        self.board = Board(config, 0, Channel(folder / "channel"))
        self.saves: list[CheckpointRequest] = []
        self.server = Server(("127.0.0.1", 0), self.board, token, self.saves.append)
        self.server.start()

    @property
    def peer(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def ask(
        self, method: str, path: str, *, token: str | None = TOKEN, body: bytes | None = None, **more: str
    ) -> Answer:
        connection = http.client.HTTPConnection(*address(self.peer), timeout=10)
        try:
            connection.request(method, path, body, {**({"X-Finetune-Token": token} if token else {}), **more})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if "json" in answer.headers["Content-Type"] else content.decode()
        finally:
            connection.close()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    yield service
    service.close()


def test_health_and_metrics_are_open(service: Service) -> None:
    assert service.ask("GET", "/healthz", token=None) == (200, {"status": "ok", "stage": "Fetching", "attempt": 1})
    status, text = service.ask("GET", "/metrics", token=None)
    assert status == 200
    assert 'finetune_trainer_stage{stage="Fetching"} 1' in text
    assert "finetune_trainer_stop_requested 0" in text


def test_metrics_show_the_ranks_numbers(service: Service) -> None:
    service.board.channel.put_progress({"stage": "Training", "step": 3, "loss": 0.25, "updatedAt": "now"})
    text = service.ask("GET", "/metrics")[1]
    assert "\nfinetune_trainer_step 3\n" in text
    assert "\nfinetune_trainer_loss 0.25\n" in text


@pytest.mark.parametrize("token", [None, "", "wrong", "correct hors", "correct horse "[:-1] + "x"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/progress"), ("POST", "/checkpoint")])
def test_the_rest_needs_the_token(service: Service, method: str, path: str, token: str | None) -> None:
    status, answer = service.ask(method, path, token=token, body=b'{"reason": "x", "stop": true}')
    assert status == 401
    assert "token" in answer["error"]
    assert TOKEN not in answer["error"]
    assert service.board.stop is None


def test_without_a_token_of_its_own_a_pod_trusts_nobody(tmp_path: Path) -> None:
    service = Service(tmp_path, token=None)
    try:
        assert service.ask("GET", "/progress", token="")[0] == 401
        assert service.ask("GET", "/progress", token="None")[0] == 401
    finally:
        service.close()


def test_progress_is_the_wire_format(service: Service) -> None:
    status, answer = service.ask("GET", "/progress")
    assert status == 200
    assert Progress.model_validate(answer).attempt == 1


def test_a_stop_is_accepted_again_and_again(service: Service) -> None:
    for _ in range(3):
        assert service.ask("POST", "/checkpoint", body=b'{"reason": "spot notice", "stop": true}')[0] == 202
    assert service.board.stop is not None
    assert service.board.stop.reason == "spot notice"
    assert service.saves == []


def test_a_save_without_stop(service: Service) -> None:
    assert service.ask("POST", "/checkpoint", body=b'{"reason": "cordon"}')[0] == 202
    assert [request.reason for request in service.saves] == ["cordon"]
    assert service.board.stop is None


@pytest.mark.parametrize(
    ("body", "words"), [(b"", "JSON"), (b"{}", "reason"), (b'{"reason": "x", "stop": "maybe"}', "stop")]
)
def test_bad_bodies_get_words(service: Service, body: bytes, words: str) -> None:
    status, answer = service.ask("POST", "/checkpoint", body=body)
    assert status == 400
    assert words in answer["error"]
    assert service.board.stop is None


def test_large_bodies_are_not_read(service: Service) -> None:
    assert service.ask("POST", "/checkpoint", body=None, **{"Content-Length": str(MAX_BODY + 1)})[0] == 413


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/checkpoint"), ("POST", "/progress")])
def test_other_paths(service: Service, method: str, path: str) -> None:
    assert service.ask(method, path)[0] == 404


def test_peers_pass_stops_and_saves_on(tmp_path: Path) -> None:
    first, second = Service(tmp_path / "0"), Service(tmp_path / "1")
    try:
        config = first.board.config.model_copy(update={"peers": [first.peer, second.peer]})
        Peers(config, 1, TOKEN).pass_stop_on("SIGTERM")
        Peers(config, 1, TOKEN).pass_save_on(CheckpointRequest(reason="cordon"))
        runs.wait_until(lambda: first.board.stop and first.saves, "both at index 0", 10)
        assert second.board.stop is None
        assert Peers(config, 1, TOKEN).all_answer()
    finally:
        first.close()
        second.close()
    assert not Peers(config, 1, TOKEN).all_answer()
