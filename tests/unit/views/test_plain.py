from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.views.devices import by_kind, device_name, kind
from titan_nb.views.plain import json_ready, plain, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fit", "fit"),
        ("two\nlines\tand  spaces", "two lines and spaces"),
        ("a\0b\x1b[31mc", "a b [31mc"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud800", "half \N{REPLACEMENT CHARACTER}"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("", ""),
    ],
)
def test_plain_text_is_one_printable_line(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_plain_text_is_cut_with_a_mark() -> None:
    assert plain("x" * 11, 10) == "x" * 9 + "…"
    assert plain("x" * 10, 10) == "x" * 10
    assert plain("word word", 6) == "word…"


@given(st.text(), st.integers(min_value=1, max_value=40))
def test_plain_text_holds_to_its_limit(text: str, limit: int) -> None:
    shown = plain(text, limit)
    assert len(shown) <= limit
    assert len(shown.splitlines()) <= 1
    assert plain(shown, limit) == shown


def test_width_counts_columns() -> None:
    assert width("abc") == 3
    assert width("训练") == 4
    assert width("e\u0301") == 1


def test_json_ready_cleans_all_levels() -> None:
    assert json_ready({"a": [math.nan, (1.5, math.inf)], "b\ud800": None, "c": True}) == {
        "a": [None, [1.5, None]],
        "b?": None,
        "c": True,
    }


@pytest.mark.parametrize(
    ("key", "name", "kind_name"),
    [
        ("gpu:GPU-8f3a1c2d-1111-2222", "GPU 8f3a1c2d", "GPU"),
        ("gpu:cuda0", "GPU cuda0", "GPU"),
        ("gpu:simulated", "GPU simulated", "GPU"),
        ("gpu:", "GPU", "GPU"),
        ("cpu:boot-id:pkg0", "CPU pkg0", "CPU"),
        ("cpu-process:boot:1:2", "CPU (this process)", "CPU"),
        ("ram:boot:1:2", "RAM (this process)", "RAM"),
        ("npu:0", "npu:0", "npu"),
        ("", "device", "device"),
    ],
)
def test_device_keys_get_short_names(key: str, name: str, kind_name: str) -> None:
    assert device_name(key) == name
    assert kind(key) == kind_name


def test_kinds_come_in_a_fixed_order() -> None:
    groups = by_kind({"npu:0": 1, "ram:x": 2, "cpu:a:0": 3, "gpu:a": 4, "gpu:b": 5})
    assert list(groups.items()) == [("GPU", [4, 5]), ("CPU", [3]), ("RAM", [2]), ("npu", [1])]
