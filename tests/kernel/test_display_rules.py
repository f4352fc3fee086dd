"""Where and when a report is shown: once, under the outermost cell, and never in the user's way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel
from tests.kernel.pair import Pair, paired
from tests.kernel.stacks import NEWEST, stack_python


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with paired(stack_python(NEWEST), "%%titan") as pair:
        yield pair


def test_report_is_not_captured(pair: Pair) -> None:
    """The report belongs under the cell, and not among what the user captures."""
    observed = pair.same(
        "%%capture kept\n# plain\nprint('a')\n'b'", "%%capture kept\n%%titan\nprint('a')\n'b'"
    )
    assert len(observed.reports) == 1
    look = "kept.stdout, len(kept.outputs)"
    pair.same(look, look, reports=0)


@pytest.mark.parametrize(
    "body",
    [
        "%%capture\nimport time\ntime.sleep(0.2)",
        "import time\nfrom IPython.utils.capture import capture_output\n"
        "with capture_output():\n    get_ipython().run_cell('x = 1')\ntime.sleep(0.2)",
        "import time\nget_ipython().run_cell('x = 1')\ntime.sleep(0.2);",
    ],
)
def test_cell_inside_the_cell_is_part_of_it(pair: Pair, body: str) -> None:
    """One report, with the time of the outermost cell."""
    before = len(pair.outcomes())
    observed = pair.tracked.run(f"%%titan\n{body}")
    assert len(pair.outcomes()) - before == 1
    assert len(observed.reports) == 1
    assert observed.shown[0]["seconds"] >= 0.2


WAIT = "from IPython.display import clear_output, display\n"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (f"{WAIT}print('kept')\nclear_output(wait=True)", 0),
        (f"{WAIT}display('kept')\nclear_output(wait=True)", 0),
        (f"{WAIT}clear_output(wait=True)\nx = 1", 0),
        (f"{WAIT}clear_output(wait=True)\n5;", 0),
        (f"{WAIT}clear_output(wait=True)\nget_ipython().run_cell('clear_output(wait=True)');", 0),
        (f"{WAIT}handle = display('a', display_id=True)\nclear_output(wait=True)\nhandle.update('b')", 0),
        (f"{WAIT}print('kept')\nclear_output(wait=True)\nprint('after')", 1),
        (f"{WAIT}clear_output(wait=True)\nprint('after', end='')", 1),
        (f"{WAIT}clear_output(wait=True)\ndisplay('after')", 1),
        (f"{WAIT}clear_output(wait=True)\n'a value'", 1),
        (f"{WAIT}clear_output(wait=True)\nimport sys\nprint('after', file=sys.stderr)", 1),
        (f"{WAIT}clear_output(wait=True)\n1 / 0", 1),
        (f"{WAIT}print('gone')\nclear_output()", 1),
        (f"{WAIT}for n in range(3):\n    clear_output(wait=True)\n    display(n)", 1),
        (f"{WAIT}for n in range(3):\n    display(n)\n    clear_output(wait=True)", 0),
    ],
)
def test_nothing_of_ours_while_a_clear_waits(pair: Pair, body: str, shown: int) -> None:
    """Any output sets off the user's clear_output(wait=True): ours would wipe what he shows."""
    observed = pair.same(f"# plain\n{body}", f"%%titan\n{body}")
    assert len(observed.reports) == shown


def test_a_waiting_clear_is_forgotten_with_its_cell(pair: Pair) -> None:
    pair.tracked.run(f"%%titan\n{WAIT}clear_output(wait=True)")
    assert len(pair.tracked.run("%%titan\nx = 1").reports) == 1


def test_print_of_a_thread_after_the_cell(pair: Pair) -> None:
    """It goes where it goes without us, and touches neither of the two reports."""
    start = (
        "import threading, time\nthreading.Timer(0.3, lambda: print('from the thread', flush=True)).start()"
    )
    where = []
    for kernel, first in ((pair.plain, "# plain"), (pair.tracked, "%%titan")):
        one, two = kernel.run(f"{first}\n{start}"), kernel.run(f"{first}\ntime.sleep(1)")
        late = kernel.listen(0.2)
        texts = [(late_one.kind, late_one.message_id == one.message_id) for late_one in late]
        where.append((one.text, two.text, texts))
        assert len(one.reports) == len(two.reports) == (first == "%%titan")
    assert where[0] == where[1]


SLOW_SENSOR = """\
import time
from titan_nb import tracker
from titan_nb.energy import FakeSensor, Meter
from titan_nb.energy.probes import Discovery
pause_seconds = 0
class Slow(FakeSensor):
    def read(self):
        time.sleep(pause_seconds)
        return super().read()
slow = tracker.Tracker(meter=Meter(lambda: Discovery((Slow(blocking=True),))))
tracker.default = lambda: slow
%load_ext titan_nb
"""


@pytest.fixture(scope="module")
def slow_sensor() -> Iterator[Kernel]:
    """A kernel in which a sensor can be made to answer long after the cell."""
    with Kernel(stack_python(NEWEST)) as kernel:
        assert kernel.run(SLOW_SENSOR).status == "ok"
        kernel.run("%%titan -q\ntime.sleep(0.3)")
        yield kernel


@pytest.mark.parametrize("cell_id", ["a-cell-of-the-front-end", None])
def test_one_update_and_only_for_a_named_cell(slow_sensor: Kernel, cell_id: str | None) -> None:
    """What the counter says late is shown by one update in the cell's name, and never by a new display."""
    slow_sensor.listen(0.1)
    observed = slow_sensor.run(Cell("%%titan\npause_seconds = 0.3\ntime.sleep(0.1)", cell_id=cell_id))
    # The next cell runs while the reading is still to come.
    after = slow_sensor.run("print('next')")
    late = slow_sensor.listen(1.0)
    slow_sensor.run("pause_seconds = 0")
    ledger = slow_sensor.evaluate("[r.energy['gpu:simulated'].grade for r in slow.ledger.reports][-1]")
    (display,) = observed.reports
    at_first = display["data"]["application/vnd.titan.report+json"]["energy"]["gpu:simulated"]
    assert at_first["grade"] == "unknown"
    assert ledger != "unknown"
    assert not after.reports
    assert after.text == "next\n"
    if cell_id is None:
        assert not late
        return
    (update,) = late
    assert update.kind == "update_display_data"
    assert update.message_id == observed.message_id
    assert update.content["transient"]["display_id"] == display["transient"]["display_id"]
    refined = update.content["data"]["application/vnd.titan.report+json"]["energy"]["gpu:simulated"]
    assert refined["grade"] == ledger
