"""The options and settings of `%titan` that are about memory, and what a cell makes of them."""

from __future__ import annotations

import resource
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError

import titan_nb
from tests.unit.notebook.shells import run, shown
from titan_nb.memory.autocast import Autocast
from titan_nb.notebook.memory_options import limit_bytes
from titan_nb.records import Report

GIB = 1 << 30
LOOK = "import resource\nseen = resource.getrlimit(resource.RLIMIT_DATA)[0]"


def magics(titan: InteractiveShell) -> Any:
    return titan.magics_manager.registry["TitanMagics"]


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("off", None), ("8GiB", 8 * GIB)])
def test_a_limit_is_a_size_or_off(text: str | None, expected: int | None) -> None:
    assert limit_bytes(text) == expected


def test_a_cell_runs_under_its_limit_and_no_longer(titan: InteractiveShell) -> None:
    before = soft_limit()
    run(
        titan,
        f"%%titan -q -o r --ram-limit 64GiB\n{LOOK}",
    )
    assert titan.user_ns["seen"] != before
    assert soft_limit() == before
    report: Report = titan.user_ns["r"]
    assert "RAM limit 64.0 GiB: " in str(report.notes)
    assert "RLIMIT_DATA" in str(report.notes)
    assert report.shortage is None


def test_a_size_may_be_written_as_number_and_unit(titan: InteractiveShell) -> None:
    run(titan, "%%titan -q -o r --ram-limit 64 GiB --label '--ram-limit'\npass")
    assert "RAM limit 64.0 GiB: " in str(titan.user_ns["r"].notes)


def test_on_takes_limits_for_every_cell(titan: InteractiveShell) -> None:
    before = soft_limit()
    run(titan, "%titan on --ram-limit 64GiB --reclaim never")
    assert (magics(titan).ram_limit, magics(titan).reclaim) == ("64GiB", "never")
    run(titan, LOOK)
    assert titan.user_ns["seen"] != before
    run(titan, f"%%titan -q --ram-limit off\n{LOOK}")
    assert titan.user_ns["seen"] == before
    run(titan, "%titan on --ram-limit off")
    assert magics(titan).ram_limit is None
    run(titan, LOOK)
    assert titan.user_ns["seen"] == before


@pytest.mark.parametrize("already_on", [False, True])
def test_on_with_a_limit_that_is_refused_changes_nothing(
    titan: InteractiveShell, capsys: pytest.CaptureFixture[str], already_on: bool
) -> None:
    run(titan, "%titan on --ram-limit 64GiB" if already_on else "pass")
    before = magics(titan).ram_limit
    refused = titan.run_cell("%titan on --ram-limit 1MiB --reclaim never")
    assert type(refused.error_in_exec).__name__ == "UsageError"
    assert "a RAM limit of 1.0 MiB is below" in capsys.readouterr().err
    assert (magics(titan).ram_limit, magics(titan).reclaim) == (before, "oom")
    run(titan, "%%titan -q -o r\nx = 1")
    assert titan.user_ns["r"].shortage is None


def test_on_again_limits_the_cell_it_stands_in(titan: InteractiveShell) -> None:
    run(titan, "%titan on")
    before = soft_limit()
    run(titan, f"%titan on --ram-limit 64GiB\n{LOOK}")
    assert titan.user_ns["seen"] != before
    run(titan, f"%%titan -q --ram-limit off\n%titan on --ram-limit 32GiB\n{LOOK}")
    assert titan.user_ns["seen"] == before, "what a cell asks for itself goes before"


def test_a_limit_of_the_session_that_is_passed_already_does_not_keep_cells_out(
    titan: InteractiveShell,
) -> None:
    run(titan, "%titan on")
    magics(titan).ram_limit = "1MiB"
    for _ in range(2):
        (display,) = shown(titan, "x = 6 * 7")
        line = display.data["text/plain"].splitlines()[1]
        assert line.startswith("a RAM limit of 1.0 MiB is below the ")
        assert line.endswith("; this cell ran without the limit")


