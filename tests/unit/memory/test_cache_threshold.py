from __future__ import annotations

from typing import Any

import pytest

from titan_nb.errors import SettingsError
from titan_nb.memory.accelerator import Accelerator
from titan_nb.memory.cache_threshold import maybe_empty


class Gpu(Accelerator):
    """GPUs of 1,000 bytes."""

    def __init__(self, *levels: tuple[int, int], known: bool = True) -> None:
        super().__init__("cuda", None)
        self.levels = list(levels)
        self.known = known
        self.emptied = 0

    def keys(self) -> dict[int, str]:
        return {index: f"gpu:GPU-{index}" for index in range(len(self.levels))}

    def allocated_bytes(self, index: int) -> int:
        return self.levels[index][0]

    def reserved_bytes(self, index: int) -> int:
        return self.levels[index][1]

    def free_and_total_bytes(self, index: int) -> tuple[int, int] | None:
        return (0, 1000) if self.known else None

    def empty_cache(self) -> None:
        self.emptied += 1
        self.levels = [(allocated, allocated) for allocated, _ in self.levels]


def test_past_the_threshold_on_one_device_all_are_emptied() -> None:
    gpu = Gpu((100, 300), (200, 901))
    assert maybe_empty(gpu, 0.9) == 200 + 701
    assert gpu.emptied == 1
    assert maybe_empty(gpu, 0.9) is None


@pytest.mark.parametrize("threshold", [0.9, 0.95, 1])
def test_at_or_below_it_nothing_is_touched(threshold: float) -> None:
    gpu = Gpu((100, 900), (0, 0))
    assert maybe_empty(gpu, threshold) is None
    assert gpu.emptied == 0


def test_nothing_to_give_back() -> None:
    gpu = Gpu((950, 950))
    assert maybe_empty(gpu, 0.8) is None
    assert gpu.emptied == 0


def test_a_device_whose_size_is_unknown_or_that_is_not_in_use() -> None:
    gpu = Gpu((100, 900), known=False)
    assert maybe_empty(gpu, 0.8) is None
    assert gpu.emptied == 0


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, 80, float("nan"), True, "0.9", None])
def test_no_fraction(threshold: Any) -> None:
    with pytest.raises(SettingsError, match=r"give a fraction above 0 and up to 1, such as 0.9"):
        maybe_empty(Gpu(), threshold)
