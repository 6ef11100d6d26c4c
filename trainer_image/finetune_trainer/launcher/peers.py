"""The launchers of one gang talk to each other: a stop reaches everybody even before the ranks have met, and a pod
that waits for slower ones can tell waiting from being alone."""

from __future__ import annotations

import socket
import time

from finetune_api.exitcodes import ExitCode
from finetune_api.reports import CheckpointRequest
from finetune_api.runconfig import RunConfig
from finetune_trainer.common import log
from finetune_trainer.common.errors import RunError
from finetune_trainer.launcher.board import Board
from finetune_trainer.launcher.endpoints import ask, tell


class Peers:
    def __init__(self, config: RunConfig, index: int, token: str | None) -> None:
        self._others = [peer for i, peer in enumerate(config.peers) if i != index]
        self._first = config.peers[0] if index != 0 and config.peers else None
        self._token = token

    def pass_stop_on(self, reason: str) -> None:
        tell(self._others, self._token, CheckpointRequest(reason=reason, stop=True).to_wire())

    def pass_save_on(self, request: CheckpointRequest) -> None:
        """Rank 0 decides about saves."""
        tell([self._first] if self._first else [], self._token, request.to_wire())

    def all_answer(self) -> bool:
        return all(ask(peer, "GET", "/healthz", None) == 200 for peer in self._others)


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
