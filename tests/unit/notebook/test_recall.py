"""`%titan recall` in a shell, with a chat memory of the test's own."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from tests.unit.notebook.shells import run, shown
from tests.unit.notebook.test_remember import error_of
from titan_nb.chat import ChatMemory, Hits
from titan_nb.views.grid import TABLE_MIME

pytestmark = pytest.mark.usefixtures("memory")


def table(shell: InteractiveShell, line: str) -> tuple[list[str], list[list[str]], str]:
    """Return the titles, the rows and the plain text of the table that a line shows."""
    (display,) = shown(shell, line)
    data = display.data[TABLE_MIME]
    assert display.data["text/html"].startswith("<div")
    return list(data["columns"]), [list(row) for row in data["rows"]], display.data["text/plain"]


def test_texts_are_found_by_a_question(titan: InteractiveShell, memory: ChatMemory) -> None:
    prompt = titan.execution_count
    run(titan, "%titan remember 'bananas and a banana'")
    run(titan, "%titan remember 'xylophone'")
    titles, rows, text = table(titan, "%titan recall 'banana'")
    assert titles == ["score", "text", "when (UTC)", "cell"]
    assert [(row[1], row[3]) for row in rows] == [
        ("bananas and a banana", str(prompt)),
        ("xylophone", str(prompt + 1)),
    ]
    assert float(rows[0][0]) > float(rows[1][0])
    assert rows[0][2] == datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M") or rows[0][2] < "9"
    assert text.startswith("Nearest to 'banana' in 'notes'\n")


def test_several_chats_and_further_metadata_have_columns(titan: InteractiveShell, memory: ChatMemory) -> None:
    memory.add("a", torch.eye(2), texts=["x" * 200, "second"], metadata={"page": 3, "cell": 7})
    memory.add("b", torch.tensor([[1.0, 1.0]]))
    titan.user_ns["query"] = torch.tensor([0.0, 1.0])
    titles, rows, _ = table(titan, "%titan recall query")
    assert titles == ["score", "text", "when (UTC)", "cell", "chat", "metadata"]
    assert [(row[1], row[3], row[4], row[5]) for row in rows] == [
        ("second", "7", "a", "page 3"),
        ("(no text, id 2)", "", "b", ""),
        ("x" * 89 + "…", "7", "a", "page 3"),
    ]
    _, rows, text = table(titan, "%titan recall query -k 1")
    assert len(rows) == 1
    assert "in 'a'" in text
    _, rows, _ = table(titan, "%titan recall query --chat b")
    assert len(rows) == 1


def test_texts_that_begin_with_figures_stay_texts(titan: InteractiveShell, memory: ChatMemory) -> None:
    memory.add("a", torch.eye(2), texts=["3 apples", "4 pears"])
    titan.user_ns["query"] = np.array([1.0, 0.0])
    (display,) = shown(titan, "%titan recall query")
    assert "3 apples</td>" in display.data["text/html"], "no unbreakable spaces"


def test_conditions_choose(titan: InteractiveShell, memory: ChatMemory) -> None:
    for page in range(5):
        memory.add("a", torch.eye(2)[:1], texts=[f"page {page}"], metadata={"page": page, "by": "Ada L"})
    titan.user_ns["query"] = torch.tensor([1.0, 0.0])
    _, rows, _ = table(titan, '%titan recall query --where page>=3 by="Ada L"')
    assert [row[1] for row in rows] == ["page 3", "page 4"]
    _, rows, _ = table(titan, "%titan recall query --where page>=3 --where page!=3")
    assert [row[1] for row in rows] == ["page 4"]
    assert (
        shown(titan, '%titan recall query --where page="3"')[0]
        .data["text/plain"]
        .endswith("nothing to show.")
    )


def test_since_is_counted_from_now_at_every_call(titan: InteractiveShell, memory: ChatMemory) -> None:
    now = datetime.now(timezone.utc).timestamp()
    memory.add("a", torch.eye(2), texts=["new", "old"], times=[now - 60, now - 7200])
    memory.add("a", torch.eye(2)[:1], texts=["ancient"], times=[0])
    titan.user_ns["query"] = torch.tensor([1.0, 1.0])
    for line, expected in (
        ("--since 1h", {"new"}),
        ("--since 3h", {"new", "old"}),
        ("--since 1970-01-02", {"new", "old"}),
        ("", {"new", "old", "ancient"}),
    ):
        assert {row[1] for row in table(titan, f"%titan recall query {line}")[1]} == expected


def test_hits_go_into_a_variable_that_shows_as_a_table(titan: InteractiveShell, memory: ChatMemory) -> None:
    memory.add("a", torch.eye(2), texts=["first", "second"])
    titan.user_ns["query"] = torch.tensor([0.0, 1.0])
    assert shown(titan, "%titan recall query -o hits") == []
    hits = titan.user_ns["hits"]
    assert type(hits) is Hits
    assert hits.certified
    assert list(hits.to_frame()["text"]) == ["second", "first"]
    bundle, _ = titan.display_formatter.format(hits)
    assert "second" in bundle["text/plain"]
    assert "<table" in bundle["text/html"]
    assert "nothing to show" in titan.display_formatter.format(Hits())[0]["text/plain"]


def test_the_fast_way_says_that_it_is_one(titan: InteractiveShell, memory: ChatMemory) -> None:
    memory.add("a", torch.eye(2))
    titan.user_ns["query"] = torch.tensor([0.0, 1.0])
    seen = []
    search = memory.search

    def spied(*args: object, **options: object) -> Hits:
        seen.append(options["mode"])
        hits: Hits = search(*args, **options)  # type: ignore[arg-type]
        hits.certified = options["mode"] == "exact"
        return hits

    memory.search = spied  # type: ignore[method-assign]
    assert "may miss" in table(titan, "%titan recall query --fast")[2]
    assert "may miss" not in table(titan, "%titan recall query")[2]
    assert seen == ["fast", "exact"]


def test_a_quoted_name_is_a_text_and_ipythons_own_names_are_texts(
    titan: InteractiveShell, memory: ChatMemory
) -> None:
    memory.add("a", ["something"])
    heard: list[str] = []

    def encoder(texts: list[str]) -> np.ndarray:
        heard.extend(texts)
        return np.eye(1, 26)

    encoder.identity = "tests.unit.notebook.conftest.letters"  # type: ignore[attr-defined]
    memory.encoder = encoder
    titan.user_ns.update(word=torch.eye(1, 26)[0], text="the text in a variable")
    for line in ("'word'", "exit", "text", "plain", "word"):
        run(titan, f"%titan recall {line} --chat a -o hits")
    assert heard == ["word", "exit", "the text in a variable", "plain"]


def test_the_title_says_what_was_asked(titan: InteractiveShell, memory: ChatMemory) -> None:
    memory.add("a", ["something"])
    titan.user_ns.update(word="some\nthing", vector=torch.eye(26)[0], long="x" * 500)
    for asked, title in (
        ("'word'", "Nearest to 'word' in 'a'"),
        ("word", "Nearest to 'some thing' in 'a'"),
        ("vector", "Nearest to vector in 'a'"),
        ("long", f"Nearest to '{'x' * 59}…' in 'a'"),
    ):
        assert table(titan, f"%titan recall {asked}")[2].splitlines()[0] == title


def test_times_are_fixed_where_figures_are_simulated(titan: InteractiveShell, memory: ChatMemory) -> None:
    run(titan, "%config TitanMagics.display = 'simulated'")
    memory.add("a", ["something"])
    assert table(titan, "%titan recall some")[1][0][2] == "2000-01-01 00:00"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%titan recall", "say what to recall"),
        ("%titan recall where is it", "takes no 'is'; put a text in quotes"),
        ("%titan recall 'x' --chat nope", "no chat 'nope'; there are: 'chat 0', 'chat 1'"),
        ("%titan recall 'x' --chat nope", "and 2 more"),
        ("%titan recall '12'", "no words that the encoder knows"),
        ("%titan recall vector --chat 'chat 0'", "3 numbers"),
        ("%titan recall many", "more than one query: recall one of them, many[0]"),
        ("%titan recall number", "number"),
        ("%titan recall 'x' --where page", "is no condition"),
        ("%titan recall --where a=1 'the question'", "a question goes before --where"),
        ("%titan recall 'x' --since tomorrow", "cannot use 'tomorrow'"),
        ("%titan recall 'x' -k 0", "-k is 0: ask for at least one hit"),
        ("%titan recall 'x' -o 1x", "variable name"),
    ],
)
def test_what_cannot_be_recalled_is_one_line(
    titan: InteractiveShell, memory: ChatMemory, line: str, message: str
) -> None:
    for number in range(10):
        memory.add(f"chat {number}", ["a text"])
    titan.user_ns.update(vector=torch.ones(3), many=torch.ones(2, 26), number=7)
    assert message in error_of(titan, line)
