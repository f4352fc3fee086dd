"""Search by faiss, where the process has imported it: what is found, and what happens when it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from titan_nb.chat import bits, faiss_scan, kernels
from titan_nb.chat.block import Answer, Block
from titan_nb.chat.faiss_scan import FaissRows
from titan_nb.chat.index import Index
from titan_nb.chat.kernels import search


@pytest.fixture(scope="module")
def imported() -> Any:
    # The wheel is made with SWIG, whose types have no module.
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import faiss
    return faiss


@pytest.fixture(autouse=True)
def faiss(imported: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have faiss imported, also where the test before took it away."""
    monkeypatch.setitem(sys.modules, "faiss", imported)
    return imported


@pytest.fixture(scope="module", autouse=True)
def forgotten(imported: Any) -> Iterator[None]:
    """Leave the tests of other files as if it was not imported."""
    yield
    sys.modules.pop("faiss", None)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def clustered(seed: int, count: int, dimension: int = 64) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = unit(random.standard_normal((600, dimension)))[random.integers(0, 600, count)]
    return unit(centres + 0.7 * unit(random.standard_normal((count, dimension))))


def block_of(rows: np.ndarray, **more: np.ndarray) -> Block:
    return Block(rows, Index(rows.shape[1]), lambda places: places + 7, **more)


def fast(blocks: list[Block], queries: np.ndarray, k: int = 10) -> Answer:
    """Search until all codes are made."""
    for _ in range(2 + len(blocks)):
        answer = search(blocks, queries, k, mode="fast")
    return answer


def shared(one: Answer, other: Answer) -> float:
    """Return which share of the rows of one answer is in the other, with the same score."""
    common = [len(set(a) & set(b)) / len(a) for a, b in zip(one.found, other.found, strict=True)]
    return float(np.mean(common))


def test_nearly_all_is_found_with_true_scores() -> None:
    rows = clustered(1, 30_000)
    blocks = [block_of(rows)]
    queries = np.concatenate((rows[:20], clustered(2, 20)))
    answer = fast(blocks, queries)
    assert blocks[0].index.faiss_count == 30_000
    assert blocks[0].index.sketched_count == 0
    assert not answer.certified
    assert shared(search(blocks, queries, 10), answer) >= 0.99
    for query, found in zip(queries, answer.found, strict=True):
        assert [(-one.score, one.id) for one in found] == sorted((-one.score, one.id) for one in found)
        for one in found:
            assert one.id == one.row + 7
            assert one.score == round(float(rows[one.row].astype(np.float64) @ query), 12)


def test_faiss_itself_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(3, 30_000)
    blocks = [block_of(rows)]
    fast(blocks, rows[:1])
    read: list[int] = []
    monkeypatch.setattr(kernels.CodedPart, "reach", lambda *_: read.append(1) or [])
    assert [found[0].row for found in search(blocks, rows[:8], 1, mode="fast").found] == list(range(8))
    assert not read


def test_rows_without_near_ones_are_all_read() -> None:
    random = np.random.default_rng(4)
    blocks = [block_of(unit(random.standard_normal((30_000, 64))))]
    queries = unit(random.standard_normal((10, 64)))
    answer = fast(blocks, queries)
    exact = search(blocks, queries, 10)
    assert shared(exact, answer) >= 0.99
    assert all(len({one.row for one in found}) == 10 for found in answer.found)


def test_more_rows_are_added_to_the_index() -> None:
    rows = clustered(5, 40_000)
    index = Index(64)
    for count in (20_000, 20_001, 40_000):
        kept = index.faiss_rows(rows[:count])
        assert kept is not None
        assert index.faiss_count == kept.count == count
        places, estimates = kept.nearest(rows[count - 1 : count] @ bits.rotation(64), 5)
        assert places[0] == count - 1
        assert (np.diff(estimates) <= 0).all()
    assert index.faiss_rows(rows) is kept


def test_a_block_sees_no_rows_that_came_later() -> None:
    rows = clustered(6, 40_000)
    whole = block_of(rows)
    fast([whole], rows[:1])
    before = Block(rows[:30_000], whole.index, whole.ids)
    answer = search([before], rows[30_000:30_010], 10, mode="fast")
    assert whole.index.faiss_count == 40_000
    assert max(one.row for found in answer.found for one in found) < 30_000
    assert shared(search([before], rows[30_000:30_010], 10), answer) >= 0.95


def test_bytes_are_counted_and_released() -> None:
    rows = clustered(7, 32_768)
    index = Index(64)
    kept = index.faiss_rows(rows)
    assert kept is not None
    assert index.host_bytes == kept.nbytes
    assert 8 * 32_768 <= kept.nbytes <= 20 * 32_768
    index.release()
    assert (index.faiss_count, index.host_bytes) == (0, 0)
    # A search that began before goes on.
    assert kept.nearest(rows[:1] @ bits.rotation(64), 1)[0].tolist() == [0]
    assert index.faiss_rows(rows) is not kept
    assert index.faiss_count == 32_768


