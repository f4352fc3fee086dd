from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.notebook import ctrl_c as module
from titan_nb.notebook.ctrl_c import CtrlC
from titan_nb.notebook.interrupts import Shield

USER: dict[str, Any] = {}
MAIN = threading.main_thread().ident or 0


def made(thread: int = MAIN) -> CtrlC:
    return CtrlC(SimpleNamespace(user_global_ns=USER), thread)


def send_from_elsewhere(one: CtrlC) -> bool:
    sent: list[bool] = []
    thread = threading.Thread(target=lambda: sent.append(one.send()))
    thread.start()
    thread.join()
    return sent[0]


def in_user_code(action: Any) -> Any:
    """Run ``action`` below code of the user's namespace, as a cell does."""
    USER.update(action=action, result=None)
    exec("result = action()", USER)
    return USER["result"]


def test_a_cell_that_runs_the_users_code_is_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt):
        in_user_code(lambda: send_from_elsewhere(made()))


def test_it_is_sent_once() -> None:
    one = made()
    with Shield() as shield:
        assert in_user_code(lambda: send_from_elsewhere(one))
        assert shield.caught
        shield.caught = False
        assert not in_user_code(lambda: send_from_elsewhere(one))
    assert not shield.caught


def test_nothing_is_sent_while_no_user_code_runs() -> None:
    one = made()
    with Shield() as shield:
        assert not send_from_elsewhere(one)
        # The moment was not right; the next one may be.
        assert in_user_code(lambda: send_from_elsewhere(one))
    assert shield.caught


def test_nothing_is_sent_after_the_end() -> None:
    one = made()
    one.close()
    with Shield() as shield:
        assert not in_user_code(lambda: send_from_elsewhere(one))
    assert not shield.caught


def test_a_cell_of_another_thread_cannot_be_interrupted() -> None:
    one = made(thread=MAIN + 1)
    assert not one.possible
    with Shield() as shield:
        assert not in_user_code(lambda: send_from_elsewhere(one))
    assert not shield.caught


def test_a_cell_that_ipykernel_awaits_is_interrupted_though_it_is_not_on_the_stack() -> None:
    seen: list[int] = []

    def handle_sigint(number: int, frame: object) -> None:
        seen.append(number)

    handle_sigint.__module__ = "ipykernel.ipkernel"
    previous = signal.signal(signal.SIGINT, handle_sigint)
    try:
        assert send_from_elsewhere(made())
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, previous)


def test_without_pthread_kill_python_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "signal", SimpleNamespace(SIGINT=signal.SIGINT, getsignal=signal.getsignal))
    with Shield() as shield:
        assert in_user_code(lambda: send_from_elsewhere(made()))
    assert shield.caught
