"""Reads what a container of ours said when it ended: its termination message, a report of the contract's types."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from finetune_api.base import WireModel
from finetune_operator.core.names import CONTAINER
from finetune_operator.core.types import Obj

ReportT = TypeVar("ReportT", bound=WireModel)


def read_report(pod: Obj, model: type[ReportT], container: str = CONTAINER) -> ReportT | None:
    """The newest report of that container, also of the run before the present one; None when it left none.

    Init containers are found by their name as well.
    """
    status = pod.get("status") or {}
    for group in ("containerStatuses", "initContainerStatuses"):
        for entry in status.get(group) or ():
            if entry.get("name") != container:
                continue
            for state in ("state", "lastState"):
                text = ((entry.get(state) or {}).get("terminated") or {}).get("message")
                if not text:
                    continue
                try:
                    return model.model_validate_json(text)
                except ValidationError:
                    continue
    return None
