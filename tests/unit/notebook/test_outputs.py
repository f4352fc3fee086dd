"""Every place where IPython keeps an output, and that what the user has assigned stays his."""

from __future__ import annotations

import weakref

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.unit.notebook.shells import run
from titan_nb.notebook.outputs import forget_outputs

DEFINE = "class Big:\n    pass\n"


@pytest.fixture
def outputs(shell: InteractiveShell) -> list[weakref.ref[object]]:
    """Six outputs, the last three of which IPython hides best, and one that was shown twice."""
    run(shell, DEFINE)
    run(shell, "big = Big()\nbig")
    for _ in range(4):
        run(shell, "Big()")
    run(shell, "_2")
    return [weakref.ref(shell.user_ns["Out"][number]) for number in range(2, 8)]


def test_all_outputs(shell: InteractiveShell, outputs: list[weakref.ref[object]]) -> None:
    del shell.user_ns["big"]
    assert all(one() is not None for one in outputs)
    forget_outputs(shell, lambda value: True)
    assert [one() for one in outputs] == [None] * 6
    run(shell, "'next'")
    assert shell.user_ns["_"] == shell.user_ns["Out"][8] == shell.user_ns["_8"] == "next"
    assert shell.user_ns["__"] == ""


def test_after_ipythons_own_reset(shell: InteractiveShell, outputs: list[weakref.ref[object]]) -> None:
    del shell.user_ns["big"]
    run(shell, "%reset -f out")
    forget_outputs(shell, lambda value: True)
    assert [one() for one in outputs] == [None] * 6


def test_only_the_chosen_ones(shell: InteractiveShell, outputs: list[weakref.ref[object]]) -> None:
    chosen = [shell.user_ns.pop("big")]
    forget_outputs(shell, lambda value: value is chosen[0])
    chosen.clear()
    assert outputs[0]() is None
    assert outputs[5]() is None
    assert sorted(shell.user_ns["Out"]) == [3, 4, 5, 6]
    assert shell.user_ns["_4"] is outputs[2]()
    assert shell.user_ns["__"] is outputs[4]()


def test_an_underscore_of_the_users_own_stays(
    shell: InteractiveShell, outputs: list[weakref.ref[object]]
) -> None:
    run(shell, "_ = 'mine'\n_3 = 'mine as well'\nOut = 'also mine'\nIn_use = big")
    forget_outputs(shell, lambda value: True)
    assert shell.user_ns["_"] == "mine"
    assert shell.user_ns["_3"] == "mine as well"
    assert shell.user_ns["Out"] == "also mine"
    assert shell.user_ns["In_use"] is outputs[0]()
    assert [one() for one in outputs[1:5]] == [None] * 4


def test_without_any_output(shell: InteractiveShell) -> None:
    before = set(shell.user_ns)
    forget_outputs(shell, lambda value: True)
    assert set(shell.user_ns) == before
