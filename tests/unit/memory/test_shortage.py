"""Which errors mean that memory was short, how much was asked for, and which leave the GPU unusable."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from titan_nb.errors import ResourceError
from titan_nb.memory.shortage import (
    find_shortage,
    is_shortage,
    message_of,
    requested_bytes,
    resource_error,
    sticky,
)

CUDA = (
    "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 7.79 GiB of which 512.00 "
    "MiB is free. Of the allocated memory 5.00 GiB is allocated by PyTorch"
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
    "allocate 1610612736 bytes. Error code 12 (Cannot allocate memory)"
)
MPS = "MPS backend out of memory (MPS allocated: 8.77 GB, max allowed: 9.07 GB). Tried to allocate 1.50 GB"
GIB = 1 << 30

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


class Lying(RuntimeError):
    """An error of the user's own, none of whose code may run."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise AssertionError("asked for its class")

    @property
    def args(self) -> tuple[object, ...]:  # type: ignore[override]
        raise AssertionError("asked for its args")

    def __str__(self) -> str:
        raise AssertionError("asked for its text")

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        raise AssertionError("hashed")

    def __bool__(self) -> bool:
        raise AssertionError("asked for its truth")


def raised(function: object, *args: object, **options: object) -> BaseException:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        function(*args, **options)  # type: ignore[operator]
    return caught.value


@pytest.mark.parametrize(
    ("error", "size_bytes"),
    [
        (MemoryError(), None),
        (torch.OutOfMemoryError(CUDA), 1.5 * GIB),
        (torch.OutOfMemoryError("XPU out of memory. Tried to allocate 20.00 MiB."), 20 << 20),
        (RuntimeError(CPU), 1.5 * GIB),
        (RuntimeError(MPS), 1.5 * GIB),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), None),
        (torch.AcceleratorError("CUDA error: out of memory"), None),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), None),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), None),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), None),
        (
            MemoryError("Unable to allocate 1.46 GiB for an array with shape (14,) and data type float64"),
            1567663063,
        ),
        (MemoryError("tried to allocate 512 bytes"), 512),
        (ResourceError("short", requested_bytes=7, available_bytes=None, device="cpu"), 7),
    ],
    ids=lambda value: str(value)[:40],
)
def test_shortages_and_what_was_asked_for(error: BaseException, size_bytes: float | None) -> None:
    assert is_shortage(error)
    assert find_shortage(error) is error
    assert requested_bytes(error) == size_bytes
    assert sticky(error) is None


def test_the_real_errors_of_numpy_and_torch() -> None:
    numpy = raised(np.empty, (3, 10**14), dtype=np.float64)
    assert requested_bytes(numpy) == 3 * 10**14 * 8
    on_cpu = raised(torch.empty, 10**14)
    assert is_shortage(on_cpu)
    assert requested_bytes(on_cpu) == 4 * 10**14


@pytest.mark.parametrize(
    "make",
    [
        lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        lambda: RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
        lambda: ValueError(CUDA),
        KeyboardInterrupt,
        Lying,
    ],
)
def test_other_errors_are_none(make: Callable[[], BaseException]) -> None:
    error = make()
    assert not is_shortage(error)
    assert find_shortage(error) is None
    assert requested_bytes(error) is None
    assert sticky(error) is None


def test_a_shortage_further_inside_is_found_but_is_not_the_error_itself() -> None:
    inner = MemoryError("tried to allocate 3 bytes")
    try:
        try:
            raise inner
        except MemoryError:
            raise Lying from ValueError("between")
    except RuntimeError as error:
        outer = error
    assert is_shortage(outer) is False
    assert find_shortage(outer) is inner
    assert requested_bytes(outer) == 3


def test_a_group_with_a_shortage_deep_inside() -> None:
    inner = torch.OutOfMemoryError(CUDA)
    group = ExceptionGroup("tasks", [ValueError(), ExceptionGroup("more", [KeyError(), inner])])
    assert find_shortage(group) is inner


def test_the_text_is_the_first_text_among_the_arguments() -> None:
    assert message_of(OSError(2, "no such file")) == "no such file"
    assert message_of(RuntimeError(Lying())) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("CUDA error: an illegal memory access was encountered\nCUDA kernel errors", "outside its memory"),
        ("CUDA error: device-side assert triggered", "a kernel's own check failed"),
        ("CUDA error: unspecified launch failure", "a kernel crashed"),
        ("CUDA error: uncorrectable ECC error encountered", "could not correct"),
        ("HIP error: an illegal memory access was encountered", "HIP error"),
    ],
)
def test_errors_after_which_only_a_restart_helps(text: str, reason: str) -> None:
    for error in (RuntimeError(text), torch.AcceleratorError(text)):
        line = sticky(error)
        assert line is not None
        assert line.startswith("restart needed: ")
        assert reason in line
        assert "\n" not in line
        assert not is_shortage(error)
    outer = ValueError("later")
    outer.__cause__ = RuntimeError(text)
    assert sticky(outer) == sticky(RuntimeError(text))


def test_a_text_that_only_mentions_such_an_error_is_none() -> None:
    assert sticky(ValueError("CUDA error: an illegal memory access was encountered")) is None
    assert sticky(RuntimeError("avoid an illegal memory access")) is None
    assert sticky(RuntimeError("CUDA error: invalid argument")) is None


def test_without_torch_only_a_memory_error_is_one_and_torch_stays_out() -> None:
    check = (
        "import sys\n"
        "from titan_nb.memory.shortage import is_shortage, requested_bytes, sticky\n"
        "assert is_shortage(MemoryError()) and not is_shortage(RuntimeError('CUDA out of memory'))\n"
        "assert sticky(RuntimeError('CUDA error: device-side assert triggered')) is None\n"
        "assert requested_bytes(MemoryError('tried to allocate 2.00 KiB')) == 2048\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=60)


def test_torch_of_before_2_5_has_the_class_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    error = torch.OutOfMemoryError("no known text")
    assert is_shortage(error)
    monkeypatch.delattr(torch, "OutOfMemoryError")
    assert is_shortage(error)
    monkeypatch.delattr(torch.cuda, "OutOfMemoryError")
    assert not is_shortage(error)


@pytest.mark.parametrize(
    ("kind", "available"), [("cpu", r"[0-9,]+ are available"), ("meta", "how many are available is unknown")]
)
def test_the_error_of_titans_own_work(kind: str, available: str) -> None:
    error = resource_error("storing 5 rows", 5000, torch.device(kind))
    assert error.requested_bytes == 5000
    assert error.device == kind
    with pytest.raises(
        ResourceError, match=rf"memory is short on {kind}: storing 5 rows needs 5,000 bytes, {available}"
    ):
        raise error


def test_the_error_of_titans_own_work_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3000, 9000))
    assert resource_error("storing", 5000, torch.device("cuda", 0)).available_bytes == 3000
