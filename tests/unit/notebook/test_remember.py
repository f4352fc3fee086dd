"""`--chat`, `%titan chat` and `%titan recall` in a shell, with a chat memory of the test's own."""

from __future__ import annotations

import _thread
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.unit.notebook.shells import run, shown
from titan_nb import chat
from titan_nb.chat import ChatMemory
from titan_nb.records import Report


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatMemory]:
    """The memory that the magics use in this test."""
    mine = ChatMemory()
    monkeypatch.setattr(chat, "default", lambda: mine)
    return mine


def last() -> Report:
    return titan_nb.ledger().reports[-1]


@pytest.mark.parametrize("code", ["torch.eye(3, 4)", "np.eye(3, 4)", "torch.eye(3, 4, requires_grad=True)"])
def test_a_table_is_stored_with_the_cell_as_metadata(
    titan: InteractiveShell, memory: ChatMemory, code: str
) -> None:
    titan.user_ns.update(torch=torch, np=np)
    prompt = titan.execution_count
    run(titan, f"%%titan -q --chat demo\n{code}")
    assert last().chat == "stored 3 rows under 'demo'"
    hits = memory.search([1.0, 0.0, 0.0, 0.0], k=1, chat_id="demo")
    assert hits[0].metadata == {"cell": prompt}


def test_one_row_is_a_row(titan: InteractiveShell) -> None:
    titan.user_ns["torch"] = torch
    run(titan, "%%titan -q --chat demo\ntorch.ones(1, 2)")
    assert last().chat == "stored 1 row under 'demo'"


def test_texts_are_stored_through_the_encoder(titan: InteractiveShell, memory: ChatMemory) -> None:
    memory.encoder = lambda texts: np.array([[len(text), 1.0] for text in texts])
    run(titan, "%%titan -q --chat demo\n['a', 'bcd']")
    assert last().chat == "stored 2 rows under 'demo'"
    assert {hit.text for hit in memory.search("xyz", k=2)} == {"a", "bcd"}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("None", "no last value"),
        ("x = 1", "no last value"),
        ("torch.eye(2);", "semicolon"),
        ("42", "type int"),
        ("'text'", "type str"),
        ("[]", "type list"),
        ("['a', 1]", "type list"),
        ("torch.ones(3)", "type Tensor with 1 dimension"),
        ("torch.ones(2, 2, 2)", "type Tensor with 3 dimensions"),
        ("torch.ones(0, 3)", "no rows"),
        ("['no encoder']", "encoder"),
        ("torch.zeros(2, 3)", "row 0"),
        ("torch.ones(2, 3).long()", "int"),
        ("1 / 0", "did not finish"),
    ],
)
def test_anything_else_is_one_clear_line_and_stores_nothing(
    titan: InteractiveShell, memory: ChatMemory, code: str, why: str
) -> None:
    titan.user_ns["torch"] = torch
    titan.run_cell(f"%%titan -q --chat demo\n{code}", store_history=True)
    said = last().chat
    assert said is not None
    assert said.startswith("nothing stored under 'demo': ")
    assert why in " ".join([said, *last().notes])
    assert len(memory) == 0


def test_the_line_under_the_cell_says_so(titan: InteractiveShell) -> None:
    titan.user_ns["torch"] = torch
    displays = shown(titan, "%%titan --chat demo\ntorch.eye(2)")
    assert "stored 2 rows under 'demo'" in displays[-1].data["text/plain"]


def test_a_memory_that_fails_does_not_fail_the_cell(
    titan: InteractiveShell,
    memory: ChatMemory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(memory, "add", broken)
    titan.user_ns["torch"] = torch
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

    memory.encoder = slow  # type: ignore[assignment]
    begin = time.monotonic()
    run(titan, "%%titan -q --chat demo\n['a text']")
    assert time.monotonic() - begin < 5
    assert "interrupted" in str(last().chat)


def test_chats_are_listed_and_recalled_by_name_and_by_text(
    titan: InteractiveShell, memory: ChatMemory
) -> None:
    memory.add("a", torch.eye(2), texts=["x" * 200, "second"], metadata={"page": 3})
    memory.add("b", torch.tensor([[1.0, 1.0]]))
    (listing,) = shown(titan, "%titan chat")
    assert "a" in listing.data["text/plain"]
    titan.user_ns["query"] = torch.tensor([0.0, 1.0])
    (found,) = shown(titan, "%titan recall query -k 1")
    assert "second" in found.data["text/plain"]
    assert "page 3" in found.data["text/plain"]
    (found,) = shown(titan, "%titan recall query --chat a")
    assert "x" * 91 not in found.data["text/plain"], "a long text is shown by its beginning"
    run(titan, "%titan recall query -o hits")
    assert [hit.chat_id for hit in titan.user_ns["hits"]] == ["a", "b", "a"]
    memory.encoder = lambda texts: np.array([[0.0, 1.0]])
    run(titan, "%titan recall 'a text with spaces' -k 1 -o hits")
    assert titan.user_ns["hits"][0].text == "second"
    titan.user_ns["word"] = "the text in a variable"
    run(titan, "%titan recall word -k 1 -o hits")
    assert titan.user_ns["hits"][0].text == "second"


def test_a_quoted_name_is_a_text_and_an_unknown_chat_is_named(
    titan: InteractiveShell, memory: ChatMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.add("a", torch.eye(2))
    heard: list[str] = []
    memory.encoder = lambda texts: heard.extend(texts) or np.array([[1.0, 0.0]])
    titan.user_ns["word"] = torch.tensor([0.0, 1.0])
    run(titan, "%titan recall 'word' -o hits")
    assert heard == ["word"]
    run(titan, "%titan recall exit -o hits")
    assert heard == ["word", "exit"]
    titan.run_cell("%titan recall word --chat nope")
    captured = capsys.readouterr()
    assert "no chat 'nope'; there are: 'a'" in captured.out + captured.err


def test_recalling_what_cannot_be_recalled_is_one_line(
    titan: InteractiveShell, memory: ChatMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.add("a", torch.eye(2))
    result = titan.run_cell("%titan recall 'no encoder here'")
    assert type(result.error_in_exec).__name__ == "UsageError"
    captured = capsys.readouterr()
    assert "encoder" in captured.out + captured.err
