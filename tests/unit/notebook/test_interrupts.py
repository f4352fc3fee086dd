from __future__ import annotations

import signal
import threading
import time

import pytest

from titan_nb.notebook.interrupts import Shield, interrupt_soon


def test_an_interrupt_is_noted_and_not_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Shield() as shield:
        signal.raise_signal(signal.SIGINT)
        done = True
    assert done
    assert shield.caught
    assert signal.getsignal(signal.SIGINT) is before


def test_without_an_interrupt_nothing_is_caught() -> None:
    with Shield() as shield:
        pass
    assert not shield.caught


def test_the_handler_comes_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError), Shield():
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is before


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Shield() as shield:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
        assert not shield.caught
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Shield() as shield:
            seen.append(signal.getsignal(signal.SIGINT))
        seen.append(shield.caught)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, False]


def test_an_interrupt_is_handed_on_a_moment_later() -> None:
    def submit(job: object) -> None:
        threading.Thread(target=job).start()  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        interrupt_soon(submit)
        for _ in range(1000):
            time.sleep(0.01)