def test_masks_and_weights_are_read_without_faiss() -> None:
    rows = clustered(8, 30_000)
    alive = np.arange(30_000) % 3 > 0
    masked, weighed = block_of(rows, alive=alive), block_of(rows, weights=np.linspace(0.5, 1, 30_000))
    for block in (masked, weighed):
        answer = fast([block], rows[:20])
        assert block.index.faiss_count == 0
        assert shared(search([block], rows[:20], 10), answer) >= 0.95
    assert masked.index.sketched_count == 30_000
    # One block by faiss, one by sketches.
    mixed = [masked, block_of(clustered(9, 30_000))]
    queries = np.concatenate((rows[:10], mixed[1].rows[:10]))
    assert shared(search(mixed, queries, 10), fast(mixed, queries)) >= 0.95
    assert mixed[1].index.faiss_count == 30_000


def test_many_wanted_rows_are_all_found() -> None:
    rows = clustered(10, 30_000)
    blocks = [block_of(rows)]
    answer = fast(blocks, rows[:2], 1000)
    assert blocks[0].index.faiss_count == 30_000
    assert answer.found == search(blocks, rows[:2], 1000).found


def test_small_blocks_have_no_index() -> None:
    blocks = [block_of(clustered(11, faiss_scan.FEWEST_ROWS - 1)), block_of(clustered(12, 10_000))]
    fast(blocks, blocks[0].rows[:1])
    assert [block.index.faiss_count for block in blocks] == [0, 0]
    assert blocks[0].index.sketched_count > 0


def test_without_faiss_there_are_sketches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faiss_scan.available(2048)
    assert not faiss_scan.available(4096)
    rows = clustered(13, 30_000)
    for module in (None, object()):
        monkeypatch.setitem(sys.modules, "faiss", module)  # type: ignore[arg-type]
        assert not faiss_scan.available(64)
        blocks = [block_of(rows)]
        fast(blocks, rows[:1])
        assert (blocks[0].index.faiss_count, blocks[0].index.sketched_count) == (0, 30_000)


def test_an_index_that_cannot_be_made_is_not_tried_again(faiss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def fail(*_: object) -> None:
        tried.append(1)
        raise MemoryError("no memory")

    monkeypatch.setattr(faiss, "IndexRaBitQFastScan", fail)
    rows = clustered(14, 30_000)
    blocks = [block_of(rows)]
    answer = fast(blocks, rows[:20])
    assert tried == [1]
    assert (blocks[0].index.faiss_count, blocks[0].index.sketched_count) == (0, 30_000)
    assert shared(search(blocks, rows[:20], 10), answer) >= 0.95


def test_a_scan_that_fails_is_answered_exactly(faiss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = clustered(15, 30_000)
    blocks = [block_of(rows)]
    fast(blocks, rows[:1])

    def fail(*_: object) -> None:
        raise RuntimeError("Error in faiss")

    monkeypatch.setattr(FaissRows, "nearest", fail)
    assert search(blocks, rows[:20], 10, mode="fast").found == search(blocks, rows[:20], 10).found


def test_threads_and_random_numbers_stay_the_users(faiss: Any) -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    np.random.seed(3)
    state = np.random.get_state()[1].tolist()
    try:
        rows = clustered(16, 30_000)
        seen: list[int] = []
        with faiss_scan._one_thread(faiss):
            seen.append(faiss.omp_get_max_threads())
        fast([block_of(rows)], rows[:2])
        assert [*seen, faiss.omp_get_max_threads()] == [1, 2]
        with pytest.raises(ValueError, match="shape"), faiss_scan._one_thread(faiss):
            raise ValueError("wrong shape")
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
    assert np.random.get_state()[1].tolist() == state


def test_titan_does_not_import_faiss() -> None:
    program = (
        "import sys, numpy as np\n"
        "from titan_nb.chat.block import Block\n"
        "from titan_nb.chat.index import Index\n"
        "from titan_nb.chat.kernels import search\n"
        "rows = np.random.default_rng(0).standard_normal((25_000, 32), dtype=np.float32)\n"
        "rows /= np.linalg.norm(rows, axis=1, keepdims=True)\n"
        "blocks = [Block(rows, Index(32), lambda places: places)]\n"
        "for _ in range(3):\n"
        "    search(blocks, rows[:1], 1, mode='fast')\n"
        "assert 'faiss' not in sys.modules\n"
        "assert blocks[0].index.faiss_count == 0\n"
        "import faiss\n"
        "assert [one.id for one in search(blocks, rows[:1], 1, mode='fast').found[0]] == [0]\n"
        "assert blocks[0].index.faiss_count == 25_000\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
