"""The fake library against its own truth, through the real pynvml."""

from __future__ import annotations

import ctypes
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.fakes.nvml import FakeGpu, FakeNvml
from tests.fakes.nvml.build import library
from tests.fakes.nvml.control import Control

MILLIJOULE = 0.0011


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Return a function that makes a fake and lets this process see it."""
    contexts, folders = [], (tmp_path / str(number) for number in itertools.count())

    def make(*gpus: FakeGpu) -> FakeNvml:
        folder = next(folders)
        folder.mkdir()
        fake = FakeNvml(folder, gpus or (FakeGpu(),))
        context = fake.in_process()
        context.__enter__()
        contexts.append(context)
        pynvml.nvmlInit()
        return fake

    yield make
    for context in reversed(contexts):
        context.__exit__(None, None, None)


def handle(index: int = 0) -> Any:
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def joules(index: int = 0) -> float:
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle(index))) / 1000


def agreed(fake: FakeNvml, index: int = 0) -> float:
    """Return what the library says of the counter, having compared it with the truth."""
    before = fake.counter_joules(index, time.monotonic())
    read = joules(index)
    after = fake.counter_joules(index, time.monotonic())
    assert before - MILLIJOULE <= read <= after + MILLIJOULE
    return read


def test_library_and_test_agree_on_the_layout_of_the_control_file() -> None:
    loaded = ctypes.CDLL(str(library()))
    loaded.fake_nvml_control_size.restype = ctypes.c_uint64
    assert loaded.fake_nvml_control_size() == ctypes.sizeof(Control)


@pytest.mark.parametrize("duty", [1.0, 0.25])
@pytest.mark.parametrize("jitter", [0.0, 0.009])
def test_the_counter_shows_the_energy_of_the_loads_at_the_last_tick(
    make: Any, duty: float, jitter: float
) -> None:
    fake = make(FakeGpu(tick_seconds=0.02, phase_seconds=0.013, jitter_seconds=jitter, seed=3, duty=duty))
    begin = time.monotonic()
    for at in range(5):
        fake.busy(0, begin + 0.03 * at, begin + 0.03 * at + 0.011, 100.0 + 150 * at)
    for _ in range(30):
        agreed(fake)
        time.sleep(0.007)
    busy = sum(0.011 * (100 + 150 * at) for at in range(5))
    idle = 70 * (0.2 - 5 * 0.011)
    assert fake.true_joules(0, begin, begin + 0.2) == pytest.approx(busy + idle)


def test_a_part_time_counter_sees_only_the_last_part_of_each_tick(make: Any) -> None:
    fake = make(FakeGpu(tick_seconds=0.04, duty=0.25, idle_watts=0))
    first, second, third = fake.ticks(0, now := time.monotonic(), now + 0.13)[:3]
    fake.busy(0, first, first + 0.01, 1000)  # in the part that is not looked at
    fake.busy(0, second + 0.03, third, 1000)  # in the part that is
    while time.monotonic() < third:
        time.sleep(0.005)
    assert fake.true_joules(0, first, third) == pytest.approx(20)
    assert agreed(fake) == pytest.approx(40, abs=MILLIJOULE)


def test_a_load_that_is_given_late_counts_from_when_it_was(make: Any) -> None:
    fake = make(FakeGpu(duty=0.25))
    before, now = agreed(fake), time.monotonic()
    fake.busy(0, now - 5, now - 4, 770)
    assert agreed(fake) - before == pytest.approx(700, abs=30)


def test_the_counter_stands_still_between_two_ticks_and_moves_at_them(make: Any) -> None:
    fake = make(FakeGpu(tick_seconds=0.05))
    begin = earlier = time.monotonic()
    last, moved = joules(), []
    while (now := time.monotonic()) < begin + 0.3:
        read = joules()
        if read != last:
            moved.append((earlier, time.monotonic(), read - last))
        earlier, last = now, read
    ticks = fake.ticks(0, begin, begin + 0.4)
    assert moved
    for since, until, step in moved:
        passed = [tick for tick in ticks if since <= tick <= until]
        assert passed
        assert step == pytest.approx(70 * 0.05 * len(passed), abs=2 * MILLIJOULE)


def test_a_load_lasts_as_long_as_its_block(make: Any) -> None:
    fake = make(FakeGpu(idle_watts=0))
    begin = time.monotonic()
    with fake.load(0, 500):
        inside = time.monotonic()
        time.sleep(0.05)
        leaving = time.monotonic()
    end = time.monotonic()
    assert 500 * (leaving - inside) <= fake.true_joules(0, begin, end) <= 500 * (end - begin)
    with pytest.raises(ValueError, match="after the one before"):
        fake.busy(0, begin, end, 1)
    with pytest.raises(ValueError, match="0 W or more"):
        fake.busy(0, end, end + 1, -1)


def test_eight_devices_count_apart(make: Any) -> None:
    fake = make(*(FakeGpu(idle_watts=10.0 * index, tick_seconds=0.01) for index in range(8)))
    assert pynvml.nvmlDeviceGetCount() == 8
    assert len({pynvml.nvmlDeviceGetUUID(handle(index)) for index in range(8)}) == 8
    for index in range(8):
        assert agreed(fake, index) == pytest.approx(100 * index, rel=0.2)
        uuid = pynvml.nvmlDeviceGetUUID(handle(index))
        bus_id = pynvml.nvmlDeviceGetPciInfo(handle(index)).busId
        for found in (
            pynvml.nvmlDeviceGetHandleByUUID(uuid),
            pynvml.nvmlDeviceGetHandleByPciBusId(bus_id),
        ):
            assert pynvml.nvmlDeviceGetIndex(found) == index
    with pytest.raises(ValueError, match="at most 8"):
        FakeNvml(fake.path.parent / "none", [FakeGpu()] * 9)


def test_power_is_the_mean_of_its_window_up_to_the_last_tick(make: Any) -> None:
    gpu = FakeGpu(tick_seconds=0.01, instant_seconds=0.025, average_seconds=1.0, limit_watts=650)
    fake = make(gpu)
    now = time.monotonic()
    fake.busy(0, now - 0.5, now + 0.02, 570)
    fake.busy(0, now + 0.02, now + 60, 170)
    fields = [
        pynvml.NVML_FI_DEV_POWER_AVERAGE,
        pynvml.NVML_FI_DEV_POWER_INSTANT,
        pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
        pynvml.NVML_FI_DEV_MEMORY_TEMP,
        (pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_POWER_SCOPE_MODULE),
    ]
    time.sleep(0.1)
    wall, before = time.time() * 1e6, time.monotonic()
    average, instant, energy, *others = pynvml.nvmlDeviceGetFieldValues(handle(), fields)
    means = [fake.true_joules(0, at - 1, at) for at in fake.ticks(0, before - 0.01, time.monotonic())]
    assert any(average.value.uiVal == pytest.approx(mean * 1000, abs=1) for mean in means)
    assert instant.value.uiVal == pytest.approx(170_000, abs=1)
    assert 0 <= agreed(fake) - energy.value.ullVal / 1000 < 100
    assert energy.timestamp == pytest.approx(wall, abs=500_000)
    assert [other.nvmlReturn for other in others] == [pynvml.NVML_ERROR_NOT_SUPPORTED] * 2
    assert 70_000 < pynvml.nvmlDeviceGetPowerUsage(handle()) < 570_000
    assert pynvml.nvmlDeviceGetEnforcedPowerLimit(handle()) == 650_000
    fake.set_limit(0, 300)
    assert pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle()) == [70_000, 300_000]
    assert 10 < pynvml.nvmlDeviceGetUtilizationRates(handle()).gpu <= 100


@pytest.mark.parametrize("stamps_ticks", [True, False])
def test_time_stamps_are_those_of_the_ticks_where_the_device_has_them(make: Any, stamps_ticks: bool) -> None:
    fake = make(FakeGpu(tick_seconds=0.2, stamps_ticks=stamps_ticks))
    fields = [pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION]
    values = [pynvml.nvmlDeviceGetFieldValues(handle(), fields)[0] for _ in range(20)]
    stamps = {value.timestamp for value in values}
    assert len(stamps) <= 2 if stamps_ticks else len(stamps) > 2
    fake.step_wall_clock(-3600)
    (later,) = pynvml.nvmlDeviceGetFieldValues(handle(), fields)
    assert later.timestamp == pytest.approx(max(stamps) - 3.6e9, abs=5e5)


def test_power_samples_add_up_to_the_energy(make: Any) -> None:
    fake = make()
    with fake.load(0, 400):
        time.sleep(0.1)
    kind, samples = pynvml.nvmlDeviceGetSamples(handle(), pynvml.NVML_TOTAL_POWER_SAMPLES, 0)
    assert kind == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    assert len(samples) == 120
    stamps = [sample.timeStamp for sample in samples]
    assert {later - earlier for earlier, later in itertools.pairwise(stamps)} <= {19_999, 20_000, 20_001}
    offset = fake.control.wall_offset_ns * 1e-9
    end = stamps[-1] * 1e-6 - offset
    summed = sum(sample.sampleValue.uiVal for sample in samples) * 1e-3 * 0.02
    assert summed == pytest.approx(fake.true_joules(0, end - 2.4, end), abs=0.05)
    assert len(pynvml.nvmlDeviceGetSamples(handle(), 0, stamps[-5])[1]) in range(4, 30)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetSamples(handle(), 0, stamps[-1] + 10**9)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetSamples(handle(), pynvml.NVML_GPU_UTILIZATION_SAMPLES, 0)


def test_what_is_said_of_a_device(make: Any) -> None:
    make(FakeGpu(uuid="GPU-x", name="NVIDIA A100", architecture=7))
    assert pynvml.nvmlDeviceGetUUID(handle()) == "GPU-x"
    assert pynvml.nvmlDeviceGetName(handle()) == "NVIDIA A100"
    assert pynvml.nvmlDeviceGetArchitecture(handle()) == pynvml.NVML_DEVICE_ARCH_AMPERE
    assert pynvml.nvmlDeviceGetCudaComputeCapability(handle()) == (8, 0)
    assert pynvml.nvmlDeviceGetMinorNumber(handle()) == 0
    assert pynvml.nvmlDeviceGetTemperature(handle(), pynvml.NVML_TEMPERATURE_GPU) > 0
    assert pynvml.nvmlDeviceGetClockInfo(handle(), pynvml.NVML_CLOCK_SM) > 0
    assert pynvml.nvmlDeviceGetBrand(handle()) == pynvml.NVML_BRAND_NVIDIA
    assert pynvml.nvmlSystemGetDriverVersion() == "575.51.03"
    assert pynvml.nvmlSystemGetNVMLVersion().startswith("12.")
    assert pynvml.nvmlSystemGetCudaDriverVersion_v2() == 12090
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        pynvml.nvmlDeviceGetSerial(handle())
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        handle(1)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetHandleByUUID("GPU-y")
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetName(pynvml.c_nvmlDevice_t())


def test_mig_instances_belong_to_their_device(make: Any) -> None:
    fake = make(FakeGpu(), FakeGpu(mig_instances=2))
    assert pynvml.nvmlDeviceGetMigMode(handle(0)) == [0, 0]
    assert pynvml.nvmlDeviceGetMigMode(handle(1)) == [1, 1]
    instances = [pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle(1), index) for index in range(2)]
    fake.start_process(1, 42, instance=1)
    for index, instance in enumerate(instances):
        uuid = pynvml.nvmlDeviceGetUUID(instance)
        assert uuid.startswith("MIG-")
        found = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(found)) == 1
        assert pynvml.nvmlDeviceIsMigDeviceHandle(found).value == 1
        assert pynvml.nvmlDeviceGetGpuInstanceId(found) == index + 1
        assert len(pynvml.nvmlDeviceGetComputeRunningProcesses(found)) == index
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetTotalEnergyConsumption(found)
    assert pynvml.nvmlDeviceGetMaxMigDeviceCount(handle(1)) == 7
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle(1), 2)
    for refused in (
        lambda: pynvml.nvmlDeviceGetProcessUtilization(handle(1), 0),
        lambda: pynvml.nvmlDeviceGetUtilizationRates(handle(1)),
    ):
        with pytest.raises(pynvml.NVMLError_NotSupported):
            refused()


def test_processes_come_and_go_and_hold_memory(make: Any) -> None:
    fake = make()
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(handle()) == []
    fake.start_process(0, 11, memory_bytes=1 << 20)
    fake.start_process(0, 12, memory_bytes=None)
    for listed in (
        pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
        pynvml.nvmlDeviceGetComputeRunningProcesses,
    ):
        assert [(each.pid, each.usedGpuMemory) for each in listed(handle())] == [(11, 1 << 20), (12, None)]
    oldest = (ctypes.c_ulonglong * 2 * 2)()
    count = ctypes.c_uint(2)
    pynvml.nvmlLib.nvmlDeviceGetComputeRunningProcesses(handle(), ctypes.byref(count), oldest)
    assert (count.value, oldest[0][0], oldest[0][1], oldest[1][0]) == (2, 11, 1 << 20, 12)
    assert pynvml.nvmlDeviceGetMemoryInfo(handle()).used == 1 << 20
    second = pynvml.nvmlDeviceGetMemoryInfo(handle(), pynvml.nvmlMemory_v2)
    assert second.used + second.free == second.total == 80 << 30
    fake.end_process(0, 11)
    assert [each.pid for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle())] == [12]
    assert pynvml.nvmlDeviceGetGraphicsRunningProcesses(handle()) == []
    with pytest.raises(ValueError, match="no process 11"):
        fake.end_process(0, 11)


@pytest.mark.parametrize("ring", [1, 10])
def test_the_utilization_of_processes_is_sampled(make: Any, ring: int) -> None:
    fake = make(FakeGpu(utilization_seconds=0.05, utilization_ring=ring))
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetProcessUtilization(handle(), 0)
    since = time.monotonic() - 5
    fake.start_process(0, 11, sm_percent=60, at=since)
    fake.start_process(0, 12, sm_percent=20, at=since)
    fake.start_process(0, 13, at=since)
    samples = pynvml.nvmlDeviceGetProcessUtilization(handle(), 0)
    assert sorted({(sample.pid, sample.smUtil) for sample in samples}) == [(11, 60), (12, 20)]
    assert len(samples) == 2 * ring
    newest = max(sample.timeStamp for sample in samples)
    time.sleep(0.06)
    later = pynvml.nvmlDeviceGetProcessUtilization(handle(), newest)
    assert all(sample.timeStamp > newest for sample in later)
    fake.end_process(0, 11)
    time.sleep(0.12)
    after = pynvml.nvmlDeviceGetProcessUtilization(handle(), int((time.time() - 0.06) * 1e6))
    assert {sample.pid for sample in after} == {12}


def test_another_process_sees_the_same_counter_through_the_library_path(make: Any) -> None:
    import subprocess
    import sys

    fake = make(FakeGpu(idle_watts=0))
    script = (
        "import time, pynvml\n"
        "from tests.fakes.nvml import FakeNvml\n"
        "pynvml.nvmlInit()\n"
        "device = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
        "now = time.monotonic()\n"
        "FakeNvml.attach().busy(0, now - 2, now - 1, 250)\n"
        "print(pynvml.nvmlDeviceGetTotalEnergyConsumption(device))\n"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**fake.environment(), "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) == pytest.approx(250_000, abs=1)
    assert agreed(fake) == pytest.approx(250, abs=MILLIJOULE)


def test_readers_in_two_threads_never_see_the_counter_fall_while_loads_come(make: Any) -> None:
    fake = make(FakeGpu(tick_seconds=0.001, duty=0.25))
    stop, falls, reads = threading.Event(), [], []

    def read() -> None:
        device, last, count = handle(), 0, 0
        while not stop.is_set():
            value = pynvml.nvmlDeviceGetTotalEnergyConsumption(device)
            falls.extend([value - last] if value < last else [])
            last, count = value, count + 1
        reads.append(count)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        with fake.load(0, 600):
            time.sleep(0.002)
    stop.set()
    for thread in threads:
        thread.join()
    assert falls == []
    assert fake.energy_reads(0) == sum(reads)
    agreed(fake)
