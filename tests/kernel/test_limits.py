"""Cells that ask for more than their limit: a clear error, the kernel alive, the limit gone afterwards."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel, Observed

INSIDE = Path(__file__).parent / "inside"
ROOT = Path(__file__).parents[2]

RAM = "limited.ram('256MiB')"
MORE_RAM = "limited.more_ram('96MiB')"
RAM_WITH_TORCH = "limited.ram('1GiB')"
GPU = "limited.gpu('64MiB')"


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel(sys.executable, path=(INSIDE,)) as kernel:
        assert kernel.run("import limited, numpy as np").status == "ok"
        yield kernel


@pytest.fixture(scope="module")
def torch_kernel() -> Iterator[Kernel]:
    with Kernel(sys.executable, path=(INSIDE, ROOT)) as kernel:
        setup = "import limited, torch\nfrom tests.fakes.accelerator import install\n"
        assert kernel.run(f"{setup}install(256 << 20, devices=2)").status == "ok"
        yield kernel


def line(kernel: Kernel) -> str | None:
    found: str | None = kernel.evaluate("limited.LINES[-1]")
    return found


def assert_alive_and_unlimited(kernel: Kernel) -> None:
    assert kernel.evaluate("limited.soft_limit()") == -1
    assert kernel.run("len(bytearray(600 << 20))").result == str(600 << 20)


def assert_whole(observed: Observed, *parts: str) -> None:
    """Tell that the traceback was rendered to its end, and as IPython does it."""
    assert observed.status == "error"
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(observed.reply["traceback"]))
    for part in ("Traceback (most recent call last)", *parts):
        assert part in text, text
    assert "Unexpected exception formatting exception" not in observed.text


def test_numpy(kernel: Kernel) -> None:
    body = f"{RAM}\ndef fill():\n    return np.ones((1536, 1024, 128))\nx = fill()"
    observed = kernel.run(body)
    assert_whole(
        observed, "fill()", "return np.ones", "numeric.py", "MemoryError: Unable to allocate 1.50 GiB"
    )
    assert line(kernel) == "under a RAM limit of 256 MiB: 1.5 GiB more was asked for"
    assert "RLIMIT_DATA" in kernel.evaluate("limited.MECHANISMS[-1]")
    assert_alive_and_unlimited(kernel)


def test_below_what_is_held(kernel: Kernel) -> None:
    observed = kernel.run("limited.ram('1MiB')\nprint('not reached')")
    assert_whole(
        observed, "SettingsError: a RAM limit of 1.0 MiB is below the", "give more, or free memory first"
    )
    assert "not reached" not in observed.text
    assert_alive_and_unlimited(kernel)


def test_a_healthy_cell(kernel: Kernel) -> None:
    observed = kernel.run(f"{RAM}\nnp.ones(1 << 20).sum()")
    assert observed.result == "np.float64(1048576.0)"
    assert not observed.text
    assert line(kernel) is None
    assert_alive_and_unlimited(kernel)


def test_await(kernel: Kernel) -> None:
    body = f"{RAM}\nimport asyncio\nawait asyncio.sleep(0)\nx = np.ones((1536, 1024, 128))"
    assert_whole(kernel.run(body), "Unable to allocate 1.50 GiB")
    assert_alive_and_unlimited(kernel)


def test_the_users_own_except(kernel: Kernel) -> None:
    body = f"{RAM}\ntry:\n    x = bytearray(1536 << 20)\nexcept MemoryError:\n    print('caught')"
    observed = kernel.run(body)
    assert (observed.status, observed.text) == ("ok", "caught\n")
    assert_alive_and_unlimited(kernel)


@pytest.mark.parametrize(
    "piece",
    [
        "np.ones(1 << 18)",
        "np.empty(100 << 20, np.uint8)",
        "np.empty(20 << 20, np.uint8)",
        "bytearray(500)",
        "{1: [2, 3]}",
        "list(range(50_000))",
        "'x' * 70_000",
    ],
)
def test_in_pieces_until_the_limit(kernel: Kernel, piece: str) -> None:
    """Interrupted or refused, but never with so little left that the traceback or the kernel is lost."""
    observed = kernel.run(f"{MORE_RAM}\nkept = []\nwhile True:\n    kept.append({piece})")
    assert_whole(observed, "kept.append")
    assert observed.reply["ename"] in ("KeyboardInterrupt", "MemoryError", "_ArrayMemoryError")
    told = line(kernel)
    assert told is not None
    assert "under a RAM limit of" in told
    assert kernel.run("del kept").status == "ok"
    assert_alive_and_unlimited(kernel)


def test_an_interrupt(kernel: Kernel) -> None:
    body = f"{MORE_RAM}\nprint('begun', flush=True)\nimport time\nfor _ in range(600):\n    time.sleep(0.1)"
    assert kernel.run(Cell(body, interrupt_on="begun")).status == "error"
    assert_alive_and_unlimited(kernel)


def test_torch_on_the_cpu(torch_kernel: Kernel) -> None:
    body = f"{RAM_WITH_TORCH}\ndef fill():\n    return torch.ones(1536, 1024, 256)\nx = fill()"
    observed = torch_kernel.run(body)
    assert_whole(
        observed, "fill()", "RuntimeError", "DefaultCPUAllocator", "you tried to allocate 1610612736"
    )
    assert line(torch_kernel) == "under a RAM limit of 1.0 GiB: 1.5 GiB more was asked for"
    assert_alive_and_unlimited(torch_kernel)


def test_the_first_parallel_operation_under_a_tight_limit(torch_kernel: Kernel) -> None:
    """OpenMP ends the process if it cannot start its threads, so they are started before."""
    body = f"{RAM_WITH_TORCH}\nkept = []\ntry:\n    while True:\n        kept.append(torch.ones(1 << 20))\n"
    body += (
        "except (RuntimeError, KeyboardInterrupt):\n    kept.pop()\n    print(float(kept[0].add_(1).sum()))"
    )
    observed = torch_kernel.run(body)
    assert (observed.status, observed.text) == ("ok", f"{2.0 * (1 << 20)}\n")
    assert torch_kernel.run("del kept").status == "ok"
    assert_alive_and_unlimited(torch_kernel)


def test_gpu(torch_kernel: Kernel) -> None:
    ones = "def ones(mib): return torch.ones(mib << 18, device='fakegpu')"
    assert torch_kernel.run(f"{ones}\na = ones(4)\ncached = ones(100)\ndel cached").status == "ok"
    assert torch_kernel.evaluate("torch.fakegpu.memory_reserved(0) >> 20") == 104
    observed = torch_kernel.run(f"{GPU}\nsmall = ones(8)\nx = ones(80)")
    assert_whole(observed, "def ones", "OutOfMemoryError", "Tried to allocate 80.00 MiB", "64.00 MiB allowed")
    assert line(torch_kernel) == "under a GPU limit of 64.0 MiB: 80.0 MiB more was asked for"
    assert (
        torch_kernel.evaluate("limited.MECHANISMS[-1]")
        == "GPU limit 64.0 MiB: torch memory fraction on fakegpu:0"
    )
    assert torch_kernel.evaluate("small.shape[0], torch.fakegpu.memory_reserved(0) >> 20") == (8 << 18, 12)
    assert torch_kernel.evaluate("torch.fakegpu.get_per_process_memory_fraction(0)") == 1.0
    assert torch_kernel.run("y = ones(200)").status == "ok"
    assert torch_kernel.run("del y, small, a").status == "ok"
