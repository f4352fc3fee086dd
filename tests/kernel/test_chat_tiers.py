"""A chat memory with copies on a GPU, beside cells that need the room, in a real kernel on the fake GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernel import Kernel

SETUP = """\
rows = np.random.default_rng(0).standard_normal((20_000, 256))
def filled(**given):
    memory = titan_nb.ChatMemory(**given)
    memory.add("a", rows)
    return memory
def found(memory):
    return [(hit.id, hit.score) for hit in memory.search(rows[7] + rows[8], k=20)]
expected = found(filled())
"""
COPIES = "memory.stats().tiers['gpu'] >> 20"  # 9 MiB when they are there


@pytest.fixture(scope="module")
def loaded(fake_gpu_kernel: Kernel) -> Kernel:
    assert fake_gpu_kernel.run(SETUP).status == "ok"
    return fake_gpu_kernel


@pytest.fixture(params=["device='fakegpu'", "budgets={'gpu': '20MiB'}"])
def kernel(loaded: Kernel, request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A kernel whose memory has copies there; the second may use a GPU only once the user does."""
    assert loaded.run(f"memory = filled({request.param})\nusers = gpu(150)").status == "ok"
    assert loaded.run("assert found(memory) == expected").status == "ok"
    assert loaded.evaluate(COPIES) == 9
    yield loaded
    ended = loaded.run("assert found(memory) == expected\nmemory.close()\ndel users\n%titan free --all")
    assert ended.status == "ok"
    assert loaded.evaluate("torch.fakegpu.memory_allocated()") == 0


def test_copies_make_room_before_a_cell_needs_it(kernel: Kernel) -> None:
    assert kernel.run("more = gpu(38)").status == "ok"
    assert kernel.evaluate(COPIES) == 9  # a fifth of the device is free all the same
    assert kernel.run("more = more, gpu(10)").status == "ok"
    assert kernel.evaluate(COPIES) == 0
    assert kernel.run("%%titan\nbig = gpu(57)").status == "ok"  # with the copies, 48 MiB would be free
    assert kernel.run("del big\nassert found(memory) == expected").status == "ok"
    assert kernel.evaluate(COPIES) == 0  # they do not come back while memory is short
    assert kernel.run("del more\nassert found(memory) == expected").status == "ok"
    assert kernel.evaluate(COPIES) == 9


def test_after_a_shortage_the_same_cell_has_all_the_room(kernel: Kernel) -> None:
    failed = kernel.run("%%titan\nbig = gpu(100)")
    assert failed.reply["ename"] == "OutOfMemoryError"
    (report,) = failed.shown
    freed, held, *_ = report["shortage"].split("; ")
    assert freed.startswith("freed 9.8 MiB on GPU 0")
    assert held.startswith("still in use: 150 MiB on GPU 0")
    assert kernel.evaluate(COPIES) == 0
    assert kernel.run("%%titan\nbig = gpu(100)").status == "ok"
    assert kernel.run("del big").status == "ok"


def test_copies_go_before_a_batch_is_halved(kernel: Kernel) -> None:
    fitted = (
        "fit = titan_nb.fit_batch(lambda size: gpu(size).nbytes, start=100)\nfit.batch_size, fit.failed_sizes"
    )
    assert kernel.run(fitted).result == "(100, ())"
    assert kernel.evaluate(COPIES) == 0
