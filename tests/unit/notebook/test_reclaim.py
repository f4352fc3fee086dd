"""What comes back after a failed cell, when, and what the user is told."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from tests.unit.memory.blocks import Block, Device
from tests.unit.notebook.gpus import counting_gpu
from titan_nb.memory.reclaim import Reclaimed
from titan_nb.notebook import reclaim as notebook
from titan_nb.notebook.reclaim import FailedCells, freed_text, held_text, returned_text, short_of_ram

MIB = 1 << 20
DEFINE = """\
def fail(mib=240, kind=MemoryError):
    held = Block(device, mib << 20)
    raise kind('short')
"""
LOST = "%tb works, %debug has no locals"
_SLOTS = ("last_exc", "last_value", "last_type", "last_traceback")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return counting_gpu(monkeypatch)


@pytest.fixture
def shell(shell: InteractiveShell, device: Device) -> Iterator[InteractiveShell]:
    before = {name: getattr(sys, name) for name in _SLOTS if hasattr(sys, name)}
    for name in before:
        delattr(sys, name)
    shell.user_ns.update(Block=Block, device=device)
    shell.run_cell(DEFINE)
    yield shell
    for name in _SLOTS:
        if hasattr(sys, name):
            delattr(sys, name)
    for name, value in before.items():
        setattr(sys, name, value)


@pytest.fixture
def failed_cells(shell: InteractiveShell) -> FailedCells:
    return FailedCells(shell)


def test_a_shortage(shell: InteractiveShell, device: Device, failed_cells: FailedCells) -> None:
    result = shell.run_cell("fail()")
    assert device.used[0] == 240 * MIB
    assert failed_cells.after_cell(result) == f"freed 240 MiB on GPU 0; {LOST}"
    assert device.used[0] == 0
    assert result.error_in_exec is sys.last_value
    assert sys.last_value.__traceback__ is not None


def test_what_is_left_and_who_holds_it(
    shell: InteractiveShell, device: Device, failed_cells: FailedCells
) -> None:
    shell.run_cell("mine = Block(device, 12 << 20)")
    holders = [("a", 1 * MIB), ("mine", 12 * MIB), ("b", 3 * MIB), ("c", 2 * MIB)]
    line = failed_cells.after_cell(shell.run_cell("fail()"), holders=lambda: holders)
    held = "still in use: 12.0 MiB on GPU 0 (`mine` 12.0 MiB, `b` 3.0 MiB, `c` 2.0 MiB)"
    assert line == f"freed 240 MiB on GPU 0; {held}; {LOST}"


@pytest.mark.parametrize(
    ("error", "of_ram"),
    [
        ("MemoryError()", True),
        ("RuntimeError('DefaultCPUAllocator: cannot allocate')", True),
        ("ResourceError('short', requested_bytes=1, available_bytes=None, device='cpu')", True),
        ("ResourceError('short', requested_bytes=1, available_bytes=None, device='cuda:0')", False),
        ("RuntimeError('CUDA out of memory')", False),
    ],
)
def test_who_holds_what_is_said_of_the_memory_that_was_short(
    shell: InteractiveShell, failed_cells: FailedCells, error: str, of_ram: bool
) -> None:
    shell.run_cell("from titan_nb import ResourceError\nmine = Block(device, 12 << 20)")
    failed = shell.run_cell(f"raise {error}")
    line = failed_cells.after_cell(
        failed, holders=lambda: [("mine", 12 * MIB)], ram_holders=lambda: [("df", 9 * MIB)]
    )
    held = "still in use: 12.0 MiB on GPU 0 (`mine` 12.0 MiB)"
    if of_ram:
        held = "the most is held by `df` 9.0 MiB"
    assert line == f"nothing to free; {held}; {LOST}"
    assert short_of_ram(KeyboardInterrupt())


def test_a_failing_search_for_holders_costs_only_the_names(
    shell: InteractiveShell, failed_cells: FailedCells
) -> None:
    shell.run_cell("mine = Block(device, 12 << 20)")
    line = failed_cells.after_cell(shell.run_cell("fail()"), holders=lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert line == f"freed 240 MiB on GPU 0; still in use: 12.0 MiB on GPU 0; {LOST}"


def test_a_shortage_with_nothing_to_free(shell: InteractiveShell, failed_cells: FailedCells) -> None:
    result = shell.run_cell("raise MemoryError")
    assert failed_cells.after_cell(result) == f"nothing to free; {LOST}"


def test_a_cell_that_ends_well_is_not_touched(
    shell: InteractiveShell, failed_cells: FailedCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_cells.after_cell(shell.run_cell("fail()"))
    collected: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(1))
    for _ in range(3):
        assert failed_cells.after_cell(shell.run_cell("1 + 1")) is None
    assert failed_cells.after_cell(None) is None
    assert not collected


@pytest.mark.parametrize("kind", ["ValueError", "KeyboardInterrupt"])
def test_other_failures_only_if_asked_to(
    shell: InteractiveShell, device: Device, failed_cells: FailedCells, kind: str
) -> None:
    body = f"fail(240, {kind})"
    assert failed_cells.after_cell(shell.run_cell(body)) is None
    assert failed_cells.after_cell(shell.run_cell(body), "never") is None
    gc.collect()
    assert device.used[0] == 240 * MIB
    assert failed_cells.after_cell(shell.run_cell(body), "errors") == f"freed 480 MiB on GPU 0; {LOST}"
    assert device.used[0] == 0
    assert failed_cells.after_cell(shell.run_cell(f"raise {kind}"), "errors") is None


def test_never_means_never(shell: InteractiveShell, device: Device, failed_cells: FailedCells) -> None:
    assert failed_cells.after_cell(shell.run_cell("fail()"), "never") is None
    assert device.used[0] == 240 * MIB


def test_an_error_that_only_a_restart_helps_against(
    shell: InteractiveShell, device: Device, failed_cells: FailedCells
) -> None:
    shell.user_ns["error"] = torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with")
    body = "def broken():\n    held = Block(device, 1 << 20)\n    raise error\nbroken()"
    result = shell.run_cell(body)
    for policy in ("oom", "errors", "never"):
        line = failed_cells.after_cell(result, policy)
        assert line is not None
        assert line.startswith("restart needed: a kernel's own check failed")
    assert device.used[0] == MIB, "on a broken GPU nothing is tried"


def test_a_script_fails_and_the_cell_ends_well(
    shell: InteractiveShell, device: Device, failed_cells: FailedCells, tmp_path: Any
) -> None:
    script = tmp_path / "script.py"
    script.write_text("fail()\n")
    result = shell.run_cell(f"%run -i {script}")
    assert result.success
    line = failed_cells.after_cell(result)
    assert line is not None
    assert line.startswith("freed 240 MiB on GPU 0")
    assert failed_cells.after_cell(shell.run_cell("1")) is None


def test_a_shortage_from_before_titan_was_loaded(
    shell: InteractiveShell, device: Device, failed_cells: FailedCells
) -> None:
    shell.run_cell("fail()")
    line = failed_cells.after_cell(shell.run_cell("1"))
    assert line is not None
    assert line.startswith("freed 240 MiB on GPU 0")
    assert device.used[0] == 0


def test_nothing_is_kept_if_the_user_cleans_up_himself(
    shell: InteractiveShell, device: Device, failed_cells: FailedCells
) -> None:
    failed_cells.after_cell(shell.run_cell("fail(240, ValueError)"))
    for name in _SLOTS:
        if hasattr(sys, name):
            setattr(sys, name, None)
    shell.InteractiveTB.tb = None
    shell.last_execution_result = None
    gc.collect()
    assert device.used[0] == 0
    assert failed_cells.after_cell(shell.run_cell("1")) is None


def test_a_traceback_that_the_exception_has_lost(
    shell: InteractiveShell, device: Device, failed_cells: FailedCells
) -> None:
    result = shell.run_cell("fail()")
    result.error_in_exec.__traceback__ = None
    failed_cells.after_cell(result)
    assert device.used[0] == 0


def test_an_error_before_the_cell_runs(shell: InteractiveShell, failed_cells: FailedCells) -> None:
    assert failed_cells.after_cell(shell.run_cell("1 +"), "errors") is None


def test_all_failures_by_request(shell: InteractiveShell, device: Device, failed_cells: FailedCells) -> None:
    shell.run_cell("fail(100, ValueError)")
    debugger = shell.InteractiveTB.debugger_cls()
    debugger.botframe = sys.last_traceback.tb_next.tb_next.tb_frame
    shell.InteractiveTB.pdb = debugger
    del debugger
    shell.run_cell("fail(50, OSError)")
    assert device.used[0] == 150 * MIB
    done = failed_cells.reclaim()
    assert device.used == device.reserved == [0, 0]
    assert freed_text(done) == "freed 150 MiB on GPU 0"
    assert returned_text(done) == "gave 150 MiB of GPU 0 back to the driver"
    assert shell.InteractiveTB.pdb is None


def test_cells_of_two_threads_are_given_back_one_after_the_other(
    shell: InteractiveShell, failed_cells: FailedCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, running, together = shell.run_cell("fail()"), [], []
    lines: list[str | None] = []

    def slowly(roots: Any, **options: Any) -> Reclaimed:
        running.append(1)
        together.append(len(running))
        time.sleep(0.2)
        done = memory_reclaim(roots, **options)
        running.pop()
        return done

    memory_reclaim = notebook.reclaim
    monkeypatch.setattr(notebook, "reclaim", slowly)
    threads = [
        threading.Thread(target=lambda: lines.append(failed_cells.after_cell(result))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert together == [1, 1]
    assert sorted(map(str, lines)) == [f"freed 240 MiB on GPU 0; {LOST}", f"nothing to free; {LOST}"]


def test_an_interrupt_in_the_middle_changes_nothing(
    titan: InteractiveShell, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = gc.collect

    def interrupted() -> int:
        signal.raise_signal(signal.SIGINT)
        return collect()

    monkeypatch.setattr(gc, "collect", interrupted)
    result = titan.run_cell("fail()")
    assert type(result.error_in_exec) is MemoryError
    assert sys.last_value is result.error_in_exec
    assert sys.last_value.__traceback__ is not None
    assert device.used[0] == device.reserved[0] == 0
    monkeypatch.setattr(gc, "collect", collect)
    assert titan.run_cell("6 * 7").result == 42


def test_words(device: Device) -> None:
    done = Reclaimed(
        {"gpu:fake0": 0, "gpu:fake1": 3 * MIB, "ram:x": 2 << 30}, {"gpu:fake1": 5 * MIB}, {"gpu:fake1": 0}
    )
    assert freed_text(done) == "freed 3.0 MiB on GPU 1 and 2.0 GiB of RAM"
    assert returned_text(done) == "gave 5.0 MiB of GPU 1 back to the driver"
    assert held_text(done) is None
    assert held_text(done, lambda: [("x", 5)]) == "the most is held by `x` 5 B"
    noise = Reclaimed({"gpu:other": -1, "ram:x": 4096}, {"gpu:other": -3}, {"gpu:other": 1})
    assert freed_text(noise) is None
    assert returned_text(noise) is None
    assert held_text(noise) == "still in use: 1 B on the GPU"
