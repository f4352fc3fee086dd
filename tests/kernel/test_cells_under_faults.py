"""A thousand cells, each with a fault inside titan, against the same thousand in a kernel without titan.

Two sensors also hang for 10 s: for the first the thread is abandoned, the second holds up its successor. The
clock, the store and the display run on the user's own thread; a hang in one of them nobody can bound, so
there is none here.
"""

from __future__ import annotations

import compileall
import json
import math
import re
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import titan_nb
from tests.kernel.cell import Cell
from tests.kernel.inside.fault_plan import HANGS, KINDS, PLACES, Planned, plan
from tests.kernel.kernel import Kernel, Observed
from tests.kernel.transcript import difference, transcript

INSIDE = Path(__file__).parent / "inside"
SEED = 20_240
CELLS = 1_000
# A collection that looks through all of torch takes 0.1 s and may fall into any cell: nobody's own work.
SETUP = """
import gc, random, numpy, torch, namespace
random.seed(5)
numpy.random.seed(5)
gc.collect()
gc.freeze()
del gc
"""
TITAN = f"""
import injected
injection = injected.Injection({SEED}, {CELLS})
injection.install()
get_ipython().run_line_magic("load_ext", "titan_nb")
get_ipython().run_line_magic("config", "TitanMagics.min_seconds = 0.0")
del injected
get_ipython().user_ns_hidden["injection"] = get_ipython().user_ns.pop("injection")
"""
READ_ENCODER = "from titan_nb.chat.encoders.wordllama import WordLlama; WordLlama()(['a text'])"
OWN_LINE = re.compile(r"titan: ([^\n]*)\n")
OWN_KIND = re.compile(r"[^:]*: \w+")  # what failed, and the class of its exception
WATTS = 100.0


@dataclass(frozen=True)
class Played:
    """What the thousand cells showed, plain and tracked, and what the tracked kernel kept."""

    planned: list[Planned]
    plain: list[list[str]]
    tracked: list[list[str]]
    warnings: list[str]
    record: dict[str, Any]


def _lines(observed: Observed, warnings: list[str]) -> list[str]:
    """Return everything the user sees but titan's displays, and titan's own lines put aside."""
    for output in list(observed.outputs):
        if output["type"] == "stream" and output["name"] == "stderr":
            warnings += OWN_LINE.findall(output["text"])
            output["text"] = OWN_LINE.sub("", output["text"])
            if not output["text"]:
                observed.outputs.remove(output)
    return transcript(observed, 0)


def _play(kernel: Kernel, planned: list[Planned], tracked: bool, warnings: list[str]) -> list[list[str]]:
    setup = kernel.run(Cell(SETUP + (TITAN if tracked else ""), store_history=False))
    assert setup.status == "ok", transcript(setup, 0)
    seen = []
    on = False
    for number, cell in enumerate(planned):
        if tracked and cell.line == "%titan on" and not on:
            on = True
            kernel.run(Cell("%titan on", store_history=False))
        lines = _lines(kernel.run(cell.typed(tracked)), warnings)
        names = kernel.evaluate("__import__('namespace').digest(get_ipython().user_ns)")
        seen.append([f"cell {number}: {cell.place}, {cell.kind}", *lines, f"namespace: {names}"])
    return seen


@pytest.fixture(scope="module")
def played() -> Played:
    # What a cell uses first it imports: compiled, as an installation has it.
    assert compileall.compile_dir(Path(titan_nb.__file__).parent, quiet=1)
    planned = plan(SEED, CELLS)
    warnings: list[str] = []
    with Kernel(sys.executable, path=(INSIDE,)) as kernel:
        plain = _play(kernel, planned, False, [])
    # From a cold disk the encoder's files can take a second.
    subprocess.run([sys.executable, "-c", READ_ENCODER], check=True)
    with Kernel(sys.executable, path=(INSIDE,)) as kernel:
        tracked = _play(kernel, planned, True, warnings)
        record = kernel.evaluate("get_ipython().user_ns_hidden['injection'].record()")
    return Played(planned, plain, tracked, warnings, json.loads(record))


