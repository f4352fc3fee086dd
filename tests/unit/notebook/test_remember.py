"""`--chat ID` and `%titan remember` in a shell, with a chat memory of the test's own."""

from __future__ import annotations

import _thread
import time

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.unit.notebook.shells import run, shown
from titan_nb.chat import ChatMemory, Policy, set_default
from titan_nb.records import Report

pytestmark = pytest.mark.usefixtures("memory")


@pytest.fixture
def titan(titan: InteractiveShell) -> InteractiveShell:
    titan.user_ns.update(torch=torch, np=np, pd=pd)
    return titan


def last() -> Report:
    return titan_nb.ledger().reports[-1]


def error_of(shell: InteractiveShell, cell: str) -> str:
    """Run a cell that a `UsageError` ends; return what it says."""
    error = shell.run_cell(cell, store_history=True).error_in_exec
    assert type(error).__name__ == "UsageError", error
    assert "\n" not in str(error)
    return str(error)


@pytest.mark.parametrize("code", ["torch.eye(3, 4)", "np.eye(3, 4)", "torch.eye(3, 4, requires_grad=True)"])
def test_a_table_is_stored_with_the_cell_as_metadata(
    titan: InteractiveShell, memory: ChatMemory, code: str
) -> None:
    prompt = titan.execution_count
    run(titan, f"%%titan -q --chat demo\n{code}")
    assert last().chat == "stored 3 rows under 'demo'"
    hits = memory.search([1.0, 0.0, 0.0, 0.0], k=1, chat_id="demo")
    assert hits[0].metadata == {"cell": prompt}
    assert hits[0].text is None


@pytest.mark.parametrize("code", ["torch.ones(1, 2)", "torch.ones(2)", "'a text'", "['a text']"])
def test_one_row_is_a_row(titan: InteractiveShell, code: str) -> None:
    run(titan, f"%%titan -q --chat demo\n{code}")
    assert last().chat == "stored 1 row under 'demo'"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("", "['a', 'bcd']"),
        ("", "pd.Series(['a', 'bcd'])"),
        ("", "pd.DataFrame({'x': ['a', 'bcd']})"),
        ("--column x", "pd.DataFrame({'x': ['a', 'bcd'], 'y': ['e', 'f']})"),
        ("--column 'the x'", "pd.DataFrame({'the x': ['a', 'bcd'], 'y': [1, 2]})"),
    ],
)
def test_texts_are_stored_through_the_encoder_and_kept(
    titan: InteractiveShell, memory: ChatMemory, options: str, code: str
) -> None:
    run(titan, f"%%titan -q --chat demo {options}\n{code}")
    assert last().chat == "stored 2 rows under 'demo'"
    assert {item.text for item in memory.list("demo")} == {"a", "bcd"}


def test_a_column_of_vectors_is_a_table(titan: InteractiveShell, memory: ChatMemory) -> None:
    run(
        titan,
        "%%titan -q --chat demo --column v\npd.DataFrame({'v': [[1.0, 0.0], [0.0, 2.0]], 't': ['a', 'b']})",
    )
    assert [item.text for item in memory.list("demo")] == [None, None]
    assert memory.search([0.0, 1.0], k=1)[0].score == 1.0


def test_a_column_is_for_the_cell_that_names_it(titan: InteractiveShell, memory: ChatMemory) -> None:
    run(titan, "%titan on")
    run(titan, "%%titan -q --chat demo --column x\npd.DataFrame({'x': ['a'], 'y': ['b']})")
    run(titan, "%%titan -q --chat demo\npd.DataFrame({'x': ['a'], 'y': ['b']})")
    assert len(memory) == 1
    assert "--column NAME: texts are in 'x', 'y'" in str(last().chat)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("None", "no last value"),
        ("x = 1", "no last value"),
        ("torch.eye(2);", "semicolon"),
        ("42", "type int"),
        ("[]", "type list, and empty"),
        ("[1, 2]", "type list, of int"),
        ("['a', 1]", "row 1 among texts is of type int: pass only texts"),
        ("['a', None]", "row 1 has no text (None): leave such rows out"),
        ("pd.DataFrame({'x': ['a', float('nan')]})", "row 1 has no text (nan): leave such rows out"),
        ("pd.Series([1.0, 2.0])", "the Series holds single numbers"),
        ("torch.ones(2, 2, 2)", "type Tensor with 3 dimensions"),
        ("torch.ones(0, 3)", "no rows"),
        ("['1 2 3']", "no words that the encoder knows"),
        ("torch.zeros(2, 3)", "row 0"),
        ("torch.ones(2, 3).long()", "int"),
        ("pd.DataFrame({'x': ['a'], 'y': ['b']})", "texts are in 'x', 'y'"),
        ("1 / 0", "did not finish"),
    ],
)
def test_anything_else_is_one_clear_line_and_stores_nothing(
    titan: InteractiveShell, memory: ChatMemory, code: str, why: str
) -> None:
    titan.run_cell(f"%%titan -q --chat demo\n{code}", store_history=True)
    said = last().chat
    assert said is not None
    assert said.startswith("nothing stored under 'demo': ")
    assert why in said
    assert len(memory) == 0


