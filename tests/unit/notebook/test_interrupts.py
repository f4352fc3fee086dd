from __future__ import annotations

import ast
import signal
import threading

import pytest

from titan_nb.notebook.interrupts import InterruptedCell, Shield


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


def test_a_caught_interrupt_is_delivered_to_its_own_handler_once() -> None:
    with Shield() as shield:
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        shield.deliver()
    shield.deliver()


def test_a_handler_of_the_users_own_is_called_and_need_not_raise() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with Shield() as shield:
            signal.raise_signal(signal.SIGINT)
        assert heard == []
        shield.deliver()
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "cell", ["x = 1\ny = 2\n", "# nothing but a comment\n", "from __future__ import annotations\n"]
)
def test_an_interrupted_cell_raises_before_its_first_statement(cell: str) -> None:
    names: dict[str, object] = {}
    tree = InterruptedCell().visit(ast.parse(cell))
    with pytest.raises(KeyboardInterrupt):
        exec(compile(ast.Module(tree.body[:1], []), "<cell>", "exec"), names)
    assert "x" not in names
