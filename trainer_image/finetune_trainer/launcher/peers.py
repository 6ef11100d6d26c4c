"""The launchers of one gang talk to each other: a stop reaches everybody even before the ranks have met, and a pod
that waits for slower ones can tell waiting from being alone."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import CheckpointRequest
from finetune_api.runconfig import PORT, TOKEN_HEADER, RunConfig
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.launcher.board import Board

TIMEOUT_SECONDS = 2.0


def address(peer: str) -> tuple[str, int]:
    host, separator, port = peer.partition(":")
    return host, int(port) if separator else PORT


def _request(peer: str, method: str, path: str, token: str | None, body: bytes | None = None) -> int | None:
    """The status, or None when the peer does not answer."""
    connection = http.client.HTTPConnection(*address(peer), timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path, body=body, headers={TOKEN_HEADER: token} if token else {})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Peers:
    def __init__(self, config: RunConfig, index: int, token: str | None) -> None:
        self._others = [peer for i, peer in enumerate(config.peers) if i != index]
        self._first = config.peers[0] if index != 0 and config.peers else None
        self._token = token

    def pass_stop_on(self, reason: str) -> None:
        """In the background, best effort: the ranks' own agreement is what counts."""
        self._send(self._others, CheckpointRequest(reason=reason, stop=True))

    def pass_save_on(self, request: CheckpointRequest) -> None:
        """Rank 0 decides about saves."""
        self._send([self._first] if self._first else [], request)

    def all_answer(self) -> bool:
        return all(_request(peer, "GET", "/healthz", None) == 200 for peer in self._others)

    def _send(self, peers: list[str], request: CheckpointRequest) -> None:
        body = json.dumps(request.to_wire()).encode()
        for peer in peers:
            threading.Thread(
                target=_request, args=(peer, "POST", "/checkpoint", self._token, body), name="peer", daemon=True
            ).start()


def wait_for_name(config: RunConfig, index: int, board: Board, patience: float) -> None:
    """Until pod 0's DNS name resolves: a headless Service publishes it some time after the pod exists.

    Raises RunError (75) after `patience` seconds.
    """
    if index == 0:
        return
    deadline = board.clock() + patience
    while True:
        try:
            socket.getaddrinfo(config.master_address, None)
        except OSError as error:
            if board.clock() > deadline:
                raise RunError(
                    ExitCode.DEVICE,
                    f"the name of pod 0, {config.master_address}, does not resolve: {error}; "
                    "is the headless Service there, and does DNS work on this node?",
                    reason="Rendezvous",
                ) from None
            log.event("waiting for pod 0's name", name=config.master_address)
            time.sleep(1)
        else:
            return
