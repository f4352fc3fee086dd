"""What a tracked cell leaves as it was, and what unloading takes away: all of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel

INSIDE = Path(__file__).parent / "inside"
CYCLES = 100
STATE = "__import__('json').dumps(__import__('traces').state())"
SEEDED = "random.seed(3); numpy.random.seed(3); torch.manual_seed(3)"

BODIES = {
    "nothing": "",
    "generators": "random.random(), numpy.random.rand(3).tolist(), torch.rand(3).tolist()",
    "error": "raise ValueError('on purpose')",
    "await": "import asyncio\nawait asyncio.sleep(0.01)",
    "error after await": "import asyncio\nawait asyncio.sleep(0.01)\n1 / 0",
    "print and display": "print('text')\ndisplay('shown')\n'value'",
    "SystemExit": "raise SystemExit(1)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "matrix": "torch.ones(2, 3)",
    "shell command": "!true",
}
LINES = ("%%titan", "%titan track", "%titan on", "%%titan --chat notes", "%%titan --zone DE -q -o report")
VERBS = (
    "status",
    "report",
    "report --format html",
    "report --format csv",
    "dashboard",
    "chat",
    "on",
    "off",
    "reset",
)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel(sys.executable, path=(INSIDE,)) as kernel:
        assert kernel.run("import json, random, numpy, torch, traces\n%load_ext titan_nb").status == "ok"
        assert kernel.run("%config TitanMagics.min_seconds = 0.0").status == "ok"
        assert kernel.run("import asyncio\nawait asyncio.sleep(0)").status == "ok"
        yield kernel


def _states(kernel: Kernel, first: str, body: str) -> list[dict[str, Any]]:
    """Return the state before, within and after a cell, all from the same seeds."""
    kernel.run(SEEDED)
    before = kernel.evaluate(STATE)
    assert kernel.run(f"{first}\nwithin = json.dumps(traces.state())\n{body}").status in ("ok", "error")
    after = kernel.evaluate(STATE)
    kernel.run("%titan off")
    return [json.loads(text) for text in (before, kernel.evaluate("within"), after)]


def _changes(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (theirs[name], ours[name]) for name in theirs if ours[name] != theirs[name]}


@pytest.mark.parametrize("body", BODIES)
def test_a_tracked_cell_changes_what_the_plain_one_changes(kernel: Kernel, body: str) -> None:
    plain = _states(kernel, "# plain", BODIES[body])
    compared = 0
    for line in LINES:
        first = line
        if line == "%titan on":
            kernel.run(line)
            first = "# plain"
        reports = kernel.evaluate("__import__('titan_nb').ledger()._numbered")
        tracked = _states(kernel, first, BODIES[body])
        assert kernel.evaluate("__import__('titan_nb').ledger()._numbered") > reports
        for moment, ours, theirs in zip(("before", "within", "after"), tracked, plain, strict=True):
            assert not _changes(ours, theirs), f"{line}, {moment}: plain, tracked"
            compared += len(theirs)
    print(f"{body}: {compared} states equal over {len(LINES)} ways of tracking")


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_changes_anything(kernel: Kernel, verb: str) -> None:
    kernel.run("%%titan -q\n1")
    before = kernel.evaluate(STATE)
    observed = kernel.run(f"%titan {verb}")
    assert observed.status == "ok", observed
    after = kernel.evaluate(STATE)
    kernel.run("%titan off")
    print(f"%titan {verb}: {len(json.loads(before))} states equal")
    assert not _changes(json.loads(after), json.loads(before))


def test_a_change_would_be_seen(kernel: Kernel) -> None:
    before, _, after = _states(
        kernel, "# plain", "import warnings\nwarnings.simplefilter('ignore')\nrandom.random()"
    )
    kernel.run("warnings.filters.pop(0)\nwarnings._filters_mutated()")
    assert set(_changes(after, before)) == {"random", "warnings.filters"}


def test_a_strange_decimal_context_is_no_obstacle(kernel: Kernel) -> None:
    assert kernel.run("import decimal\nusual = decimal.getcontext().copy()").status == "ok"
    for strange in ("decimal.Context(prec=2)", "decimal.Context(traps=[decimal.Inexact, decimal.Rounded])"):
        assert kernel.run(f"decimal.setcontext({strange})").status == "ok"
        observed = kernel.run("%%titan\nsum(range(1000))")
        table = kernel.run("%titan report")
        kernel.run("decimal.setcontext(usual)")
        assert (observed.status, observed.text, observed.result) == ("ok", "", "499500"), strange
        assert len(observed.reports) == len(table.reports) == 1, strange


def _mark(kernel: Kernel) -> int:
    mark = kernel.evaluate("__import__('traces').high_water_mark()")
    assert isinstance(mark, int)
    return mark


def test_the_high_water_mark_stays_if_asked_for(kernel: Kernel) -> None:
    """The one exception: an exact peak resets the mark, so the user can do without."""
    kernel.run("block = bytearray(128 << 20)\nblock[::4096] = b'x' * len(block[::4096])\ndel block")
    high = _mark(kernel)
    kernel.run("%config TitanMagics.exact_host_peak = False")
    for line in LINES[:2]:
        assert kernel.run(f"{line} -q\nsum(range(1000))").status == "ok"
    left_alone = _mark(kernel)
    kernel.run("%config TitanMagics.exact_host_peak = True")
    assert kernel.run("%%titan -q\nsum(range(1000))").status == "ok"
    reset = _mark(kernel)
    print(f"VmHWM: {high} KiB before, {left_alone} KiB sampled, {reset} KiB after an exact peak")
    assert left_alone >= high
    assert reset < high - (64 << 10)


def test_load_unload_and_reload_100_times() -> None:
    """Threads, descriptors and hooks are as they were after the first time, which imports what stays."""
    looks = ("__import__('traces').hooks()", "__import__('traces').resources()")
    cycle = (
        "%load_ext titan_nb",
        "%titan on",
        "%config TitanMagics.min_seconds = 0.0",
        "print('seen')\nx = 1\nx",
        "%reload_ext titan_nb",
        "%%titan\nimport asyncio\nawait asyncio.sleep(0)\nx",
        "%unload_ext titan_nb",
    )
    with Kernel(sys.executable, path=(INSIDE,)) as kernel:
        # IPython registers most of its own magics when the first one is used.
        first = "import asyncio, traces\nawait asyncio.sleep(0)\n%load_ext autoreload\n%config"
        assert kernel.run(first).status == "ok"
        untouched = kernel.evaluate(looks[0])
        loaded = None
        for number in range(CYCLES + 1):
            for body in cycle:
                observed = kernel.run(Cell(body, cell_id=f"cell-{number}"))
                assert observed.status == "ok", (number, body, observed)
                if number == 0 and body == cycle[3]:
                    loaded = kernel.evaluate(looks[0])
            if number == 0:
                once = kernel.evaluate(looks[1])
        assert loaded != untouched
        assert kernel.evaluate(looks[0]) == untouched
        assert kernel.evaluate(looks[1]) == once
    counts = f"{len(once['threads'])} threads, {len(once['files'])} files"
    print(f"{CYCLES} times: hooks {untouched['outputs']}, {counts}")
    assert not any("titan" in name for name in once["threads"])
