from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.errors import SettingsError
from titan_nb.records import GRADES, Carbon, CellRef, DeviceMemory, Energy, MemoryUse, Report

joules = st.floats(min_value=0, max_value=1e12, allow_nan=False)


@st.composite
def energies(draw: st.DrawFn) -> Energy:
    grade = draw(st.sampled_from(GRADES))
    if grade == "unknown":
        return Energy.unknown(draw(st.text()))
    low, value, high = sorted(draw(st.lists(joules, min_size=3, max_size=3)))
    return Energy(value, low, high, grade, draw(st.text()))


@st.composite
def reports(draw: st.DrawFn) -> Report:
    size = st.integers(0, 2**40)
    memory = draw(
        st.dictionaries(
            st.text(),
            st.builds(
                DeviceMemory,
                size,
                size,
                size,
                st.sampled_from(["exact", "sampled", "shared window"]),
                st.text(),
            ),
        )
    )
    return Report(
        number=draw(st.integers(1, 10**6)),
        cell=draw(
            st.none() | st.builds(CellRef, st.integers(1), st.none() | st.integers(1), st.none() | st.text())
        ),
        label=draw(st.none() | st.text()),
        outcome=draw(st.sampled_from(["ok", "error", "interrupted"])),
        error=draw(st.none() | st.text()),
        started="2026-01-01T00:00:00.000+00:00",
        seconds=draw(joules),
        cpu_seconds=draw(joules),
        energy=draw(st.dictionaries(st.text(), energies())),
        carbon=draw(
            st.none()
            | st.builds(Carbon, joules, joules, joules, joules, st.none() | st.text(), st.text(), st.none())
        ),
        memory=MemoryUse(memory),
        notes=tuple(draw(st.lists(st.text()))),
        chat=draw(st.none() | st.text()),
        parent=draw(st.none() | st.integers(1)),
        shared_window=draw(st.booleans()),
    )


@given(reports())
def test_a_report_survives_json(report: Report) -> None:
    assert Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_a_report_of_another_layout_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"layout 99.*reads layout 1"):
        Report.from_dict({"schema": 99})


@pytest.mark.parametrize("data", [None, 5, {}, {"schema": 1}, {"schema": 1, "cell": 5, "carbon": None}])
def test_what_is_no_report_is_refused(data: Any) -> None:
    with pytest.raises(SettingsError, match="cannot read a report"):
        Report.from_dict(data)


@given(st.dictionaries(st.text(min_size=1), energies()))
def test_a_sum_covers_the_known_devices_and_names_the_others(parts: dict[str, Energy]) -> None:
    total = Energy.sum(parts)
    known = [part for part in parts.values() if part.joules is not None]
    if not known:
        assert total.grade == "unknown"
        assert total.joules is None
        return
    assert total.joules == pytest.approx(sum(part.joules for part in known))
    assert total.low == pytest.approx(sum(part.low for part in known))
    assert total.high == pytest.approx(sum(part.high for part in known))
    assert GRADES.index(total.grade) == max(GRADES.index(part.grade) for part in known)
    if len(known) < len(parts):
        assert "unknown" in total.source


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CellRef(1).number = 2  # type: ignore[misc]


def test_kept_memory_is_the_difference() -> None:
    assert DeviceMemory(100, 300, 160, "exact", "VmHWM").kept_bytes == 60
    assert DeviceMemory(100, 300, 40, "exact", "VmHWM").kept_bytes == -60
