"""Both kinds of store for the contract suite, a real S3 server, and a proxy that misbehaves on demand."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from finetune_artifacts import Store, StoreOptions, Unreachable, open_store

IMPATIENT = StoreOptions(
    connect_s=1, answer_s=2, control_budget_s=2, stall_s=2, transfer_budget_s=2, transfer_retries=3, backoff_s=0.01
)
SECRET = "sekret-key-1234567"


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def versitygw() -> str | None:
    cache = Path(os.environ.get("FINETUNE_CACHE", Path.home() / ".cache/finetune-operator"))
    built = sorted(cache.glob("tools/versitygw@*/versitygw"))
    return str(built[-1]) if built else shutil.which("versitygw")


@dataclass
class S3Server:
    """versitygw on a loopback port; its objects are files below `root`."""

    root: Path
    port: int
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def credentials(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "AKtest",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        } | self.extra


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    binary = versitygw()
    if binary is None:
        pytest.skip("no S3 server: versitygw is neither in the tool cache ($FINETUNE_CACHE) nor on PATH")
    root = tmp_path_factory.mktemp("s3")
    (root / "data" / "bucket").mkdir(parents=True)
    server = S3Server(root / "data", free_port())
    environment = {"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": "AKtest", "ROOT_SECRET_KEY": SECRET}
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "--port", f"127.0.0.1:{server.port}", "posix", str(server.root)],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        store = open_store("s3://bucket", credentials=server.credentials, options=IMPATIENT)

        def answers() -> bool:
            assert process.poll() is None, (root / "log").read_text()
            with suppress(Unreachable):
                store.exists()
                return True
            return False

        eventually(answers)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def s3_uri(request: pytest.FixtureRequest) -> str:
    return f"s3://bucket/{abs(hash(request.node.nodeid))}"


@pytest.fixture
def file_store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store", options=IMPATIENT)


@pytest.fixture
def s3_store(s3: S3Server, s3_uri: str) -> Store:
    return open_store(s3_uri, credentials=s3.credentials, options=IMPATIENT)


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.programs)])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


class FaultyProxy:
    """Forwards TCP to the S3 server. `cut_after`: close once so many answer bytes have passed (once);
    `drop_answers`: so many answers are swallowed after the server has acted; `hold_after`: pass no more than that."""

    def __init__(self, target: int) -> None:
        self.cut_after: int | None = None
        self.hold_after: int | None = None
        self.drop_answers = 0
        self.down = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._release = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            self._open += [client, server]
            for source, sink, answers in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers:
                    if self.drop_answers > 0:
                        self.drop_answers -= 1
                        break
                    self.down += len(data)
                    if self.hold_after is not None and self.down > self.hold_after:
                        self._release.wait(60)
                        break
                    if self.cut_after is not None and self.down > self.cut_after:
                        self.cut_after = None
                        break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._release.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            end.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(s3.port)
    yield proxy
    proxy.close()


@pytest.fixture
def proxied(s3: S3Server, proxy: FaultyProxy, s3_uri: str) -> Store:
    """The same objects as `s3_store`, through the proxy."""
    credentials = s3.credentials | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
    return open_store(s3_uri, credentials=credentials, options=IMPATIENT)


Answering = Callable[[int, str], Store]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Makes a store whose server gives one fixed answer to everything."""
    servers: list[ThreadingHTTPServer] = []

    def make(status: int, body: str) -> Store:
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                content = b"" if self.command == "HEAD" else body.encode()
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        credentials = {
            "AWS_ACCESS_KEY_ID": "AKtest",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
        }
        return open_store("s3://bucket/prefix", credentials=credentials, options=IMPATIENT)

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()