def test_what_the_user_sees_is_as_without_titan(played: Played) -> None:
    different = [difference(*pair) for pair in zip(played.plain, played.tracked, strict=True)]
    wrong = [text for text in different if text]
    print(f"seed {SEED}: {CELLS} cells, 0 crashes, {CELLS - len(wrong)} equal")
    assert not wrong, f"{len(wrong)} of {CELLS} differ, the first:\n" + "\n".join(wrong[:3])


def test_every_kind_of_fault_struck_everywhere(played: Played) -> None:
    struck = Counter(played.record["struck"])
    wanted = {f"{place}: {kind}" for place in PLACES for kind in KINDS} | {
        f"{place}: hang" for place in HANGS
    }
    print(f"seed {SEED}: {sum(struck.values())} faults struck, {len(struck)} combinations of place and kind")
    assert set(struck) == wanted
    assert sum(struck.values()) >= CELLS * 0.8


def test_each_cell_has_its_report(played: Played) -> None:
    outcomes = [report["outcome"] for report in played.record["reports"]]
    expected = ["error" if "reply: error" in lines else "ok" for lines in played.plain]
    print(f"seed {SEED}: {len(outcomes)} reports of {CELLS} cells")
    assert outcomes == [*expected[: CELLS * 4 // 5], "ok", *expected[CELLS * 4 // 5 :]]


def test_no_report_holds_an_invented_number(played: Played) -> None:
    """Seconds lie within what another clock saw around titan; what the device drew lies in the interval."""
    reports = played.record["reports"]
    del reports[CELLS * 4 // 5]  # the cell that switched titan on
    known = 0
    wrong = []
    for number, (cell, report, outside) in enumerate(
        zip(played.planned, reports, played.record["outside_seconds"], strict=True)
    ):
        what = f"cell {number} ({cell.place}, {cell.kind}, use {cell.call}): {report}"
        if not 0 < report["seconds"] <= outside:
            wrong.append(f"duration of {what}")
        true = WATTS * report["seconds"]
        for joules, low, high in report["energy"].values():
            if joules is not None:
                known += 1
                if not (
                    0 <= low <= true * 1.001 and true * 0.999 <= high < math.inf and low <= joules <= high
                ):
                    wrong.append(f"energy of {what}")
    print(f"seed {SEED}: {len(reports)} cells, {known} known energies, {len(wrong)} wrong figures")
    assert not wrong, "\n".join(wrong[:20])
    assert known >= CELLS


def test_at_most_one_warning_of_a_kind(played: Played) -> None:
    on_stderr = Counter(OWN_KIND.match(line)[0] for line in played.warnings)  # type: ignore[index]
    notes = Counter(
        note
        for report in played.record["reports"]
        for note in report["notes"]
        if re.search(r"is unknown: |left out|search for", note) and not note.startswith("CO2e")
    )
    print(f"seed {SEED}: {sum(on_stderr.values())} lines on stderr, {sum(notes.values())} notes:")
    print(*on_stderr, *notes, sep="\n")
    assert on_stderr
    assert notes
    assert set(on_stderr.values()) == {1}
    assert set(notes.values()) == {1}
    assert len(notes) <= len(KINDS)


def test_at_most_fifty_milliseconds_are_added(played: Played) -> None:
    """The median is the promise; the longest may be ten times that, for the machine may be busy."""
    own = [seconds * 1000 for seconds in played.record["own_seconds"]]
    print(
        f"seed {SEED}: titan's own work per cell: median {statistics.median(own):.2f} ms, "
        f"p99 {statistics.quantiles(own, n=100)[98]:.1f} ms, longest {max(own):.1f} ms"
    )
    slowest = max(range(len(own)), key=own.__getitem__)
    print(f"longest: cell {slowest}, {played.planned[slowest]}")
    assert min(own) > 0
    assert statistics.median(own) <= 50
    assert max(own) <= 500
    hung = [own[n] for n, cell in enumerate(played.planned) if cell.kind == "hang"]
    print(f"cells with a sensor that hangs for 10 s: {', '.join(f'{ms:.1f} ms' for ms in hung)}")
    assert statistics.median(hung) <= 2 * 20 + 10
