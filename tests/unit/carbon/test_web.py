from __future__ import annotations

import socket
import time

import pytest

from tests.unit.carbon.server import Server
from titan_nb.carbon.web import NoAnswer, get_json


def test_json_is_read(server: Server) -> None:
    server.body = b'{"a": [1, null]}'
    assert get_json(f"{server.base}/x?y=1", {"auth-token": "k"}) == {"a": [1, None]}
    assert (server.paths, server.keys) == (["/x?y=1"], ["k"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>Log in to the hotel's network</html>", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b'{"a": ', "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b" " * (1 << 21), "too long"),
    ],
    ids=["html", "empty", "bytes", "cut off", "deep", "long"],
)
def test_what_is_no_json_is_said(server: Server, body: bytes, reason: str) -> None:
    server.body = body
    with pytest.raises(NoAnswer, match=reason):
        get_json(server.base, {})


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (500, "HTTP 500"),
        (404, "HTTP 404"),
        (429, "HTTP 429"),
        (401, "refused the key"),
        (403, "refused the key"),
    ],
)
def test_an_error_status_is_said(server: Server, status: int, reason: str) -> None:
    server.status, server.body = status, b'{"carbonIntensity": 1}'
    with pytest.raises(NoAnswer, match=reason):
        get_json(server.base, {})


def test_no_redirect_is_followed_with_the_key(server: Server) -> None:
    server.status, server.headers = 302, {"Location": f"{server.base}/elsewhere"}
    with pytest.raises(NoAnswer, match="HTTP 302"):
        get_json(f"{server.base}/here", {"auth-token": "k"})
    assert server.paths == ["/here"]


def test_a_silent_server_is_left_after_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.2 s"):
            get_json(f"http://127.0.0.1:{silent.getsockname()[1]}", {}, timeout=0.2)
        assert time.monotonic() - started < 5


def test_a_server_that_drips_is_left_after_the_time_out(server: Server) -> None:
    server.body, server.pause = b" " * 100, 0.05
    with pytest.raises(NoAnswer, match=r"did not answer within 0\.3 s"):
        get_json(server.base, {}, timeout=0.3)


def test_a_server_that_hangs_up_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        rude.settimeout(5)
        port = rude.getsockname()[1]
        import threading

        def hang_up() -> None:
            connection, _ = rude.accept()
            connection.recv(1000)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(NoAnswer, match="the connection broke"):
            get_json(f"http://127.0.0.1:{port}", {}, timeout=5)
        thread.join()


def test_a_server_that_is_not_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(NoAnswer, match="cannot be reached"):
        get_json(f"http://127.0.0.1:{port}", {})


def test_a_connection_that_times_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", never)
    with pytest.raises(NoAnswer, match="did not answer within 10 s"):
        get_json("http://127.0.0.1:9", {})


@pytest.mark.parametrize("key", ["secret\nX-Other: 1", "sécret\u2603"])
def test_a_key_that_cannot_be_sent_is_not_shown(server: Server, key: str) -> None:
    with pytest.raises(NoAnswer, match="look at the key") as caught:
        get_json(server.base, {"auth-token": key})
    assert "cret" not in str(caught.value)
    assert caught.value.__suppress_context__
