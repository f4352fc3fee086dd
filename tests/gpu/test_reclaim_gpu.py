"""Real errors of CUDA: what they say, what comes back after them, and which ones end the process's GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

from titan_nb.memory.reclaim import reclaim
from titan_nb.memory.shortage import is_shortage, requested_bytes, sticky

pytestmark = pytest.mark.gpu

MIB = 1 << 20


def test_a_real_shortage_is_read_and_given_back() -> None:
    import torch

    def fail() -> None:
        held = torch.empty(64 * MIB, dtype=torch.uint8, device="cuda")
        torch.empty(1 << 42, dtype=torch.uint8, device="cuda")
        del held

    torch.empty(1, device="cuda")
    before = torch.cuda.memory_allocated()
    with pytest.raises(torch.OutOfMemoryError) as caught:
        fail()
    assert is_shortage(caught.value)
    assert requested_bytes(caught.value) == 1 << 42
    assert torch.cuda.memory_allocated() == before + 64 * MIB
    done = reclaim([caught.value])
    assert torch.cuda.memory_allocated() == before
    assert 64 * MIB in done.freed_bytes.values()


def test_a_failed_assertion_of_a_kernel_needs_a_restart() -> None:
    # In a process of its own, whose GPU is of no use afterwards.
    check = (
        "import torch\n"
        "from titan_nb.memory.shortage import sticky\n"
        "try:\n"
        "    torch.zeros(4, device='cuda')[torch.tensor([9], device='cuda')]\n"
        "    torch.cuda.synchronize()\n"
        "except RuntimeError as error:\n"
        "    print(sticky(error))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, timeout=120, check=True
    )
    assert shown.stdout.startswith("restart needed: a kernel's own check failed")
    assert sticky(RuntimeError("CUDA error: invalid argument")) is None
