"""Runs inside the two pods of the acceptance check (check.py passes this file's text to `python3 -c`).

Pod 0 echoes a digest of what it is sent. Pod 1 asks the store for an answer, then sends bytes to pod 0 twice: by its
own name behind the headless Service, and by the name of a Service with a ClusterIP.
"""

import hashlib
import os
import socket
import sys
import time
import urllib.error
import urllib.request

PORT = 5000
PAYLOAD = os.urandom(1 << 20)


def serve() -> None:
    listener = socket.create_server(("", PORT))
    for _ in range(2):
        connection, _ = listener.accept()
        with connection:
            digest = hashlib.sha256()
            while data := connection.recv(65536):
                digest.update(data)
            connection.sendall(digest.digest())


def exchange(host: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection((host, PORT), timeout=5) as connection:
                connection.sendall(PAYLOAD)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(64)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{host}:{PORT} not reached within 60 s: {error}")
            time.sleep(0.2)
    if answer != hashlib.sha256(PAYLOAD).digest():
        sys.exit(f"{host}: sent 1 MiB, got back another digest")
    print(f"exchanged 1 MiB with {host}", flush=True)


def ask_store(endpoint: str) -> None:
    try:
        urllib.request.urlopen(endpoint, timeout=10).close()
    except urllib.error.HTTPError as refusal:
        print(f"the store answers: HTTP {refusal.code}", flush=True)
    except OSError as error:
        sys.exit(f"{endpoint} not reached: {error}")


if os.environ["JOB_COMPLETION_INDEX"] == "0":
    serve()
else:
    ask_store(os.environ["STORE"])
    exchange(os.environ["PEER"])
    exchange(os.environ["SERVICE"])
