"""What can go wrong with the fake library, one thing after the other, through the real pynvml."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.fakes.nvml import NOT_AVAILABLE, FakeGpu, FakeNvml, build

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeNvml]:
    with FakeNvml(tmp_path, [FakeGpu(tick_seconds=0.01), FakeGpu(tick_seconds=0.01)]).in_process() as fake:
        pynvml.nvmlInit()
        yield fake


def joules(device: Any) -> float:
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1000


@pytest.fixture
def devices(fake: FakeNvml) -> list[Any]:
    return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(2)]


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
        pynvml.NVML_ERROR_UNKNOWN,
    ],
)
def test_starting_fails_and_then_goes_well(tmp_path: Path, code: int) -> None:
    fake = FakeNvml(tmp_path)
    with fake.in_process():
        with fake.fault("nvmlInit", code), pytest.raises(pynvml.NVMLError) as caught:
            pynvml.nvmlInit()
        assert caught.value.value == code
        with pytest.raises(pynvml.NVMLError_Uninitialized):
            pynvml.nvmlDeviceGetCount()
        pynvml.nvmlInit()
        assert pynvml.nvmlDeviceGetCount() == 1


def test_no_control_file_is_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeNvml(tmp_path).in_process(), monkeypatch.context() as changed:
        changed.setenv("TITAN_FAKE_NVML", str(tmp_path / "none"))
        with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
            pynvml.nvmlInit()


def test_afterwards_it_is_no_driver_for_anybody(tmp_path: Path) -> None:
    with FakeNvml(tmp_path).in_process():
        pynvml.nvmlInit()
    with pytest.raises(pynvml.NVMLError):
        pynvml.nvmlInit()


@pytest.mark.parametrize(
    "code",
    [
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_UNKNOWN,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_RESET_REQUIRED,
    ],
)
def test_a_call_fails_on_one_device_only_and_while_the_block_runs(
    fake: FakeNvml, devices: list[Any], code: int
) -> None:
    with fake.fault(ENERGY, code, device=1):
        with pytest.raises(pynvml.NVMLError) as caught:
            joules(devices[1])
        assert caught.value.value == code
        assert joules(devices[0]) > 0
        assert pynvml.nvmlDeviceGetName(devices[1])
    assert joules(devices[1]) > 0


def test_a_call_fails_after_some_and_for_some(fake: FakeNvml, devices: list[Any]) -> None:
    outcomes = []
    with fake.fault(ENERGY, pynvml.NVML_ERROR_UNKNOWN, skip=2, times=1):
        for _ in range(5):
            try:
                outcomes.append(joules(devices[0]) > 0)
            except pynvml.NVMLError_Unknown:
                outcomes.append("failed")
    assert outcomes == [True, True, "failed", True, True]


def test_every_function_fails_and_a_version_is_not_part_of_its_name(
    fake: FakeNvml, devices: list[Any]
) -> None:
    for name in ("*", "nvmlDeviceGetComputeRunningProcesses"):
        with fake.fault(name, pynvml.NVML_ERROR_UNKNOWN), pytest.raises(pynvml.NVMLError_Unknown):
            pynvml.nvmlDeviceGetComputeRunningProcesses(devices[0])


def test_a_value_that_is_not_available_has_all_bits_set(fake: FakeNvml, devices: list[Any]) -> None:
    with fake.fault("*", NOT_AVAILABLE):
        assert pynvml.nvmlDeviceGetTotalEnergyConsumption(devices[0]) == 2**64 - 1
        assert pynvml.nvmlDeviceGetPowerUsage(devices[0]) == 2**32 - 1


def test_the_counter_starts_again_or_moves(fake: FakeNvml, devices: list[Any]) -> None:
    before = joules(devices[0])
    fake.reset_counter(0)
    assert joules(devices[0]) < 10
    fake.move_counter(0, before)
    assert joules(devices[0]) >= before - 0.001
    fake.move_counter(0, -100)
    assert before - 100.001 <= joules(devices[0]) < before
    fake.move_counter(0, -1e9)
    assert joules(devices[0]) == 0


def test_no_counter_leaves_power(tmp_path: Path) -> None:
    with FakeNvml(tmp_path, [FakeGpu(counter=False)]).in_process():
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        with pytest.raises(pynvml.NVMLError_NotSupported):
            joules(device)
        (field,) = pynvml.nvmlDeviceGetFieldValues(device, [pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION])
        assert field.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED
        assert pynvml.nvmlDeviceGetPowerUsage(device) == 70_000


def test_a_lost_device_comes_back_for_those_who_start_again(fake: FakeNvml, devices: list[Any]) -> None:
    fake.vanish(0)
    for call in (
        lambda: joules(devices[0]),
        lambda: pynvml.nvmlDeviceGetHandleByIndex(0),
        lambda: pynvml.nvmlDeviceGetName(devices[0]),
    ):
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            call()
    assert joules(devices[1]) > 0
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        joules(devices[0])
    fake.come_back(0)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        joules(devices[0])
    pynvml.nvmlShutdown()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        joules(devices[0])
    pynvml.nvmlInit()
    assert joules(pynvml.nvmlDeviceGetHandleByIndex(0)) > 0


def test_a_lost_device_comes_back_by_itself(fake: FakeNvml, devices: list[Any]) -> None:
    fake.vanish(0)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        joules(devices[0])
    fake.come_back(0, by_itself=True)
    assert joules(devices[0]) > 0


def test_the_list_of_devices_changes(fake: FakeNvml, devices: list[Any]) -> None:
    fake.set_device_count(1)
    assert pynvml.nvmlDeviceGetCount() == 1
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        joules(devices[1])
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetHandleByIndex(1)
    fake.set_device_count(2)
    assert joules(devices[1]) > 0


def test_a_slow_read_is_slow(fake: FakeNvml, devices: list[Any]) -> None:
    with fake.fault(ENERGY, seconds=0.03):
        begin = time.monotonic()
        assert joules(devices[0]) > 0
        assert time.monotonic() - begin >= 0.03


def test_a_read_that_hangs_returns_when_the_fault_ends(fake: FakeNvml, devices: list[Any]) -> None:
    read: list[float] = []
    thread = threading.Thread(target=lambda: read.append(joules(devices[0])))
    with fake.fault(ENERGY, seconds=3600):
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        assert joules_of_other_functions(devices[0])
    thread.join(5)
    assert len(read) == 1


def joules_of_other_functions(device: Any) -> int:
    (field,) = pynvml.nvmlDeviceGetFieldValues(device, [pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION])
    return int(field.value.ullVal)


def test_calls_are_counted(fake: FakeNvml, devices: list[Any]) -> None:
    before = fake.calls
    joules(devices[0])
    pynvml.nvmlDeviceGetName(devices[0])
    assert fake.calls - before == 2
    assert (fake.energy_reads(0), fake.energy_reads(1)) == (1, 0)


def test_faults_are_as_many_as_there_are_slots(fake: FakeNvml, devices: list[Any]) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        for _ in range(32):
            stack.enter_context(fake.fault("nvmlDeviceGetBrand", pynvml.NVML_ERROR_UNKNOWN))
        with pytest.raises(ValueError, match="at most 32"):
            stack.enter_context(fake.fault())
        assert joules(devices[0]) > 0
    assert pynvml.nvmlDeviceGetBrand(devices[0])


def test_pynvml_is_put_back_as_it_was(tmp_path: Path) -> None:
    before = pynvml.nvmlLib, pynvml._nvmlLib_refcount, dict(pynvml._nvmlGetFunctionPointer_cache)
    for name in "ab":
        (tmp_path / name).mkdir()
        with FakeNvml(tmp_path / name, [FakeGpu(uuid=f"GPU-{name}")]).in_process():
            pynvml.nvmlInit()
            assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)) == f"GPU-{name}"
    assert before == (pynvml.nvmlLib, pynvml._nvmlLib_refcount, pynvml._nvmlGetFunctionPointer_cache)


def test_no_compiler_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(build.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match="needs a C compiler; there is no 'no-such-compiler'"):
        build.library.__wrapped__()
    monkeypatch.setenv("CC", "false")
    with pytest.raises(RuntimeError, match="cannot be built"):
        build.library.__wrapped__()


@pytest.mark.parametrize("wrong", [{"jitter_seconds": 0.05}, {"duty": 0.0}, {"mig_instances": 8}])
def test_a_device_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"half a tick|above 0|at most 7"):
        FakeGpu(**wrong)
