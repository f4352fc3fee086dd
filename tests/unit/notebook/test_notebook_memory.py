"""`%titan on --remember` in a shell, with a chat memory of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.unit.notebook.conftest import letters
from tests.unit.notebook.shells import run, shown
from tests.unit.notebook.test_recall import table
from titan_nb.chat import ChatMemory
from titan_nb.errors import ResourceError
from titan_nb.notebook import notebook_memory
from titan_nb.notebook.notebook_memory import NotebookMemory

pytestmark = pytest.mark.usefixtures("memory")


def notebook(shell: InteractiveShell) -> NotebookMemory:
    kept: NotebookMemory = shell.magics_manager.registry["TitanMagics"]._session.notebook
    return kept


def texts(shell: InteractiveShell) -> list[str | None]:
    memory = titan_nb.chat_memory()
    assert notebook(shell).taken_in(memory) == []
    return [item.text for item in memory.list("notebook")]


@pytest.fixture
def remembering(titan: InteractiveShell) -> InteractiveShell:
    # IPython 9 keeps the outputs of all shells of a process together, by cell.
    getattr(titan.history_manager, "outputs", {}).clear()
    run(titan, "%titan on --remember")
    return titan


def test_a_question_is_answered_with_cells(remembering: InteractiveShell, memory: ChatMemory) -> None:
    number = remembering.execution_count
    run(remembering, "%%titan -q --label fit\n%%time\n\n# zebra and zoo\nx = 1")
    run(remembering, "print('quick queen')")
    assert len(memory) == 0, "nothing is encoded before somebody asks"
    (listing,) = shown(remembering, "%titan chat")
    assert "to be taken in by the next recall: 2 cells of this notebook" in listing.data["text/plain"]
    titles, rows, text = table(remembering, "%titan recall 'zz zoo zebra'")
    assert titles == ["score", "text", "when (UTC)", "cell"]
    assert [(row[1], row[3]) for row in rows] == [
        ("# zebra and zoo", str(number)),
        ("print('quick queen')", str(number + 1)),
    ]
    assert "in 'notebook'" in text


def test_source_printed_text_and_result_are_kept_and_no_line_of_titans(
    remembering: InteractiveShell,
) -> None:
    run(remembering, "%titan report --format csv -o table")
    run(remembering, "%titan report -o ignored --format csv\nvalue = 6 * 7\nprint('printed', end='')\nvalue")
    (text,) = texts(remembering)
    assert text == "value = 6 * 7\nprint('printed', end='')\nvalue\n\n---\nprinted\n42"


def test_an_older_ipython_keeps_the_result_only(
    remembering: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = remembering.history_manager
    number = remembering.execution_count
    monkeypatch.setitem(history.output_hist_reprs, number, "42")
    fake = type("History", (), {"output_hist_reprs": history.output_hist_reprs})()
    shell = type("Shell", (), {"history_manager": fake})()
    assert notebook_memory._output(shell, number) == "42"
    assert notebook_memory._output(shell, number + 1) == ""


def test_long_cells_and_outputs_are_cut(remembering: InteractiveShell) -> None:
    run(remembering, f"x = '{'s' * 50_000}'\nfor _ in range(3000): print('output ' * 100)")
    (text,) = texts(remembering)
    assert text is not None
    source, output = text.split("\n\n---\n")
    assert (len(source), len(output)) == (4000, 1000)
    assert source.endswith("…")


def test_a_cell_that_runs_again_takes_the_place_of_its_earlier_run(
    remembering: InteractiveShell, memory: ChatMemory
) -> None:
    run(remembering, "y = 'other'")
    for _ in range(3):
        run(remembering, "x = 'again'")
    run(remembering, "y = 'other'")
    assert texts(remembering) == ["x = 'again'", "y = 'other'"]
    number = remembering.execution_count
    run(remembering, "x = 'again'")
    assert texts(remembering) == ["y = 'other'", "x = 'again'"]
    *_, last = memory.list("notebook")
    assert last.metadata == {"cell": number}
    memory.forget("notebook")
    run(remembering, "y = 'other'")
    assert texts(remembering) == ["y = 'other'"]


def test_failed_cells_are_kept_with_their_error_and_unread_ones_are_not(
    remembering: InteractiveShell, memory: ChatMemory
) -> None:
    remembering.run_cell("raise ValueError('on purpose')", store_history=True)
    remembering.run_cell("this is no python", store_history=True)
    remembering.run_cell("x = 'silent'", silent=True)
    remembering.run_cell("x = 'not in the history'", store_history=False)
    run(remembering, "   \n\n")
    assert texts(remembering) == ["raise ValueError('on purpose')"]
    (item,) = memory.list("notebook")
    assert item.metadata is not None
    assert item.metadata["error"] == "ValueError"


def test_off_ends_it_and_on_alone_does_not_begin_it(titan: InteractiveShell) -> None:
    getattr(titan.history_manager, "outputs", {}).clear()
    run(titan, "%titan on")
    run(titan, "x = 'before'")
    run(titan, "%titan on --remember")
    run(titan, "x = 'within'")
    run(titan, "%titan on")
    run(titan, "x = 'still'")
    run(titan, "%titan off")
    run(titan, "x = 'after'")
    assert texts(titan) == ["x = 'within'", "x = 'still'"]


def test_one_cell_that_cannot_be_encoded_keeps_no_other_out(
    remembering: InteractiveShell, memory: ChatMemory
) -> None:
    number = remembering.execution_count
    run(remembering, "1 + 1")
    run(remembering, "zebra = 'zoo'")
    text = table(remembering, "%titan recall 'zebra'")[2]
    assert "zebra = 'zoo'" in text
    assert f"not remembered: cell {number} (the text" in text
    assert "not remembered" not in table(remembering, "%titan recall 'zebra'")[2]


def test_cells_wait_on_where_the_memory_is_short(
    remembering: InteractiveShell, memory: ChatMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise ResourceError("full", requested_bytes=None, available_bytes=None, device="disk")

    run(remembering, "x = 'kept'")
    with monkeypatch.context() as patch:
        patch.setattr(memory, "add", full)
        with pytest.raises(ResourceError):
            notebook(remembering).taken_in(memory)
    run(remembering, "y = 'kept as well'")
    assert texts(remembering) == ["x = 'kept'", "y = 'kept as well'"]


def test_only_so_many_cells_wait(remembering: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook_memory, "WAITING_CELLS", 2)
    for name in "abc":
        run(remembering, f"{name} = 'kept'")
    assert notebook(remembering).waiting == 2
    assert texts(remembering) == ["b = 'kept'", "c = 'kept'"]


def test_without_an_encoder_one_line_says_so_and_cells_are_measured(
    titan: InteractiveShell, memory: ChatMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.encoder = "no such encoder"
    run(titan, "%titan on --remember")
    said = capsys.readouterr().err
    assert said.startswith("titan: cells are not remembered: there is no encoder 'no such encoder'")
    assert said.count("\n") == 1
    run(titan, "x = 1")
    assert notebook(titan).waiting == 0
    assert len(titan_nb.ledger().reports) >= 1


def test_a_fault_of_ours_is_one_warning_and_no_error(
    remembering: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(shell: object, number: int) -> str:
        raise RuntimeError("a fault of titan's own")

    monkeypatch.setattr(notebook_memory, "_output", broken)
    for _ in range(2):
        run(remembering, "x = 1")
    assert capsys.readouterr().err.count("titan: this cell is not remembered: RuntimeError") == 1


def test_what_waits_is_taken_in_at_the_end_where_it_lasts(
    remembering: InteractiveShell, tmp_path: Path
) -> None:
    run(remembering, "x = 'in RAM it would be lost anyway'")
    notebook(remembering).close()
    assert notebook(remembering).waiting == 1
    run(remembering, f"%titan chat open {tmp_path / 'kept'}")
    run(remembering, "%titan on --remember")
    run(remembering, "y = 'kept'")
    run(remembering, "%unload_ext titan_nb")
    assert [item.text for item in titan_nb.chat_memory().list("notebook")] == [
        "x = 'in RAM it would be lost anyway'",
        "y = 'kept'",
    ]


def test_a_failure_at_the_end_is_one_line(
    remembering: InteractiveShell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(remembering, f"%titan chat open {tmp_path / 'kept'}")
    run(remembering, "y = 'lost'")

    def broken(texts: list[str]) -> np.ndarray:
        raise RuntimeError("the encoder is gone")

    broken.identity = "broken"  # type: ignore[attr-defined]
    titan_nb.chat_memory().encoder = broken
    run(remembering, "%unload_ext titan_nb")
    assert "the last cells are not remembered: RuntimeError" in capsys.readouterr().err


def test_forgetting_the_notebook_drops_what_waits_as_well(
    remembering: InteractiveShell, memory: ChatMemory, capsys: pytest.CaptureFixture[str]
) -> None:
    run(remembering, "token = 'secret'")
    assert texts(remembering) == ["token = 'secret'"]
    run(remembering, "password = 'secret'")
    run(remembering, "%titan chat forget notebook")
    run(remembering, "password = 'another'")
    run(remembering, "%titan chat forget notebook")
    assert (
        capsys.readouterr().out == "forgot chat 'notebook' with 2 items\nforgot chat 'notebook' with 1 item\n"
    )
    assert (notebook(remembering).waiting, len(memory)) == (0, 0)


def test_saving_takes_in_what_waits(remembering: InteractiveShell, tmp_path: Path) -> None:
    run(remembering, "x = 'kept'")
    run(remembering, f"%titan chat save {tmp_path / 'kept'}")
    titan_nb.chat_memory().close()
    with ChatMemory.load(tmp_path / "kept", encoder=letters) as again:
        assert [item.text for item in again.list("notebook")] == ["x = 'kept'"]


def test_a_forked_child_writes_nothing(remembering: InteractiveShell, tmp_path: Path) -> None:
    run(remembering, f"%titan chat open {tmp_path / 'kept'}")
    run(remembering, "x = 'kept'")
    kept = notebook(remembering)
    child = os.fork()
    if child == 0:
        kept.close()
        os._exit(0 if kept.waiting == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
