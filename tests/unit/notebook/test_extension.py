from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from titan_nb import tracker
from titan_nb.notebook import extension
from titan_nb.records import Report


def lists(shell: InteractiveShell) -> dict[str, Any]:
    """Everything of a shell that an extension may add to."""
    return {
        "events": {name: list(calls) for name, calls in shell.events.callbacks.items()},
        "cleanup": list(shell.input_transformers_cleanup),
        "post": list(shell.input_transformers_post),
        "ast": list(shell.ast_transformers),
        "line magics": dict(shell.magics_manager.magics["line"]),
        "cell magics": dict(shell.magics_manager.magics["cell"]),
        "registry": dict(shell.magics_manager.registry),
        "configurables": list(shell.configurables),
        "matchers": list(shell.Completer.custom_matchers),
        "mimebundle": dict(shell.display_formatter.mimebundle_formatter.type_printers),
        "names": {name for name in shell.user_ns if not name.startswith("_")},
    }


def resources() -> tuple[list[str], list[str]]:
    files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one of the listing itself
            files.append(str(descriptor.readlink()))
    return sorted(thread.name for thread in threading.enumerate()), sorted(files)


def test_unload_leaves_the_shell_as_it_was(shell: InteractiveShell) -> None:
    before = lists(shell)
    extension.load(shell)
    assert lists(shell) != before
    extension.unload(shell)
    assert lists(shell) == before


def test_loading_twice_is_loading_once(shell: InteractiveShell) -> None:
    extension.load(shell)
    once = lists(shell)
    extension.load(shell)
    assert lists(shell) == once


def test_unloading_without_loading_does_nothing(shell: InteractiveShell) -> None:
    before = lists(shell)
    extension.unload(shell)
    assert lists(shell) == before


def test_load_unload_reload_a_hundred_times(shell: InteractiveShell) -> None:
    def cycle() -> None:
        shell.run_cell("%load_ext titan_nb").raise_error()
        shell.run_cell("%titan on").raise_error()
        shell.run_cell("x = 1").raise_error()
        shell.run_cell("%reload_ext titan_nb").raise_error()
        shell.run_cell("%%titan -q\nx = 1").raise_error()
        shell.run_cell("%unload_ext titan_nb").raise_error()

    cycle()  # what a first use leaves for ever, such as imported modules, is not a leak
    hooks, (threads, files) = lists(shell), resources()
    for _ in range(100):
        cycle()
    assert lists(shell) == hooks
    assert resources() == (threads, files)


def test_loading_prints_nothing(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("%load_ext titan_nb").raise_error()
    shell.run_cell("%unload_ext titan_nb").raise_error()
    assert capsys.readouterr() == ("", "")


def test_loading_takes_no_thread_and_no_file(shell: InteractiveShell) -> None:
    tracker.default().close()
    before = resources()
    extension.load(shell)
    assert resources() == before


def test_two_shells_in_one_process_are_apart(shell: InteractiveShell) -> None:
    other = InteractiveShell(parent=None)
    other.history_manager.enabled = False
    for one in (shell, other):  # IPython loads its own magics when they are first used
        one.run_cell("%load_ext titan_nb\n%unload_ext titan_nb\nx = 1").raise_error()
    before = lists(shell), lists(other)
    shell.run_cell("%load_ext titan_nb").raise_error()
    assert lists(other) == before[1]
    other.run_cell("%load_ext titan_nb").raise_error()
    shell.run_cell("%titan on").raise_error()
    count = len(titan_nb.ledger().reports)
    other.run_cell("x = 1").raise_error()
    assert len(titan_nb.ledger().reports) == count, "the other shell is not measured"
    extension.unload(other)
    assert lists(other) == before[1]
    shell.run_cell("%%titan -q\nx = 1").raise_error()
    assert len(titan_nb.ledger().reports) == count + 1, "and the first goes on"
    extension.unload(shell)
    assert lists(shell) == before[0]


def test_a_load_that_fails_halfway_leaves_nothing(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lists(shell)

    def broken(*args: object) -> None:
        raise RuntimeError("no completion here")

    monkeypatch.setattr(extension, "matcher", broken)
    with pytest.raises(RuntimeError):
        extension.load(shell)
    assert lists(shell) == before
    monkeypatch.undo()
    extension.load(shell)


def test_a_bad_configured_value_is_reported_and_leaves_nothing(shell: InteractiveShell) -> None:
    before = lists(shell)
    shell.config.TitanMagics.min_seconds = "soon"
    try:
        with pytest.raises(Exception, match="min_seconds"):
            extension.load(shell)
        assert lists(shell) == before
    finally:
        del shell.config["TitanMagics"]


def test_a_magic_of_that_name_comes_back_after_unload(shell: InteractiveShell) -> None:
    def titan(line: str) -> str:
        return "the user's own"

    shell.register_magic_function(titan, "line", "titan")
    extension.load(shell)
    assert shell.run_line_magic("titan", "off") is None
    extension.unload(shell)
    assert shell.run_line_magic("titan", "") == "the user's own"


def test_a_report_is_drawn_by_the_shell_only_while_titan_is_loaded(titan: InteractiveShell) -> None:
    titan.run_cell("%%titan -q -o r\n1 + 1").raise_error()
    report = titan.user_ns["r"]
    assert isinstance(report, Report)
    data, _ = titan.display_formatter.format(report)
    assert "application/vnd.titan.report+json" in data
    extension.unload(titan)
    data, _ = titan.display_formatter.format(report)
    assert set(data) == {"text/plain"}


def test_unloading_in_a_tracked_cell_ends_it_without_a_report(titan: InteractiveShell) -> None:
    count = len(titan_nb.ledger().reports)
    titan.run_cell("%titan on").raise_error()
    titan.run_cell("%unload_ext titan_nb").raise_error()
    assert len(titan_nb.ledger().reports) == count + 1, "only the cell that switched it on"
    titan.run_cell("x = 1").raise_error()
    assert len(titan_nb.ledger().reports) == count + 1