def test_a_running_window_takes_the_limit_of_its_cell(titan: InteractiveShell) -> None:
    before = soft_limit()
    run(titan, "%titan on")
    run(
        titan,
        f"%titan track -q --ram-limit 64GiB\n{LOOK}",
    )
    assert titan.user_ns["seen"] != before
    assert soft_limit() == before


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%titan --ram-limit 8Gb\nx = 1", "8Gb"),
        ("%%titan --ram-limit 8 Gb\nx = 1", "cannot use '8Gb': a small b means bits"),
        ("%titan on --gpu-limit 8 Gb", "cannot use '8Gb': a small b means bits"),
        ("%%titan --gpu-limit -1\nx = 1", "-1|expected one argument"),
        ("%%titan --ram-limit 1e99\nx = 1", "1e99"),
        ("%%titan --ram-limit 1MiB\nx = 1", "a RAM limit of 1.0 MiB is below"),
        ("%%titan --autocast fp8\nx = 1", "invalid choice: 'fp8'"),
        ("%titan track --dry-run", "put --dry-run on the line of %%titan"),
        ("%titan dry-run", "put --dry-run on the line of %%titan"),
        ("%titan --dry-run", "put --dry-run on the line of %%titan"),
        ("%titan who -k 0", "-k is 0: ask for at least one row"),
        ("%titan spill --disk", "say what to move to disk"),
        ("%titan free", "say what to free"),
        ("%titan free nobody", "there is no variable nobody"),
        ("%titan who --out", "%titan who takes no --out"),
        ("%titan report a b c d", "takes no 'a'"),
        ("%titan recall a b c d", "takes no 'b'"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_the_body_does_not_run(
    titan: InteractiveShell, capsys: pytest.CaptureFixture[str], cell: str, message: str
) -> None:
    result = titan.run_cell(cell)
    assert type(result.error_in_exec).__name__ == "UsageError"
    assert "x" not in titan.user_ns
    error = capsys.readouterr().err
    import re

    assert re.search(message, error), error


@pytest.mark.parametrize(
    ("setting", "value"),
    [("gpu_limit", "8 apples"), ("cache_threshold", 0.0), ("cache_threshold", 1.5), ("reclaim", "x")],
)
def test_a_setting_that_cannot_be_used_keeps_the_old_one(
    titan: InteractiveShell, setting: str, value: object
) -> None:

    old = getattr(magics(titan), setting)
    with pytest.raises(TraitError):
        setattr(magics(titan), setting, value)
    assert getattr(magics(titan), setting) == old


def test_autocast_holds_in_the_cell_and_no_longer(titan: InteractiveShell) -> None:
    run(titan, "import torch")
    run(titan, "%%titan -q --autocast bf16\nseen = torch.is_autocast_enabled('cpu')")
    assert titan.user_ns["seen"] is True
    run(titan, "seen = torch.is_autocast_enabled('cpu')")
    assert titan.user_ns["seen"] is False
    failed = titan.run_cell("%%titan -q --autocast bf16\n1 / 0")
    assert isinstance(failed.error_in_exec, ZeroDivisionError)
    run(titan, "seen = torch.is_autocast_enabled('cpu')")
    assert titan.user_ns["seen"] is False


def test_a_failure_to_leave_autocast_leaves_no_limit_behind(
    titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(self: Autocast) -> None:
        leave(self)
        raise RuntimeError("a fault of titan's own")

    leave = Autocast.leave
    monkeypatch.setattr(Autocast, "leave", fails)
    before = soft_limit()
    run(titan, "import torch")
    run(titan, "%%titan -q --autocast bf16 --ram-limit 64GiB\nx = 1")
    assert soft_limit() == before
    assert titan_nb.ledger().reports[-1].outcome == "ok"
    assert "what was set for this cell is not put back: RuntimeError" in capsys.readouterr().err


def test_unloading_in_a_cell_ends_its_autocast_and_its_limit(titan: InteractiveShell) -> None:
    before = soft_limit()
    run(titan, "import torch")
    seen = "seen = torch.is_autocast_enabled('cpu')"
    run(titan, f"%%titan -q --autocast bf16 --ram-limit 64GiB\n%unload_ext titan_nb\n{seen}")
    assert titan.user_ns["seen"] is False
    assert soft_limit() == before


def test_autocast_is_refused_where_the_cell_awaits(
    titan: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    result = titan.run_cell("%%titan --autocast bf16\nimport asyncio\nawait asyncio.sleep(0)\nx = 1")
    assert type(result.error_in_exec).__name__ == "UsageError"
    assert "x" not in titan.user_ns
    assert "autocast cannot be set for a cell that awaits" in capsys.readouterr().err


def test_a_dry_run_runs_nothing(titan: InteractiveShell) -> None:
    run(titan, "import torch")
    run(titan, "%%titan --dry-run -q -o forecast\nx = torch.ones(1000, 1000)")
    assert "x" not in titan.user_ns
    assert titan.user_ns["forecast"].additional_bytes["cpu"] == 4_000_000
    assert titan_nb.ledger().reports == ()


def test_the_last_peak_of_a_long_cell_is_said_before_it_runs_again(
    titan: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    magics(titan).forecast = True
    magics(titan).min_seconds = 0.0
    run(titan, "import torch\nx = torch.ones(100)")
    cell = "%%titan -q\ny = x + 1"
    run(titan, cell)
    assert "last took a peak" not in capsys.readouterr().err
    run(titan, cell)
    assert capsys.readouterr().err.count("with inputs of these shapes this cell last took a peak of") == 1
    run(titan, "x = torch.ones(200)")
    run(titan, cell)
    assert "last took a peak" not in capsys.readouterr().err
    magics(titan).forecast = False
    run(titan, "x = torch.ones(100)")
    run(titan, cell)
    assert "last took a peak" not in capsys.readouterr().err
