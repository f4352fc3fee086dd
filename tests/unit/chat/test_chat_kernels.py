"""Search against brute force in float64, on random rows and on rows made to mislead it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from titan_nb.chat import bits, kernels
from titan_nb.chat.block import Answer, Block
from titan_nb.chat.index import Index
from titan_nb.chat.kernels import search
from titan_nb.chat.parts import CodedPart, DevicePart, RowsPart, SparsePart

Table = Callable[[np.random.Generator, int, int], np.ndarray]


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def independent(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return unit(random.standard_normal((count, dimension), dtype=np.float32))


def duplicates(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    return independent(random, max(1, count // 50), dimension)[random.integers(0, max(1, count // 50), count)]


def clustered(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    centres = independent(random, max(1, count // 100), dimension)[
        random.integers(0, max(1, count // 100), count)
    ]
    return unit(centres + 0.3 * independent(random, count, dimension))


def tight(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Differences far below what eight bits can tell."""
    centres = independent(random, 20, dimension)[random.integers(0, 20, count)]
    return unit(centres + 1e-4 * random.standard_normal((count, dimension), dtype=np.float32))


def near_ties(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """One row, with single numbers a few units in the last place away."""
    rows = np.repeat(independent(random, 1, dimension), count, axis=0)
    places = random.integers(0, dimension, count)
    rows[np.arange(count), places] *= (1 + random.integers(-3, 4, count) * 2.0**-23).astype(np.float32)
    return rows


def one_hot(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    signs = random.choice(np.float32([-1, 1]), (count, 1))
    return np.eye(dimension, dtype=np.float32)[random.integers(0, dimension, count)] * signs


def spiky(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """A few large numbers a row and many that eight bits make to zero."""
    return unit(random.standard_normal((count, dimension)) ** 7)


def tiny_parts(random: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Rows that were made from tiny and huge numbers."""
    return unit(
        random.standard_normal((count, dimension)) * 10.0 ** random.integers(-18, 1, (count, dimension))
    )


TABLES: list[Table] = [independent, duplicates, clustered, tight, near_ties, one_hot, spiky, tiny_parts]


def split(rows: np.ndarray, cuts: list[int], numbers: np.ndarray) -> list[Block]:
    return [
        Block(part, Index(rows.shape[1]), lambda places, own=own: own[places])
        for part, own in zip(np.split(rows, cuts), np.split(numbers, cuts), strict=True)
    ]


def brute_force(rows: np.ndarray, weights: np.ndarray, query: np.ndarray) -> np.ndarray:
    """The float64 scores, row by row: the weighed sum of exact products, rounded."""
    exact = query.astype(np.float64)
    parts = [(rows[first : first + 4096] * exact).sum(axis=1) for first in range(0, len(rows), 4096)]
    return (np.concatenate([*parts, np.empty(0)]) * weights).round(12) + 0.0


def check(answer: Answer, blocks: list[Block], queries: np.ndarray, k: int) -> None:
    """Compare with brute force over all rows, ties by number."""
    rows = np.concatenate([block.rows for block in blocks])
    numbers = np.concatenate([block.ids(np.arange(len(block.rows))) for block in blocks])
    alive = np.concatenate([np.ones(len(b.rows), dtype=bool) if b.alive is None else b.alive for b in blocks])
    weights = np.concatenate([np.ones(len(b.rows)) if b.weights is None else b.weights for b in blocks])
    rows, numbers, weights = rows[alive], numbers[alive], weights[alive]
    assert answer.certified
    assert len(answer.found) == len(queries)
    for query, found in zip(queries, answer.found, strict=True):
        scores = brute_force(rows, weights, query)
        best = np.lexsort((numbers, -scores))[:k]
        assert [one.id for one in found] == numbers[best].tolist()
        assert [one.score for one in found] == scores[best].tolist()
        for one in found[:3]:
            assert blocks[one.block].ids(np.array([one.row])).tolist() == [one.id]


@pytest.fixture
def small_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use codes for some thousand rows, as for some hundred thousand otherwise."""
    monkeypatch.setattr(kernels, "CODED_ROWS", 2000)
    monkeypatch.setattr(kernels, "_BLOCK_ROWS", 300)
    monkeypatch.setattr(kernels, "_PART_ROWS", 2500)


def ask(
    table: Table, seed: int, count: int, dimension: int, queries: int, cuts: list[int], k: int = 10
) -> None:
    """Search a table three times, in float32, while codes are made, and by codes, and compare."""
    random = np.random.default_rng(seed)
    rows = table(random, count, dimension)
    blocks = split(rows, cuts, random.permutation(count))
    asked = independent(random, queries, dimension)
    # Queries among the rows are those with the hardest ties.
    asked[::2] = rows[random.integers(0, count, len(asked[::2]))]
    for _ in range(2):
        check(search(blocks, asked[:2], k), blocks, asked[:2], k)
    check(search(blocks, asked, k), blocks, asked, k)
    for query in asked[:4]:
        check(search(blocks, query[None], k), blocks, query[None], k)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_reduced_certified_search_equals_brute_force(table: Table, small_plan: None) -> None:
    """1,008 queries in all on 6,000 rows: a reduced version of the slow test on 200,000 rows below."""
    for seed, (dimension, cuts) in enumerate([(48, []), (64, [100, 3000, 3000]), (128, [5999])]):
        ask(table, seed, 6000, dimension, 42, cuts)


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_certified_search_equals_brute_force(table: Table) -> None:
    """1,024 queries in all on 200,000 rows of 128 numbers, in blocks as a memory has them; some minutes."""
    ask(table, 7, 200_000, 128, 128, [65_536, 131_072, 196_608])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_small_memories(table: Table) -> None:
    for seed, (count, cuts) in enumerate([(1, []), (2, [1]), (1000, []), (5000, [1, 2, 3, 4000])]):
        for k in (1, 10, 6000):
            ask(table, seed, count, 32, 3, cuts, k)


@pytest.mark.parametrize("dimension", [1, 2, 7])
def test_short_rows_by_codes(dimension: int, small_plan: None) -> None:
    ask(independent, dimension, 4000, dimension, 6, [2000])


def test_many_tiny_blocks(small_plan: None) -> None:
    ask(independent, 1, 5000, 24, 5, list(range(10, 5000, 10)))


@pytest.mark.parametrize("k", [1, 3999, 4000, 9000])
def test_k_up_to_all_rows(k: int, small_plan: None) -> None:
    ask(clustered, 2, 4000, 16, 3, [1000], k)


@pytest.mark.parametrize("count", [0, 50, 3000])
def test_nothing_asked_nothing_found(count: int) -> None:
    rows = independent(np.random.default_rng(0), count, 8)
    blocks = split(rows, [], np.arange(count))
    queries = independent(np.random.default_rng(1), 2, 8)
    assert search(blocks, queries, 0) == Answer([[], []], True, 0)
    assert search(blocks, queries[:0], 5) == Answer([], True, 0)
    assert search([], queries, 5) == Answer([[], []], True, 0)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("count", [870, 6000])
def test_masks_and_weights(share: float, weighed: bool, count: int, small_plan: None) -> None:
    random = np.random.default_rng(11)
    rows = clustered(random, count, 48)
    blocks = [
        Block(
            block.rows,
            block.index,
            block.ids,
            alive=random.random(len(block.rows)) < share,
            weights=random.random(len(block.rows)) if weighed else None,
        )
        for block in split(rows, [count // 3], random.permutation(count))
    ]
    queries = rows[:6]
    for _ in range(3):
        check(search(blocks, queries, 7), blocks, queries, 7)
        check(search(blocks[:1], queries[:1], 7), blocks[:1], queries[:1], 7)


def test_weights_of_nothing_and_of_one(small_plan: None) -> None:
    rows = independent(np.random.default_rng(3), 3000, 48)
    [block] = split(rows, [], np.arange(3000))
    weights = np.tile([0.0, 1.0, 1e-300], 1000)
    blocks = [Block(rows, block.index, block.ids, weights=weights)]
    for _ in range(2):
        check(search(blocks, rows[:3], 2990), blocks, rows[:3], 2990)


def test_the_answer_is_for_the_rows_of_the_block(small_plan: None) -> None:
    """Rows that came later have codes already, and rows before them have none yet."""
    rows = independent(np.random.default_rng(4), 6000, 48)
    index = Index(48)
    index.extend(rows)
    numbers = np.arange(6000)
    early = [Block(rows[:3000], index, lambda places: numbers[places])]
    check(search(early, rows[:3], 5), early, rows[:3], 5)
    later = Index(48)
    later.extend(rows[:100])
    late = [Block(rows, later, lambda places: numbers[places])]
    for _ in range(2):
        check(search(late, rows[-3:], 5), late, rows[-3:], 5)
    assert later.count == 6000


def kinds(blocks: list[Block], *, fast: bool = False) -> list[type]:
    return [type(part) for part in kernels._parts(kernels.Table(blocks), fast=fast)]


def test_the_plan_by_size() -> None:
    random = np.random.default_rng(5)
    rows = independent(random, 40_000, 8)
    blocks = split(rows, [10_000, 10_010, 10_020, 30_000], np.arange(40_000))
    few = blocks[0]
    assert kinds([few]) == kinds([few]) == [RowsPart]
    # The first search over a block makes no codes; small blocks go together, and never have any.
    assert kinds(blocks) == [RowsPart]
    assert kinds(blocks) == [CodedPart, RowsPart, CodedPart, CodedPart]
    assert [block.index.count for block in blocks] == [10_000, 0, 0, 19_980, 10_000]
    alive = np.zeros(10_000, dtype=bool)
    alive[:20] = True
    assert (
        kinds([*blocks[:4], Block(blocks[4].rows, blocks[4].index, blocks[4].ids, alive)])[-1] is SparsePart
    )


def test_one_search_makes_codes_for_some_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_NEW_CODES", 12_000)
    blocks = split(
        independent(np.random.default_rng(6), 40_000, 8), [10_000, 20_000, 30_000], np.arange(40_000)
    )
    counts = []
    for _ in range(4):
        kinds(blocks)
        counts.append(sum(block.index.count for block in blocks))
    assert counts == [0, 20_000, 40_000, 40_000]


def warm(blocks: list[Block], query: np.ndarray) -> None:
    for _ in range(2 + 2 * len(blocks)):
        search(blocks, query, 10, mode="fast")


def test_fast_finds_nearly_all_and_says_that_it_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(8)
    rows = unit(
        independent(random, 800, 128)[random.integers(0, 800, 60_000)]
        + 0.7 * independent(random, 60_000, 128)
    )
    blocks = split(rows, [30_000], random.permutation(60_000))
    queries = rows[:60]
    exact = search(blocks, queries, 10)
    check(exact, blocks, queries[:60], 10)
    warm(blocks, queries[:1])
    fast = search(blocks, queries, 10, mode="fast")
    assert not fast.certified
    kept = sum(
        len({one.id for one in a} & {one.id for one in b})
        for a, b in zip(exact.found, fast.found, strict=True)
    )
    assert kept >= 0.995 * 600
    true = {one.id: one.score for found in exact.found[:1] for one in found}
    assert all(true.get(one.id, one.score) == one.score for one in fast.found[0])
    alive = np.arange(30_000) % 2 == 0
    half = [Block(blocks[0].rows, blocks[0].index, blocks[0].ids, alive), blocks[1]]
    for found in search(half, queries, 10, mode="fast").found:
        assert all(one.block == 1 or one.row % 2 == 0 for one in found)


def test_fast_is_exact_where_it_would_not_be_faster() -> None:
    random = np.random.default_rng(9)
    rows = independent(random, 30_000, 64)
    blocks = split(rows, [100], random.permutation(30_000))
    queries = independent(random, 3, 64)
    warm(blocks, queries[:1])
    assert blocks[1].index.sketched_count == 29_900
    check(search(blocks, queries, 10, mode="fast"), blocks, queries, 10)
    few = split(rows[:500], [], np.arange(500))
    check(search(few, queries, 10, mode="fast"), few, queries, 10)


def test_fast_without_counted_bits_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "available", lambda dimension: False)
    rows = clustered(np.random.default_rng(10), 25_000, 32)
    blocks = split(rows, [], np.arange(25_000))
    warm(blocks, rows[:1])
    check(search(blocks, rows[:2], 5, mode="fast"), blocks, rows[:2], 5)
    assert blocks[0].index.sketched_count == 0


def test_weights_are_not_left_to_chance() -> None:
    rows = clustered(np.random.default_rng(12), 25_000, 32)
    [block] = split(rows, [], np.arange(25_000))
    blocks = [Block(rows, block.index, block.ids, weights=np.linspace(0, 1, 25_000))]
    warm(blocks, rows[:1])
    check(search(blocks, rows[:2], 5, mode="fast"), blocks, rows[:2], 5)


class OnDevice:
    """Rows with a copy that a device would hold, in half precision."""

    def __init__(self, rows: np.ndarray, count: int, *, fails: bool = False, each: bool = True) -> None:
        self.count = count
        self._halves = torch.from_numpy(rows[:count].astype(np.float16))
        errors = np.linalg.norm(rows[:count] - rows[:count].astype(np.float16).astype(np.float64), axis=1)
        bound = torch.from_numpy(errors * 1.001 + 1e-4)
        self._bound = bound[None] if each else bound.max().reshape(1, 1)
        self._fails = fails
        self.calls = 0

    def scores(self, queries: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        if self._fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.from_numpy(queries) @ self._halves.float().T, self._bound


@pytest.mark.parametrize("held", [1, 700, 1500, 2000])
@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("weighed", [False, True])
def test_rows_on_a_device_give_the_same_answer(held: int, each: bool, fails: bool, weighed: bool) -> None:
    random = np.random.default_rng(13)
    rows = tight(random, 2000, 24)
    numbers = random.permutation(2000)
    index = Index(24)
    device_rows = OnDevice(rows, held, fails=fails, each=each)
    index.device_rows = device_rows  # type: ignore[assignment]
    alive = random.random(1500) < 0.8
    weights = random.random(1500) if weighed else None
    blocks = [
        Block(rows[:1500], index, lambda places: numbers[places], alive, weights),
        Block(rows[1500:], Index(24), lambda places: numbers[1500:][places]),
    ]
    assert kinds(blocks) == [DevicePart, RowsPart] if held >= 1500 else [DevicePart, RowsPart, RowsPart]
    check(search(blocks, rows[:5], 9), blocks, rows[:5], 9)
    check(search(blocks[:1], rows[:1], 2500), blocks[:1], rows[:1], 2500)
    assert device_rows.calls == 2


def test_a_copy_that_was_dropped_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = independent(np.random.default_rng(14), 300, 24)
    index = Index(24)
    blocks = [Block(rows, index, lambda places: places)]
    part = DevicePart(blocks[0], 0, 300)
    monkeypatch.setattr(kernels, "_parts", lambda table, *, fast: [part])
    check(search(blocks, rows[:2], 4), blocks, rows[:2], 4)


@contextlib.contextmanager
def user_settings() -> Iterator[None]:
    """What a cell may have switched on for its own work."""
    precision, dtype = torch.get_float32_matmul_precision(), torch.get_default_dtype()
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize("queries", [1, 6])
def test_settings_of_the_user_change_nothing(queries: int, small_plan: None) -> None:
    random = np.random.default_rng(15)
    rows = tight(random, 6000, 64)
    blocks = split(rows, [2500], random.permutation(6000))
    asked = rows[:queries]
    with user_settings():
        for _ in range(3):
            answer = search(blocks, asked, 10)
    check(answer, blocks, asked, 10)
    assert [block.index.count for block in blocks] == [2500, 3500]


def test_a_mode_that_fakes_tensors_changes_nothing(small_plan: None) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    random = np.random.default_rng(16)
    rows = independent(random, 6000, 64)
    blocks = split(rows, [], np.arange(6000))
    with FakeTensorMode():
        for _ in range(3):
            answer = search(blocks, rows[:1], 10)
    check(answer, blocks, rows[:1], 10)


def test_random_numbers_threads_and_grad_stay_the_users(small_plan: None) -> None:
    rows = clustered(np.random.default_rng(17), 40_000, 64)
    blocks = split(rows, [20_000], np.arange(40_000))
    np.random.seed(1)
    torch.manual_seed(1)
    before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    threads = torch.get_num_threads()
    for mode in ("exact", "fast", "fast", "fast"):
        search(blocks, rows[:2], 5, mode=mode)
    assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def test_torch_is_not_imported_and_not_needed() -> None:
    program = (
        "import sys, numpy as np\n"
        "from titan_nb.chat.block import Block\n"
        "from titan_nb.chat.index import Index\n"
        "from titan_nb.chat.kernels import search\n"
        "random = np.random.default_rng(0)\n"
        "rows = random.standard_normal((25_000, 32), dtype=np.float32)\n"
        "rows /= np.linalg.norm(rows, axis=1, keepdims=True)\n"
        "blocks = [Block(rows, Index(32), lambda places: places)]\n"
        "for mode in ('exact', 'exact', 'exact', 'fast'):\n"
        "    answer = search(blocks, rows[:3], 1, mode=mode)\n"
        "    assert [found[0].id for found in answer.found] == [0, 1, 2]\n"
        "assert blocks[0].index.count == 25_000\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
