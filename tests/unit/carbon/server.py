"""A real HTTP server on 127.0.0.1 that answers as a test tells it to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Server", "serving"]


class Server:
    """What the server answers, and what it was asked.

    Attributes:
        body: The text of the answer.
        status: Its HTTP status.
        headers: Further headers of it.
        pause: Seconds to wait before every byte.
        paths: The paths that were asked for.
        keys: The ``auth-token`` of each request.
    """

    def __init__(self) -> None:
        self.base = ""
        self.body = b""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.pause = 0.0
        self.paths: list[str] = []
        self.keys: list[str | None] = []


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.paths.append(self.path)
            server.keys.append(self.headers.get("auth-token"))
            self.send_response(server.status)
            for name, value in server.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                if not server.pause:
                    self.wfile.write(server.body)
                for byte in server.body if server.pause else b"":
                    time.sleep(server.pause)
                    self.wfile.write(bytes([byte]))
            except OSError:
                return  # the client has gone, as it should

        def log_message(self, *args: object) -> None:
            return

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.base = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
