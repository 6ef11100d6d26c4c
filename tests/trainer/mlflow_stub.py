"""The few endpoints of MLflow's REST interface that a tracker uses, on loopback, with what was sent to them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Stub:
    def __init__(self) -> None:
        self.experiments: list[str] = []
        self.runs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.params: dict[str, str] = {}
        self.authorizations: set[str | None] = set()
        self.refusals = 0
        """So many batches are answered with an error first."""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match method, path.removeprefix("/api/2.0/mlflow/"):
            case "GET", "experiments/get-by-name":
                name = body["experiment_name"][0]
                if name not in self.experiments:
                    return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}
                number = str(self.experiments.index(name))
                return 200, {"experiment": {"experiment_id": number, "name": name, "lifecycle_stage": "active"}}
            case "POST", "experiments/create":
                self.experiments.append(body["name"])
                return 200, {"experiment_id": str(len(self.experiments) - 1)}
            case "POST", "runs/search":
                wanted = body["filter"].partition(" = ")[2].strip("'")
                return 200, {"runs": [r for r in self.runs if wanted in [t["value"] for t in r["data"]["tags"]]]}
            case "POST", "runs/create":
                number = f"run{len(self.runs)}"
                info = {"run_id": number, "run_uuid": number, "experiment_id": "0", "status": "RUNNING"}
                self.runs.append({"info": info, "data": {"tags": body["tags"]}})
                return 200, {"run": self.runs[-1]}
            case "POST", "runs/update":
                run = next(r for r in self.runs if r["info"]["run_id"] == body["run_id"])
                run["info"]["status"] = body.get("status", run["info"]["status"])
                return 200, {"run_info": run["info"]}
            case "GET", "runs/get":
                return 200, {"run": next(r for r in self.runs if [r["info"]["run_id"]] == body["run_id"])}
            case "POST", "runs/set-tag":
                return 200, {}
            case "POST", "runs/log-batch":
                if body.get("metrics") and self.refusals:
                    self.refusals -= 1
                    return 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "not now"}
                self.metrics += body.get("metrics", [])
                self.params |= {p["key"]: p["value"] for p in body.get("params", [])}
                return 200, {}
        return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"{method} {path}"}


@contextmanager
def serving(stub: Stub) -> Iterator[str]:
    """Its address."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else dict(parse_qs(parts.query))
            stub.authorizations.add(self.headers.get("Authorization"))
            status, document = stub.answer(self.command, parts.path, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
