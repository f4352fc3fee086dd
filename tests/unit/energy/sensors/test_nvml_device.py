from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from tests.unit.energy.sensors.nvml_stand_in import READ, Clock, Nvml, error
from titan_nb.energy.bracket import MAX_WATTS
from titan_nb.energy.sensors.nvml_device import RETRY_SECONDS, NvmlDevice, number, union
from titan_nb.energy.sensors.nvml_session import NvmlSession
from titan_nb.errors import SensorError


@pytest.fixture
def device(session: NvmlSession, clock: Clock) -> NvmlDevice:
    return NvmlDevice(session, 0, clock)


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_UNKNOWN]
)
def test_a_lost_device_is_asked_again_after_a_while_and_comes_back(
    nvml: Nvml, device: NvmlDevice, clock: Clock, code: int
) -> None:
    nvml.fail[READ] = error(code)
    with pytest.raises(SensorError) as first:
        device.read(READ)
    nvml.calls.clear()
    clock.now += RETRY_SECONDS - 0.1
    with pytest.raises(SensorError) as second:
        device.read(READ)
    assert nvml.calls == []
    assert str(second.value) == str(first.value)
    assert device.watts() is None
    nvml.fail.clear()
    clock.now += 0.1
    assert device.read(READ) == 1_000_000
    assert {"nvmlShutdown", "nvmlInit", "nvmlDeviceGetHandleByUUID"} <= set(nvml.calls)
    assert device.watts() == 300


def test_a_device_that_stays_lost_is_looked_for_less_and_less(
    nvml: Nvml, device: NvmlDevice, clock: Clock
) -> None:
    nvml.fail[READ] = error(pynvml.NVML_ERROR_GPU_IS_LOST)
    starts = []
    for _ in range(4000):
        nvml.calls.clear()
        with pytest.raises(SensorError, match="lost"):
            device.read(READ)
        if "nvmlInit" in nvml.calls:
            starts.append(clock.now - 1000)
        clock.now += 1.0
    assert starts[:3] == [5, 15, 35]
    assert len(starts) < 20


def test_an_error_that_is_no_loss_needs_no_new_start(nvml: Nvml, device: NvmlDevice) -> None:
    nvml.fail[READ] = error(pynvml.NVML_ERROR_TIMEOUT)
    with pytest.raises(SensorError, match="NVIDIA H100 cannot be read"):
        device.read(READ)
    nvml.fail.clear()
    nvml.calls.clear()
    assert device.read(READ) == 1_000_000
    assert nvml.calls == [READ]


def test_a_new_start_for_one_device_finds_the_others_again(
    nvml: Nvml, session: NvmlSession, device: NvmlDevice
) -> None:
    session.restart()
    # The driver's order has changed meanwhile.
    nvml.uuids.reverse()
    nvml.calls.clear()
    assert device.read(READ) == 1_000_000
    assert device._handle == 1
    device.read(READ)
    assert nvml.calls.count("nvmlDeviceGetHandleByUUID") == 1


def test_a_device_that_is_gone_after_a_new_start_is_lost(
    nvml: Nvml, session: NvmlSession, device: NvmlDevice, clock: Clock
) -> None:
    session.restart()
    nvml.uuids[0] = "GPU-cc"
    with pytest.raises(SensorError, match="cannot be found"):
        device.read(READ)
    nvml.uuids[0] = "GPU-aa"
    clock.now += RETRY_SECONDS
    assert device.read(READ) == 1_000_000


def test_a_device_that_did_not_answer_at_first_may_answer_later(
    nvml: Nvml, session: NvmlSession, clock: Clock
) -> None:
    nvml.fail["nvmlDeviceGetUUID"] = error(pynvml.NVML_ERROR_GPU_IS_LOST)
    device = NvmlDevice(session, 1, clock)
    assert (device.uuid, device.name) == ("index-1", "GPU 1")
    with pytest.raises(SensorError, match="GPU 1 did not answer"):
        device.read(READ)
    nvml.fail.clear()
    clock.now += RETRY_SECONDS
    assert device.read(READ) == 1_000_000


def test_a_device_that_may_not_be_used_does_not_disturb_the_others(
    nvml: Nvml, session: NvmlSession, clock: Clock
) -> None:
    nvml.fail["nvmlDeviceGetHandleByIndex"] = error(pynvml.NVML_ERROR_NO_PERMISSION)
    device = NvmlDevice(session, 1, clock)
    for _ in range(3):
        clock.now += 60
        with pytest.raises(SensorError, match="ask for read access"):
            device.read(READ)
    assert session.generation == 0
    nvml.fail.clear()
    clock.now += 60
    assert device.read(READ) == 1_000_000


def test_a_device_that_is_back_may_have_nothing_to_say(nvml: Nvml, device: NvmlDevice, clock: Clock) -> None:
    nvml.fail[READ] = error(pynvml.NVML_ERROR_GPU_IS_LOST)
    with pytest.raises(SensorError, match="lost"):
        device.read(READ)
    clock.now += RETRY_SECONDS
    nvml.fail[READ] = error(pynvml.NVML_ERROR_NOT_FOUND)
    for _ in range(2):
        nvml.calls.clear()
        with pytest.raises(SensorError):
            device.read(READ)
        assert READ in nvml.calls
    assert "nvmlInit" not in nvml.calls


def test_the_power_limit_is_asked_for_once_a_minute(nvml: Nvml, device: NvmlDevice, clock: Clock) -> None:
    assert device.limit_watts() == 700
    nvml.limit = 400_000
    clock.now += 59
    assert device.limit_watts() == 700
    clock.now += 1
    assert device.limit_watts() == 400
    nvml.limit = 2**32 - 1  # not told now: the last one known holds
    clock.now += 61
    assert device.limit_watts() == 400


@pytest.mark.parametrize("limit", [0, 2**32 - 1])
def test_no_power_limit_allows_for_anything(nvml: Nvml, session: NvmlSession, limit: int) -> None:
    nvml.limit = limit
    assert NvmlDevice(session, 0).limit_watts() == MAX_WATTS


def test_the_power_is_the_instantaneous_one_or_else_the_usage(nvml: Nvml, session: NvmlSession) -> None:
    assert NvmlDevice(session, 0).watts() == 300
    nvml.instant = None
    device = NvmlDevice(session, 0)
    assert not device.instant
    assert device.watts() == 200
    nvml.usage = 2**32 - 1
    assert device.watts() is None
    nvml.instant = 300_000
    device = NvmlDevice(session, 0)
    nvml.instant = None
    assert device.watts() is None  # One kind of power is not put beside another.


@pytest.mark.parametrize(
    ("value", "count"),
    [(0, 0.0), (5, 5.0), (2**32 - 1, None), (2**64 - 1, None), (-1, None), (True, None), ("5", None)],
)
def test_values_that_mean_not_available_are_no_numbers(value: object, count: float | None) -> None:
    assert number(value) == count


def test_a_value_of_unknown_type_is_none() -> None:
    assert union(SimpleNamespace(uiVal=3), pynvml.NVML_VALUE_TYPE_UNSIGNED_INT) == 3
    assert union(SimpleNamespace(uiVal=3), 99) is None
