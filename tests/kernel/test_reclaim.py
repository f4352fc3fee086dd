"""Memory after failed cells in a real kernel, on a fake GPU: all of it is back, and the traceback stays."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cell import Cell
from tests.kernel.failing import CAUGHT, SETUP, SHORTAGES, SLOW
from tests.kernel.kernel import Kernel, Observed
from tests.kernel.stacks import NEWEST, PYTHONS, stack_python

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
FITS = "again = fill(240)\nfits = again.nbytes >> 20\ndel again\nfits"


OTHERS = [pytest.param(name, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]) for name in PYTHONS]


@pytest.fixture(scope="module", params=[NEWEST, *OTHERS])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    python = stack_python(request.param)
    # Here and not in a cell, which has to end in time: a new torch needs a new build.
    build = "from tests.fakes.accelerator.build import library; library()"
    subprocess.run([python, "-c", build], cwd=ROOT, check=True)
    with Kernel(python, path=[ROOT]) as kernel:
        for body in ("%load_ext titan_nb", SETUP):
            started = kernel.run(body)
            assert started.status == "ok", started.outputs
        yield kernel


def _used(kernel: Kernel) -> int:
    used = kernel.evaluate("gpu.memory_allocated()")
    assert isinstance(used, int)
    return used


def _traceback(observed: Observed) -> str:
    """Return the lines that were shown of an error, without colours and without arguments of functions."""
    lines = [line for part in observed.outputs if part["type"] == "error" for line in part["traceback"]]
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines) or observed.text)
    return re.sub(r"(, in \w+)\(.*\)$", r"\1", text, flags=re.MULTILINE)


def _line(observed: Observed) -> str:
    """Return what titan said under the cell."""
    return " ".join([*(str(shown["shortage"]) for shown in observed.shown), observed.text])


def test_after_a_shortage_the_next_cell_has_all_the_memory(kernel: Kernel) -> None:
    before = _used(kernel)
    failed = kernel.run("%%titan\ntrain()")
    assert failed.reply["ename"] == "OutOfMemoryError"
    assert _used(kernel) == before
    assert "freed 240 MiB on GPU 0" in _line(failed)
    assert "%tb works, %debug has no locals" in _line(failed)
    again = kernel.run(FITS)
    assert (again.status, again.result) == ("ok", "240")
    assert "return train(depth - 1, boom), held" in _traceback(failed)
    assert _traceback(failed) in _traceback(kernel.run("%tb"))


@pytest.mark.parametrize("name", SHORTAGES)
def test_memory_after_equals_memory_before(kernel: Kernel, name: str) -> None:
    before = _used(kernel)
    for _ in range(3):
        failed = kernel.run(SHORTAGES[name])
        # IPython 8 shows what fails under `%%time`, and calls the cell a success.
        assert failed.status == "error" or name == "cell magic"
        assert _used(kernel) == before
        assert kernel.run(FITS).status == "ok"
    assert kernel.run("%tb").status == "ok"
    # IPython's own %tb shows nothing of a group.
    shown = kernel.run(
        "import traceback\ntraceback.print_exception(None, sys.last_value, sys.last_traceback)"
    )
    assert re.search(r"^[ |]*[\w.]+(Error|Group)\b", shown.text, flags=re.MULTILINE)
    assert shown.text.count('  File "') > 1


@pytest.mark.parametrize("name", CAUGHT)
def test_failures_that_do_not_end_the_cell_keep_nothing(kernel: Kernel, name: str) -> None:
    before = _used(kernel)
    for _ in range(2):
        assert kernel.run(CAUGHT[name]).status == "ok"
        kernel.run("gc.collect()")
        assert _used(kernel) == before
    assert kernel.run(FITS).status == "ok"


def test_functions_that_still_run_keep_what_they_hold(kernel: Kernel) -> None:
    body = """
from titan_nb.memory.reclaim import reclaim
def main():
    model = fill(10)
    def evaluate(scale=2):
        return (model.nbytes >> 20) * scale
    try:
        train()
    except RuntimeError as error:
        reclaim([error])
    return evaluate()
main()
"""
    before = _used(kernel)
    ran = kernel.run(body)
    assert (ran.status, ran.result) == ("ok", "20")
    assert _used(kernel) == before


def test_a_script_under_run(kernel: Kernel) -> None:
    (kernel.folder / "script.py").write_text("def main():\n    held = fill(10)\n    train()\nmain()\n")
    before = _used(kernel)
    ran = kernel.run("%run -i script.py")
    assert "OutOfMemoryError" in _traceback(ran)
    assert _used(kernel) == before
    assert kernel.run(FITS).status == "ok"


@pytest.mark.parametrize("name", SLOW)
def test_other_failures_give_memory_back_if_asked_to(kernel: Kernel, name: str) -> None:
    before, body = _used(kernel), SLOW[name]
    cue = "ready" if "ready" in body else ""
    assert kernel.run(Cell(body, interrupt_on=cue)).status == "error"
    assert _used(kernel) == before + 100 * MIB, "by default %debug has the variables"
    failed = kernel.run(Cell(f"%%titan --reclaim errors\n{body}", interrupt_on=cue))
    assert failed.status == "error"
    assert _used(kernel) == before
    # With what the first one left behind, unless Python has collected that of its own accord.
    assert re.search(r"freed [12]00 MiB on GPU 0", _line(failed))
    assert kernel.run("%tb").status == "ok"


def test_failed_cells_are_given_back_by_request(kernel: Kernel) -> None:
    before = _used(kernel)
    kernel.run(SLOW["error"])
    assert _used(kernel) == before + 100 * MIB
    freed = kernel.run("%titan free --failed")
    assert "freed 100 MiB on GPU 0" in freed.text
    assert _used(kernel) == before


def test_an_output_is_freed_wherever_ipython_keeps_it(kernel: Kernel) -> None:
    before = _used(kernel)
    for body in ("big = fill(40)\nbig", "big", "fill(20)", "fill(10)", "fill(5)", "fill(3)"):
        assert kernel.run(body).status == "ok"
    assert _used(kernel) == before + 78 * MIB
    freed = kernel.run("%titan free big")
    assert "freed 40.0 MiB on GPU 0" in freed.text
    assert _used(kernel) == before + 38 * MIB
    kernel.run("%reset -f out")
    assert _used(kernel) > before, "IPython itself keeps the last three"
    kernel.run("%titan free --out")
    assert _used(kernel) == before
    assert kernel.run("'still'").result == "'still'"
    assert kernel.run("_").result == "'still'"


def test_an_unknown_name_frees_nothing(kernel: Kernel) -> None:
    kernel.run("first = fill(10)")
    before = _used(kernel)
    refused = kernel.run("%titan free first frist")
    assert refused.status == "error"
    assert _used(kernel) == before
    kernel.run("del first")
