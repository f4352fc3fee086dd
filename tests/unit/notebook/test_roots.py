"""The names of a shell, without IPython's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from titan_nb.memory.owners import Root
from titan_nb.notebook.roots import roots_of


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("last_exc", "last_value", "last_traceback"):
        monkeypatch.delattr(sys, name, raising=False)
    shell = InteractiveShell(user_ns={})
    shell.history_manager.enabled = False
    yield shell
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        if hasattr(sys, name):
            delattr(sys, name)


def _named(shell: Any) -> dict[str, Root]:
    found: dict[str, Root] = {}
    for root in roots_of(shell):
        found.setdefault(root.name, root)
    return found


def test_a_new_shell_has_no_names_of_the_users(shell: Any) -> None:
    assert [root.name for root in roots_of(shell) if root.kind == "variable"] == []
    shell.run_cell("x = 1; _mine = 2; exit = 3")
    assert [root.name for root in roots_of(shell) if root.kind == "variable"] == ["exit", "x", "_mine"] or {
        root.name for root in roots_of(shell) if root.kind == "variable"
    } == {"exit", "x", "_mine"}


def test_each_slot_of_an_output_belongs_to_it(shell: Any) -> None:
    shell.run_cell("object()", store_history=True)
    value = shell.user_ns["Out"][1]
    slots = [root for root in roots_of(shell) if root.value is value]
    assert {root.owner for root in slots} == {"Out[1]"}
    assert {root.name for root in slots} >= {"Out[1]", "_", "_1", "last result"}
    assert {root.kind for root in slots} == {"Out"}
    shell.user_ns["Out"].clear()
    slots = [root for root in roots_of(shell) if root.value is value]
    assert {root.owner for root in slots} == {"Out[1]"}


def test_an_error_is_named_by_its_cell(shell: Any) -> None:
    shell.run_cell("def f():\n    mine = 5\n    raise ValueError", store_history=True)
    shell.run_cell("f()", store_history=True)
    failures = [root for root in roots_of(shell) if root.kind == "failed cell"]
    assert {root.name for root in failures} == {"failed cell 2"}
    assert any(type(root.value) is ValueError for root in failures)
    # One more good cell changes nothing, as long as something keeps the error.
    shell.run_cell("1", store_history=True)
    assert {root.name for root in roots_of(shell) if root.kind == "failed cell"} == {"failed cell 2"}


def test_an_error_from_elsewhere_has_no_number(shell: Any) -> None:
    sys.last_value = KeyError("from elsewhere")
    assert _named(shell)["failed cell"].value is sys.last_value


def test_a_shell_without_outputs_or_results_is_no_fault(shell: Any) -> None:
    del shell.user_ns["_oh"]
    shell.last_execution_result = None
    shell.InteractiveTB.tb = None
    shell.user_ns["x"] = 1
    assert "x" in _named(shell)
