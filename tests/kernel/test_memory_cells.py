"""What `%titan` does about memory, in a real kernel and by its own options; the GPU is the fake one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.kernel.kernel import Kernel, Observed

MIB = 1 << 20

SOFT_LIMIT = "__import__('resource').getrlimit(__import__('resource').RLIMIT_DATA)[0]"


@pytest.fixture
def kernel(fake_gpu_kernel: Kernel) -> Iterator[Kernel]:
    yield fake_gpu_kernel
    assert fake_gpu_kernel.run("%reset_selective -f ^(x|big|model|kept)$\n%titan off").status == "ok"
    assert fake_gpu_kernel.run("%titan free --all").status == "ok"
    assert fake_gpu_kernel.evaluate("torch.fakegpu.memory_allocated()") == 0


def shortage(observed: Observed) -> str:
    """Return what the one report says of the shortage; it is also its second line."""
    (display,) = observed.reports
    (report,) = observed.shown
    assert display["data"]["text/plain"].splitlines()[1:] == [report["shortage"]]
    return str(report["shortage"])


def test_after_an_out_of_memory_error_the_next_cell_has_it_all(kernel: Kernel) -> None:
    fill = "def fill():\n    held = [gpu(16) for _ in range(15)]\n    return gpu(64)\n"
    observed = kernel.run(f"%%titan\n{fill}x = fill()")
    assert observed.reply["ename"] == "OutOfMemoryError"
    assert shortage(observed) == "freed 240 MiB on GPU 0; %tb works, %debug has no locals"
    (report,) = observed.shown
    gpu = next(part for key, part in report["memory"].items() if key.startswith("gpu:"))
    assert (gpu["peak_bytes"], gpu["after_bytes"]) == (240 * MIB, 0)
    assert kernel.run("x = gpu(240)").status == "ok"
    (shown,) = [part for part in kernel.run("%tb").outputs if part["type"] == "error"]
    assert "return gpu(64)" in re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(shown["traceback"]))


def test_a_cell_that_is_not_tracked_gets_it_back_as_well(kernel: Kernel) -> None:
    observed = kernel.run("def fill():\n    held = gpu(200)\n    return gpu(200)\nx = fill()")
    assert observed.status == "error"
    assert "titan: freed 200 MiB on GPU 0" in observed.text
    assert kernel.evaluate("torch.fakegpu.memory_allocated()") == 0


def test_a_ram_limit_ends_the_cell_and_not_the_kernel(kernel: Kernel) -> None:
    before = kernel.evaluate(SOFT_LIMIT)
    observed = kernel.run("%%titan --ram-limit 1GiB\nx = np.ones((1536, 1024, 128))")
    assert observed.reply["ename"] == "MemoryError"
    assert "Unable to allocate 1.50 GiB" in observed.reply["evalue"]
    assert shortage(observed).startswith("under a RAM limit of 1.0 GiB: 1.5 GiB more was asked for; ")
    assert kernel.evaluate(SOFT_LIMIT) == before
    assert kernel.run("x = np.ones((1536, 1024, 128)); x.nbytes >> 20").result == "1536"


def test_a_gpu_limit_ends_the_cell_and_is_gone_afterwards(kernel: Kernel) -> None:
    observed = kernel.run("%%titan --gpu-limit 64MiB\nx = gpu(100)")
    assert observed.reply["ename"] == "OutOfMemoryError"
    assert shortage(observed).startswith("under a GPU limit of 64.0 MiB: 100 MiB more was asked for")
    assert "torch memory fraction on fakegpu:0" in str(observed.shown[0]["notes"])
    assert kernel.run("x = gpu(100)").status == "ok"


def test_what_a_cell_left_behind_is_named(kernel: Kernel) -> None:
    observed = kernel.run(
        "%%titan\nmodel = torch.nn.Linear(2048, 1024, bias=False).to('fakegpu')\nbig = gpu(16)"
    )
    (report,) = observed.shown
    kept = [(one["name"], one["size_bytes"]) for one in report["kept"] if one["device"].startswith("gpu:")]
    assert kept == [("big", 16 * MIB), ("model.weight", 8 * MIB)]


def test_who_names_variables_and_what_has_no_name(kernel: Kernel) -> None:
    assert kernel.run("big = gpu(32)\nkept = torch.fakegpu.hold(8 << 20)").status == "ok"
    (display,) = kernel.run("%titan who").reports
    lines = display["data"]["text/plain"].splitlines()
    assert re.search(r"GPU 0 32.0 MiB of 40.0 MiB allocated", lines[0])
    assert any(re.match(r"big +variable +GPU 0 +32.0 MiB +32.0 MiB", line) for line in lines)
    assert any(re.match(r"no Python name.* 8.0 MiB", line) for line in lines)
    assert kernel.run("kept.release()").status == "ok"


def test_the_cache_is_emptied_past_the_threshold_and_only_then(kernel: Kernel) -> None:
    reserved = "torch.fakegpu.memory_reserved() >> 20"
    assert kernel.run("%config TitanMagics.cache_threshold = 0.5\nx = gpu(100); del x").status == "ok"
    assert kernel.evaluate(reserved) == 100
    for first in ("%%titan -q\n", ""):
        assert kernel.run(f"{first}x = gpu(200); del x").status == "ok"
        assert kernel.evaluate(reserved) == 0
    assert kernel.run("%config TitanMagics.cache_threshold = None").status == "ok"


def test_the_last_peak_is_said_with_the_number_of_the_gpu(kernel: Kernel) -> None:
    asked = "%config TitanMagics.forecast = True\n%config TitanMagics.min_seconds = 0\nx = gpu(10)"
    assert kernel.run(asked).status == "ok"
    for _ in range(2):
        last = kernel.run("%%titan -q\ny = x.clone()\ndel y")
    assert re.search(r"this cell last took a peak of .* 20\.0 MiB on GPU 0 \(\+10\.0 MiB\)\n", last.text)
    done = "%config TitanMagics.forecast = False\n%config TitanMagics.min_seconds = 1\ndel x"
    assert kernel.run(done).status == "ok"


def test_idle_tensors_move_away_when_the_gpu_is_short_and_come_back_on_use(kernel: Kernel) -> None:
    assert kernel.run("%config TitanMagics.spill_idle_cells = 2\nbig = gpu(220).fill_(7)").status == "ok"
    for _ in range(2):
        assert kernel.run("1 + 1").status == "ok"
    observed = kernel.run("%%titan\n2 + 2")
    assert "spilled 220 MiB to host memory (1 tensor)" in observed.shown[0]["notes"]
    assert kernel.run("x = gpu(200)").status == "ok"
    assert kernel.run("del x\nint(big[-1])").result == "7"
    assert kernel.run("%config TitanMagics.spill_idle_cells = None").status == "ok"
