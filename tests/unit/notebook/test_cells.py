from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.notebook.cells import Cells


def shell(header: dict[str, Any] | None = None, **attributes: Any) -> Any:
    publisher = SimpleNamespace(parent_header=header)
    return SimpleNamespace(display_pub=publisher, transform_cell=lambda cell: cell, **attributes)


def info(raw: str = "x = 1", **attributes: Any) -> Any:
    return SimpleNamespace(raw_cell=raw, store_history=True, cell_id=None, **attributes)


def result(
    raw: str = "x = 1",
    *,
    before: BaseException | None = None,
    during: BaseException | None = None,
    value: object = None,
) -> Any:
    return SimpleNamespace(
        info=info(raw), execution_count=7, error_before_exec=before, error_in_exec=during, result=value
    )


def test_a_cell_is_entered_and_left() -> None:
    cells = Cells(shell())
    frame = cells.enter(info())
    assert frame is not None
    assert cells.current() is frame
    left = cells.leave(result(value=42))
    assert left is not None
    assert left[0] is frame
    assert (left[1].outcome, left[1].error, left[1].value, left[1].ran) == ("ok", None, 42, True)
    assert cells.current() is None


def test_cells_are_numbered_by_our_own_count() -> None:
    cells = Cells(shell())
    numbers = []
    for _ in range(3):
        frame = cells.enter(info())
        assert frame is not None
        cells.leave(result())
        numbers.append((frame.cell.number, frame.cell.execution_count))
    assert numbers == [(1, 7), (2, 7), (3, 7)], "nbval and papermill repeat the execution count"


def test_without_history_there_is_no_execution_count() -> None:
    cells = Cells(shell())
    frame = cells.enter(info())
    end = result()
    end.info.store_history = False
    cells.leave(end)
    assert frame is not None
    assert frame.cell.execution_count is None


def test_a_cell_in_a_cell_is_only_counted() -> None:
    cells = Cells(shell())
    outer = cells.enter(info())
    assert cells.enter(info("inner")) is None
    assert cells.current() is outer
    assert cells.leave(result("inner")) is None
    left = cells.leave(result())
    assert left is not None
    assert left[0] is outer


@pytest.mark.parametrize("raw", ["", "   \n\t"])
def test_a_blank_cell_fires_only_its_end_and_is_ignored(raw: str) -> None:
    cells = Cells(shell())
    outer = cells.enter(info())
    assert cells.leave(result(raw)) is None
    assert cells.current() is outer


def test_an_end_without_a_beginning_is_ignored() -> None:
    assert Cells(shell()).leave(result("%load_ext titan_nb")) is None


def stale(host: Any, cells: Cells) -> Any:
    """Enter a cell whose end never comes, and return its frame; the next request has begun."""
    frame = cells.enter(info())
    cells.enter(info("nested"))
    host.display_pub.parent_header = {"msg_id": "second"}
    return frame


def test_a_cell_whose_end_never_came_is_found_before_the_next() -> None:
    host = shell({"msg_id": "first"}, last_execution_result=None)
    cells = Cells(host)
    frame = stale(host, cells)
    lost = cells.lost()
    assert lost is not None
    assert lost[0] is frame
    assert (lost[1].outcome, lost[1].error, lost[1].ran) == ("interrupted", "KeyboardInterrupt", True)
    assert cells.lost() is None
    assert cells.enter(info()) is cells.current() is not None


def test_a_lost_end_is_that_of_the_shells_last_result_if_it_is_of_this_cell() -> None:
    host = shell({"msg_id": "first"})
    cells = Cells(host)
    frame = stale(host, cells)
    host.last_execution_result = end = result(value=42)
    end.info = frame.info
    lost = cells.lost()
    assert lost is not None
    assert (lost[1].outcome, lost[1].value, frame.cell.execution_count) == ("ok", 42, 7)


def test_the_result_of_another_cell_says_nothing_of_a_lost_end() -> None:
    host = shell({"msg_id": "first"}, last_execution_result=result(value=42))
    cells = Cells(host)
    stale(host, cells)
    lost = cells.lost()
    assert lost is not None
    assert lost[1].outcome == "interrupted"


def test_a_running_cell_is_not_lost() -> None:
    cells = Cells(shell({"msg_id": "one"}))
    assert cells.lost() is None
    cells.enter(info())
    assert cells.lost() is None


def test_nested_cells_of_one_request_are_not_stale() -> None:
    cells = Cells(shell({"msg_id": "one"}))
    assert cells.enter(info()) is not None
    assert cells.enter(info()) is None


def test_threads_have_stacks_of_their_own() -> None:
    cells = Cells(shell())
    main = cells.enter(info())
    seen: list[Any] = []

    def subshell() -> None:
        seen.append(cells.current())
        seen.append(cells.enter(info()))
        cells.leave(result())

    thread = threading.Thread(target=subshell)
    thread.start()
    thread.join()
    assert seen[0] is None
    assert seen[1] is not None
    assert cells.current() is main


def test_the_front_ends_cell_id_comes_from_the_info_or_from_the_request() -> None:
    newer = info()
    newer.cell_id = "abc"
    frame = Cells(shell()).enter(newer)
    assert frame is not None
    assert frame.cell.cell_id == "abc"

    older = Cells(shell(get_parent=lambda: {"metadata": {"cellId": "def"}}))
    frame = older.enter(SimpleNamespace(raw_cell="x", store_history=True))
    assert frame is not None
    assert frame.cell.cell_id == "def"

    for parent in (None, {}, {"metadata": None}, {"metadata": {"cellId": 3}}):
        frame = Cells(shell(get_parent=lambda parent=parent: parent)).enter(info())
        assert frame is not None
        assert frame.cell.cell_id is None


@pytest.mark.parametrize(
    ("end", "outcome", "error", "ran"),
    [
        (result(during=ValueError("x")), "error", "ValueError", True),
        (result(during=SystemExit(1)), "error", "SystemExit", True),
        (result(during=KeyboardInterrupt()), "interrupted", "KeyboardInterrupt", True),
        (result(during=asyncio.CancelledError()), "interrupted", "CancelledError", True),
        (result("x = = 1", before=SyntaxError("x")), "error", "SyntaxError", False),
        (result("y = 1\nreturn y", before=SyntaxError("x")), "error", "SyntaxError", True),
    ],
)
def test_how_a_cell_ended(end: Any, outcome: str, error: str, ran: bool) -> None:
    cells = Cells(shell())
    cells.enter(info())
    left = cells.leave(end)
    assert left is not None
    assert (left[1].outcome, left[1].error, left[1].ran) == (outcome, error, ran)


def test_a_missing_result_is_judged_by_the_exception_on_its_way() -> None:
    cells = Cells(shell())
    cells.enter(info())
    try:
        raise ValueError
    except ValueError:
        left = cells.leave(None)
    assert left is not None
    assert (left[1].outcome, left[1].error) == ("error", "ValueError")
    cells.enter(info())
    left = cells.leave(None)
    assert left is not None
    assert left[1].outcome == "interrupted"
