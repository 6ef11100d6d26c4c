"""Data of the tiny task for other objectives: which of two queues is right, messages as raw text, and with labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.trainer import tiny

LABELS = tuple(tiny.QUEUES)


def classification(**fields: Any) -> dict[str, Any]:
    return {"type": "Classification", "classification": {"labels": list(LABELS), **fields}}


def write_labeled(path: Path, rows: int) -> Path:
    """Messages that end with the name of their queue, which is the label: what a few steps can learn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    documents = [
        {"text": f"Message: {message} Queue: {queue}", "label": queue} for message, queue in tiny.messages()[:rows]
    ]
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def write_preferences(path: Path, rows: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    queues = list(tiny.QUEUES)
    documents = [
        {
            "prompt": f"Message: {message} Queue:",
            "chosen": f" {queue}",
            "rejected": f" {queues[(queues.index(queue) + 1 + number % 3) % 4]}",
        }
        for number, (message, queue) in enumerate(tiny.messages()[:rows])
    ]
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def write_manners(path: Path, rows: int) -> Path:
    """The same queue, kindly or not: what is preferred has nothing to do with the message."""
    documents = [
        {"prompt": f"Message: {message} Queue:", "chosen": f" {queue}, thanks", "rejected": f" {queue}, now!"}
        for message, queue in tiny.messages()[:rows]
    ]
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def write_ratings(path: Path, rows: int) -> Path:
    """One answer a message, good where it is kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    documents = [
        {
            "prompt": f"Message: {message} Queue:",
            "completion": f" {queue}, thanks" if number % 2 else f" {queue}, now!",
            "label": bool(number % 2),
        }
        for number, (message, queue) in enumerate(tiny.messages()[:rows])
    ]
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def write_texts(path: Path, rows: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [
        f"Message: {message} Queue: {queue}" * (1 + number % 3)
        for number, (message, queue) in enumerate(tiny.messages()[:rows])
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path
