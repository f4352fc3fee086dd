"""What is shown of memory: the columns that are known, what a cell left behind, and where it was short."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bs4 import BeautifulSoup

from titan_nb.records import DeviceMemory, Kept, MemoryUse, Report
from titan_nb.views import detail
from titan_nb.views.bundle import report_bundle
from titan_nb.views.simulated import simulated
from titan_nb.views.text import describe, line

Make = Callable[..., Report]

MIB = 2**20
GPU = "gpu:GPU-8f3a1c2d-1111-2222-3333-444455556666"
RAM = "ram:boot:4242:99"
SHORT = "the cell asked for 1.5 GiB; freed 240 MiB on GPU 8f3a1c2d"


def use(kept: tuple[Kept, ...] = (), **figures: int) -> MemoryUse:
    return MemoryUse(
        {
            GPU: DeviceMemory(0, 3 * MIB, MIB, "exact", "an allocator", **figures),
            RAM: DeviceMemory(MIB, 2 * MIB, MIB, "exact", "VmHWM"),
        },
        kept,
    )


def test_cache_and_others_have_columns_where_they_are_known(make: Make) -> None:
    titles, rows = detail.memory_table(make(memory=use(cached_bytes=5 * MIB, others_bytes=7 * MIB)))
    assert titles == ("device", "before", "peak", "after", "kept", "cached", "others", "how", "source")
    assert [row[5:7] for row in rows] == [("5.0 MiB", "7.0 MiB"), ("", "")]
    assert detail.memory_table(make(memory=use()))[0] == (
        *("device", "before", "peak", "after", "kept", "how", "source"),
    )
    assert "others" not in detail.memory_table(make(memory=use(cached_bytes=0)))[0]


@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        ((), ""),
        (
            (Kept("model.fc", GPU, 3 * MIB), Kept("df", RAM, MIB)),
            "left behind: model.fc 3.0 MiB on GPU 8f3a1c2d, df 1.0 MiB of RAM",
        ),
        (
            tuple(Kept(f"x{i}", GPU, MIB) for i in range(7)),
            "left behind: " + ", ".join(f"x{i} 1.0 MiB on GPU 8f3a1c2d" for i in range(5)) + " and 2 more",
        ),
    ],
)
def test_what_a_cell_left_behind_is_named(make: Make, kept: tuple[Kept, ...], shown: str) -> None:
    report = make(memory=use(kept))
    assert detail.kept_line(report) == shown
    assert " ".join(describe(report).split()).count("left behind") == bool(shown)
    page = BeautifulSoup(report_bundle(report)["text/html"], "html.parser").get_text(" ")
    assert ("left behind" in page) == bool(shown)


def test_a_shortage_is_a_second_line_that_is_not_folded_away(make: Make) -> None:
    report = make(outcome="error", error="OutOfMemoryError", shortage=SHORT)
    bundle = report_bundle(report)
    assert bundle["text/plain"].splitlines() == [line(report), SHORT]
    page = BeautifulSoup(bundle["text/html"], "html.parser")
    assert SHORT in page.get_text()
    assert page.details is not None
    assert SHORT not in page.details.get_text()
    assert " ".join(describe(report).split()).count(SHORT) == 1
    assert len(report_bundle(make())["text/plain"].splitlines()) == 1


def test_a_simulated_report_has_no_figures_of_this_machine(make: Make) -> None:
    report = simulated(make(memory=use((Kept("x", GPU, MIB),)), shortage=SHORT))
    assert report.shortage is None
    assert report.memory.kept == ()


def test_what_was_kept_survives_json(make: Make) -> None:
    report = make(memory=use((Kept("x", GPU, MIB),), cached_bytes=1, others_bytes=2), shortage=SHORT)
    assert Report.from_dict(report.to_dict()) == report
    older = report.to_dict()
    del older["kept"], older["shortage"]
    assert Report.from_dict(older).memory.kept == ()
