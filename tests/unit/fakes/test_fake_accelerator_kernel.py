from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.fakes.accelerator.build import library
from tests.kernel.kernel import Kernel

ROOT = Path(__file__).parents[3]
INSTALL = "import torch\nfrom tests.fakes.accelerator import install\nfakegpu = install(256 << 20)"


def test_a_cell_runs_out_of_memory_as_on_a_gpu() -> None:
    library()  # Building it may take longer than a cell may.
    with Kernel(sys.executable, path=[ROOT]) as kernel:
        assert kernel.run(INSTALL).status == "ok"
        assert kernel.evaluate("fakegpu.is_initialized()") is False
        cell = "kept = [torch.empty(80 << 20, dtype=torch.uint8, device='fakegpu') for _ in range(4)]"
        failed = kernel.run(cell)
        assert failed.status == "error"
        assert failed.reply["ename"] == "OutOfMemoryError"
        message = "fakegpu out of memory. Tried to allocate 80.00 MiB. GPU 0 has a total capacity of"
        assert failed.reply["evalue"].startswith(message)
        shown = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(failed.reply["traceback"]))
        assert "----> 1 kept = [torch.empty(80 << 20" in shown
        assert f"OutOfMemoryError: {message}" in shown
        assert kernel.evaluate("fakegpu.memory_reserved()") == 240 << 20
        assert kernel.run("print(torch.ones(3, device='fakegpu'))").status == "ok"
