"""`%%titan --dry-run` in a real kernel: a forecast, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel
from tests.kernel.observed import Observed

SETUP = """%load_ext titan_nb
import os, torch
model = torch.nn.Linear(512, 512)
x = torch.randn(64, 512)
count = torch.tensor(0)
"""
STEP = """optimizer = torch.optim.Adam(model.parameters())
loss = model(x).square().mean()
loss.backward()
optimizer.step()
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel(sys.executable) as kernel:
        assert kernel.run(SETUP).status == "ok"
        yield kernel


def predicted(kernel: Kernel, body: str, options: str = "") -> str:
    """Return the forecast of a cell, and see that it is all that came of it."""
    files = f"len(os.listdir('/proc/{kernel.pid}/fd'))"
    before = kernel.evaluate(files)
    cell = kernel.run(f"%%titan --dry-run {options}\n{body}")
    assert cell.status == "ok", cell
    assert [part["type"] for part in cell.outputs] == ["display_data"], cell.outputs
    assert not Path(f"/proc/{kernel.pid}/task/{kernel.pid}/children").read_text()
    assert kernel.evaluate(files) <= before
    assert kernel.run("6 * 7").result == "42"
    assert kernel.listen(0.2) == []
    return shown(cell)


def shown(cell: Observed) -> str:
    return str(cell.outputs[0]["data"]["text/plain"])


def test_a_training_step(kernel: Kernel) -> None:
    text = predicted(kernel, STEP)
    assert text.startswith("predicted peak "), text
    assert "; ran to the end in " in text
    assert kernel.evaluate("[p.grad for p in model.parameters()] == [None, None]")
    assert not kernel.evaluate("'optimizer' in globals()")


def test_nothing_of_the_body_runs_here(kernel: Kernel) -> None:
    """Neither as code, nor as the expressions that IPython evaluates in the line of a magic."""
    predicted(kernel, "f'{count.add_(1)} ${count.add_(1)}'\ncount += 1\nran = True\n")
    assert kernel.evaluate("int(count)") == 0
    assert not kernel.evaluate("'ran' in globals()")


def test_output_displays_and_questions_go_nowhere(kernel: Kernel) -> None:
    body = (
        "from IPython.display import display, clear_output\nimport sys, logging\n"
        "print('out'); print('err', file=sys.stderr); os.write(1, b'raw'); display('shown')\n"
        "sys.__stdout__.write('x'); sys.__stdout__.flush(); logging.warning('logged'); clear_output()\n"
        "1 + 1\n"
    )
    assert "ran to the end" in predicted(kernel, body)
    assert predicted(kernel, "\ninput('?')\n").startswith("predicted: no tensor memory")


def test_it_stops_with_the_line_that_the_user_sees(kernel: Kernel) -> None:
    text = predicted(kernel, "\n# a comment\ny = model(x)\nif y.sum() > 0:\n    pass\n")
    assert text.endswith("; up to line 5, then data-dependent: .item() or a condition")
    assert predicted(kernel, "await asyncio_is_not_here\n").endswith(
        "up to line 2, then NameError: name 'asyncio_is_not_here' is not defined"
    )
    assert "ran to the end" in predicted(kernel, "import asyncio\nawait asyncio.sleep(0)\n")


def test_magics_commands_and_files_are_refused(kernel: Kernel) -> None:
    assert predicted(kernel, "!touch new\n").endswith("does not start a program or another process")
    assert predicted(kernel, "%cd /\n").endswith("up to line 2, then a dry run does not run the magic %cd")
    assert predicted(kernel, "open('new', 'w')\n").endswith("does not write to 'new'")
    assert kernel.evaluate("os.listdir()") == []
    assert kernel.evaluate("os.getcwd()") == str(kernel.folder)


def test_a_crash_leaves_the_kernel_alone(kernel: Kernel) -> None:
    text = predicted(kernel, "import ctypes\nctypes.string_at(0)\n")
    assert text.endswith("up to line 3, then the dry run's process died (Segmentation fault)")


def test_the_forecast_gets_a_name(kernel: Kernel) -> None:
    predicted(kernel, "y = torch.zeros(256)\n", "-o forecast")
    assert kernel.evaluate("forecast.additional_bytes") == {"cpu": 1024}
    assert kernel.run(Cell("%%titan --dry-run -q\ny = 1")).outputs == []


def test_ctrl_c_ends_it(kernel: Kernel) -> None:
    cell = kernel.run(Cell("%%titan --dry-run\nwhile True: pass", interrupt_after_seconds=3.0))
    assert cell.status == "error"
    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert not Path(f"/proc/{kernel.pid}/task/{kernel.pid}/children").read_text()
    assert kernel.run("6 * 7").result == "42"