def test_the_line_under_the_cell_says_so(titan: InteractiveShell) -> None:
    displays = shown(titan, "%%titan --chat demo\ntorch.eye(2)")
    assert "stored 2 rows under 'demo'" in displays[-1].data["text/plain"]


def test_a_policy_that_leaves_rows_out_is_said(titan: InteractiveShell) -> None:
    mine = ChatMemory(policy=Policy(deduplicate=0.99))
    set_default(mine)
    run(titan, "%%titan -q --chat demo\ntorch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])")
    assert last().chat == "stored 2 of 3 rows under 'demo', as the policy decided"


def test_a_memory_that_fails_does_not_fail_the_cell(
    titan: InteractiveShell,
    memory: ChatMemory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(memory, "add", broken)
    for _ in range(3):
        run(titan, "%%titan -q --chat demo -o r\ntorch.eye(2)")
    assert titan.user_ns["r"].outcome == "ok"
    assert "OSError" in str(last().chat)
    warned = capsys.readouterr().err
    assert warned.count("titan:") == 1, "one warning per kind"
    assert "disk on fire" in warned


def test_the_users_encoder_may_be_interrupted(titan: InteractiveShell, memory: ChatMemory) -> None:
    def slow(texts: list[str]) -> None:
        _thread.interrupt_main()
        for _ in range(1000):
            time.sleep(0.01)

    memory.encoder = slow
    begin = time.monotonic()
    run(titan, "%%titan -q --chat demo\n['a text']")
    assert time.monotonic() - begin < 5
    assert "interrupted" in str(last().chat)


def test_a_text_is_remembered_with_its_cell(
    titan: InteractiveShell, memory: ChatMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = titan.execution_count
    run(titan, '%titan remember "the learning rate of 3e-4 diverges"')
    run(titan, "%titan remember 'another one' --chat ideas")
    assert capsys.readouterr().out == "stored 1 row under 'notes'\nstored 1 row under 'ideas'\n"
    first, second = memory.list()
    assert (first.chat_id, first.text) == ("notes", "the learning rate of 3e-4 diverges")
    assert (first.metadata, second.metadata) == ({"cell": prompt}, {"cell": prompt + 1})


def test_a_cell_without_a_number_is_not_named(titan: InteractiveShell, memory: ChatMemory) -> None:
    run(titan, "x = 1")
    titan.run_cell('%titan remember "said in passing"', store_history=False).raise_error()
    assert [item.metadata for item in memory.list()] == [None]


@pytest.mark.parametrize(
    ("value", "count"),
    [("a text", 1), (["a", "b"], 2), (torch.eye(3), 3), (np.ones(4), 1), (pd.Series(["a", "b"]), 2)],
    ids=["text", "texts", "tensor", "vector", "column"],
)
def test_what_a_variable_holds_is_remembered(
    titan: InteractiveShell, memory: ChatMemory, value: object, count: int
) -> None:
    titan.user_ns["thing"] = value
    run(titan, "%titan remember thing --chat things")
    assert len(memory) == count


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%titan remember", "say what to remember: %titan remember"),
        ("%titan remember nobody", "there is no variable nobody; put a text in quotes"),
        ("%titan remember two words", "takes no 'words'; put a text in quotes"),
        ("%titan remember number", "number is of type int; what can be stored"),
        ("%titan remember frame", "--column NAME: texts are in 'x', 'y'"),
        ("%titan remember frame --column z", "no column 'z'"),
        ("%titan remember '1 2 3'", "no words that the encoder knows"),
        ("%titan remember zeros", "row 0"),
        ("%titan remember 'text' --chat ''", "chat"),
        ("%titan remember 'text' -k 3", "takes no -k"),
        ("%titan remember 'text' --where a=1", "takes no --where"),
        ("%%titan --column x\nframe", "give --chat ID as well"),
    ],
)
def test_what_cannot_be_remembered_is_one_line(
    titan: InteractiveShell, memory: ChatMemory, line: str, message: str
) -> None:
    titan.user_ns.update(number=42, frame=pd.DataFrame({"x": ["a"], "y": ["b"]}), zeros=torch.zeros(1, 2))
    assert message in error_of(titan, line)
    assert len(memory) == 0


def test_cells_go_by_their_number_in_the_session_where_figures_are_simulated(
    titan: InteractiveShell, memory: ChatMemory
) -> None:
    run(titan, "%config TitanMagics.display = 'simulated'")
    for history in (True, False):
        titan.run_cell("%titan remember 'a text'", store_history=history).raise_error()
        titan.run_cell("%%titan -q --chat notes\n'a text'", store_history=history).raise_error()
    assert [item.metadata for item in memory.list()] == [{"cell": number} for number in (2, 3, 4, 5)]
