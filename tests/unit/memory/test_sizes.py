from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.errors import SettingsError, TitanError
from titan_nb.memory.sizes import bytes_of


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("8GiB", 8 << 30),
        ("8GB", 8 * 10**9),
        ("8 gb", 8 * 10**9),
        ("512M", 512 << 20),
        ("1.5 g", 3 << 29),
        ("0.5GiB", 1 << 29),
        (".5gib", 1 << 29),
        ("2.k", 2048),
        ("1073741824", 1 << 30),
        ("100 B", 100),
        ("4Gi", 4 << 30),
        ("1e9", 10**9),
        (" 3 TiB ", 3 << 40),
        ("2PB", 2 * 10**15),
        ("1", 1),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert bytes_of(text) == size_bytes


NONSENSE = [
    "-1",
    "0",
    "1e99",
    "nan",
    "inf",
    "",
    "  ",
    "8 apples",
    "GiB",
    "1.2.3",
    "0.5",
    "8 iB",
    "8 kk",
    "٣",
    "9e9999",
]


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_says_what_to_give(text: str) -> None:
    with pytest.raises(SettingsError, match=r"cannot use .*give a size in bytes such as 512MiB, 8GiB"):
        bytes_of(text)


@pytest.mark.parametrize("text", ["8 Gb", "8Gib", "512Mb", "8 b"])
def test_bits_are_no_bytes(text: str) -> None:
    with pytest.raises(SettingsError, match=r"small b means bits; give bytes, such as 512MiB or 8GiB"):
        bytes_of(text)


@given(st.text())
def test_any_text_is_a_size_or_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(TitanError):
        assert 1 <= bytes_of(text) < 2**63


@given(st.integers(1, 2**53), st.sampled_from(["", "B", "K", "KiB", "kB"]))
def test_whole_numbers_are_exact(number: int, unit: str) -> None:
    size = {"": 1, "B": 1, "K": 1024, "KiB": 1024, "kB": 1000}[unit]
    if number * size < 2**53:
        assert bytes_of(f"{number}{unit}") == number * size
