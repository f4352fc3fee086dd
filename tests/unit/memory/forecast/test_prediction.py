from __future__ import annotations

import dataclasses

import pytest

from titan_nb.memory.forecast import Forecast
from titan_nb.memory.forecast.reasons import reason_of

MIB = 1 << 20
WHOLE = Forecast({"cpu": 81 * MIB}, {"cpu": 449 * MIB}, None, None, (), 3, 0.4)


def test_a_whole_run() -> None:
    assert (
        WHOLE.describe() == "predicted peak 449 MiB on cpu (368 MiB more than now); ran to the end in 400 ms"
    )
    assert WHOLE.complete
    assert WHOLE.additional_bytes == {"cpu": 368 * MIB}


def test_a_part_is_at_least_that() -> None:
    part = dataclasses.replace(WHOLE, stopped_line=7, reason="data-dependent: .item()")
    assert part.describe() == (
        "predicted peak at least 449 MiB on cpu (368 MiB more than now); "
        "up to line 7, then data-dependent: .item()"
    )
    nowhere = dataclasses.replace(part, stopped_line=None)
    assert nowhere.describe().endswith("; data-dependent: .item()")


def test_what_was_refused_is_told_once() -> None:
    refused = ("line 2: use the network", "line 7: write to 'x'")
    part = dataclasses.replace(
        WHOLE, stopped_line=7, reason="a dry run does not write to 'x'", refused=refused
    )
    assert part.describe().splitlines()[1:] == ["not done: line 2: use the network"]
    assert dataclasses.replace(WHOLE, refused=refused).describe().count("not done") == 2


def test_devices_stand_side_by_side_and_crumbs_are_left_out() -> None:
    both = dataclasses.replace(
        WHOLE, peak_bytes={"cuda:0": 2000 * MIB, "cpu": 449 * MIB, "cuda:1": 4}, resident_bytes={}
    )
    assert both.describe() == (
        "predicted peak 449 MiB on cpu (449 MiB more than now), 2.0 GiB on cuda:0 (2.0 GiB more than now); "
        "ran to the end in 400 ms"
    )


def test_nothing_more_than_now() -> None:
    same = dataclasses.replace(WHOLE, peak_bytes=WHOLE.resident_bytes)
    assert same.describe().startswith("predicted: no tensor memory beyond what is held now; ")


class _Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


class UnsupportedOperatorException(RuntimeError):
    def __init__(self) -> None:
        import torch

        self.func = torch.ops.aten.add.Tensor


class DynamicOutputShapeException(UnsupportedOperatorException):
    pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError("x" * 500), f"ValueError: {'x' * 200}"),
        (_Mute(), "_Mute"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (RuntimeError("Cannot access data pointer of Tensor"), "data-dependent: the tensor's memory"),
        (RuntimeError("some Tensor"), "RuntimeError: some Tensor"),
        (UnsupportedOperatorException(), "torch cannot tell the shape of what add returns"),
        (DynamicOutputShapeException(), "data-dependent: add()"),
    ],
)
def test_reasons(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason
