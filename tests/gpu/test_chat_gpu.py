"""The chat memory on a real GPU: the same answers as on the host, within the bounds, and room for others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from titan_nb.chat import ChatMemory
from titan_nb.chat.gpu import DeviceRows
from titan_nb.memory.headroom import ask_for_everything

pytestmark = pytest.mark.gpu


def unit(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=[("highest", False), ("high", True), ("medium", True)], ids=lambda one: one[0])
def rules(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever the user lets torch round in his own products."""
    precision, reduced = request.param
    matmul = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision(), matmul.allow_fp16_reduced_precision_reduction
    torch.set_float32_matmul_precision(precision)
    matmul.allow_fp16_reduced_precision_reduction = reduced
    yield
    torch.set_float32_matmul_precision(before[0])
    matmul.allow_fp16_reduced_precision_reduction = before[1]


@pytest.mark.parametrize("dimension", [3, 384, 4096])
@pytest.mark.parametrize("queries", [1, 64])
def test_no_score_is_further_off_than_its_bound(rules: None, dimension: int, queries: int) -> None:
    rows = unit(min(20_000, 8_000_000 // dimension), dimension)
    rows[:200] = np.abs(rows[:200])  # sums that only grow
    asked = np.concatenate((rows[:queries], unit(queries, dimension, seed=1)))
    scores, bound = DeviceRows(rows, "cuda").scores(asked)
    true = asked.astype(np.float64) @ rows.astype(np.float64).T
    assert ((scores - bound).cpu().numpy() <= true).all()
    assert (true <= (scores + bound).cpu().numpy()).all()
    assert bound.max() < 4e-3


def test_a_memory_answers_as_on_the_host(rules: None) -> None:
    rows = unit(100_000, 384)
    rows[500:600] = rows[7]
    rows[600:700] = rows[7] + 1e-6 * unit(100, 384, seed=2)
    queries = np.concatenate((rows[:8], unit(8, 384, seed=1)))
    found = []
    for device in (None, "cuda:0"):
        memory = ChatMemory(device=device)
        memory.add("a", rows[:70_000])
        memory.add("b", rows[70_000:])
        answers = [memory.search(queries, k=150) for _ in range(2)]
        found += [[[(hit.id, hit.score) for hit in hits] for hits in answer] for answer in answers]
        assert (memory.stats().tiers["gpu"] > 0) == (device is not None)
        if device is not None:
            given = ask_for_everything()
            assert given > 100_000 * 384 * 2
            assert memory.stats().tiers["gpu"] == 0
        memory.close()
    assert all(one == found[0] for one in found[1:])


def test_a_full_gpu_is_left_to_who_fills_it() -> None:
    rows = unit(50_000, 384)
    memory = ChatMemory(device="cuda:0")
    memory.add("a", rows)
    expected = [hit.id for hit in memory.search(rows[3], k=20)]
    copies = memory.stats().tiers["gpu"]
    assert copies > 0
    assert ask_for_everything() == copies
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    held = torch.empty(free - total // 10, dtype=torch.uint8, device="cuda")
    assert [hit.id for hit in memory.search(rows[3], k=20)] == expected
    assert memory.stats().tiers["gpu"] == 0
    del held
    torch.cuda.empty_cache()
    assert [hit.id for hit in memory.search(rows[3], k=20)] == expected
    assert memory.stats().tiers["gpu"] == copies
    memory.close()
