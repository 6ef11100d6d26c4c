"""One JSON object per line on stdout, and no secret in it.

Logs are read by machines first. Fields that a call passes as `extra` stand beside the message; anything that looks like
a credential is blotted out wherever it stands, because one careless message is enough.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from finetune_operator.core.names import KIND_DEPLOYMENT, KIND_JOB
from finetune_operator.kube.keys import Key

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_SECRETS = (
    re.compile(r"(?i)(bearer\s+)[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(
        r"""(?ix)( [\w-]* (?:token|password|passwd|secret[_-]?(?:access[_-]?)?key|api[_-]?key|authorization)
        ["']? \s* [:=] \s* ["']? ) (?!bearer) [^\s"',;}]{4,}"""
    ),
    re.compile(r"()\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+"),
    re.compile(r"(://[^/\s:@]+:)[^/\s@]+(?=@)"),
)

_FIELD = {KIND_JOB: "job", KIND_DEPLOYMENT: "deployment"}


def redact(text: str) -> str:
    for pattern in _SECRETS:
        text = pattern.sub(r"\1[redacted]", text)
    return text


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": redact(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_") and isinstance(value, (str, int, float, bool)):
                line[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def setup(level: str, stream: TextIO | None = None) -> None:
    """All logging of the process; Kopf's line per event is left out."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    for noisy in ("asyncio", "aiohttp.access", "kopf"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def key_fields(key: Key, **more: Any) -> dict[str, Any]:
    """`extra` of a log call about one FineTuneJob or ModelDeployment."""
    return {"namespace": key.namespace, _FIELD[key.kind]: key.name, **more}
