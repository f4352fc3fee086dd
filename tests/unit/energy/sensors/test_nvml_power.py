from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.energy.sensors.nvml_stand_in import AMPERE, HOPPER, PASCAL, TURING, Clock, Nvml, error
from titan_nb.energy.sensors.nvml_device import NvmlDevice
from titan_nb.energy.sensors.nvml_power import NvmlPower, PowerRange
from titan_nb.energy.sensors.nvml_processes import Company
from titan_nb.energy.sensors.nvml_session import NvmlSession
from titan_nb.errors import SensorError
from titan_nb.records import Energy

WALL = 1_700_000_000.0


class Scene:
    """A device without a counter, on clocks that stand still."""

    def __init__(self, nvml: Nvml, session: NvmlSession) -> None:
        self.nvml = nvml
        self.session = session
        self.clock, self.wall = Clock(), Clock(WALL)

    def sensor(self) -> NvmlPower:
        return NvmlPower(NvmlDevice(self.session, 0, self.clock), clock=self.clock, wall_clock=self.wall)

    def sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wall.now += seconds

    def sample(self, watts: float) -> None:
        self.nvml.samples = [*(self.nvml.samples or []), (int(self.wall.now * 1e6), int(watts * 1000))]


@pytest.fixture
def scene() -> Iterator[Scene]:
    nvml = Nvml()
    nvml.architecture, nvml.instant = TURING, None
    session = NvmlSession.join(nvml)
    yield Scene(nvml, session)
    session.leave()


def test_the_power_is_integrated_by_the_trapezoid_and_half_of_each_change_is_in_doubt(scene: Scene) -> None:
    sensor = scene.sensor()
    assert sensor.read().value == 0
    for watts in (100, 300, 300):
        scene.sleep(0.1)
        scene.nvml.usage = watts * 1000
        reading = sensor.read()
    assert reading.value == pytest.approx(0.1 * (150 + 200 + 300))
    assert reading.extra[0] == pytest.approx(0.1 * (50 + 100 + 0))
    assert Company(*reading.extra[1:]).looks == 1


def test_two_reads_at_one_moment_are_one(scene: Scene) -> None:
    sensor = scene.sensor()
    sensor.read()
    scene.nvml.usage = 600_000
    assert sensor.read().value == 0
    scene.sleep(0.1)
    assert sensor.read().value == pytest.approx(0.1 * (200 + 600) / 2)


def test_the_instantaneous_power_is_used_where_there_is_one(scene: Scene) -> None:
    scene.nvml.instant = 50_000
    sensor = scene.sensor()
    sensor.read()
    scene.sleep(0.1)
    assert sensor.read().value == pytest.approx(5)


def test_a_long_time_without_a_value_may_have_drawn_anything(scene: Scene) -> None:
    sensor = scene.sensor()
    sensor.read()
    scene.sleep(10)
    reading = sensor.read()
    assert reading.value == pytest.approx(2000)
    assert reading.extra[0] == pytest.approx(7000)


def test_the_driver_s_own_samples_are_used_where_it_keeps_them(scene: Scene) -> None:
    scene.sample(999)  # of the time before
    sensor = scene.sensor()
    scene.sleep(0.01)
    sensor.read()  # 200 W now
    for watts in (100, 400, 400):
        scene.sleep(0.02)
        scene.sample(watts)
    scene.nvml.samples.reverse()
    reading = sensor.read()
    assert reading.value == pytest.approx(0.02 * (150 + 250 + 400), abs=1e-3)
    assert reading.extra[0] == pytest.approx(0.02 * (50 + 150), abs=1e-3)
    assert sensor.read().value == reading.value  # none since
    scene.sleep(0.02)
    scene.sample(400)
    assert sensor.read().value == pytest.approx(reading.value + 8, abs=1e-3)


def test_a_wall_clock_that_steps_loses_no_energy_and_adds_none(scene: Scene) -> None:
    scene.nvml.samples = []
    sensor = scene.sensor()
    sensor.read()
    for step in (3600, -3600):
        before = sensor.read().value
        scene.wall.now += step
        scene.sleep(0.1)
        scene.sample(10_000)
        assert sensor.read().value == pytest.approx(before + 20, abs=1e-2)  # 200 W, and not the sample
        scene.sleep(0.1)
        scene.sample(200)
        assert sensor.read().value == pytest.approx(before + 40, abs=1e-2)


def test_samples_that_are_no_numbers_are_left_out(scene: Scene) -> None:
    scene.nvml.samples = []
    sensor = scene.sensor()
    sensor.read()
    scene.sleep(0.1)
    scene.nvml.samples = [(int(scene.wall.now * 1e6), 2**32 - 1)]
    assert sensor.read().value == 0


def test_no_power_at_all_is_an_error(scene: Scene) -> None:
    sensor = scene.sensor()
    scene.nvml.usage = 2**32 - 1
    with pytest.raises(SensorError, match="does not tell its power now"):
        sensor.read()
    scene.nvml.fail["nvmlDeviceGetPowerUsage"] = error(pynvml.NVML_ERROR_NO_PERMISSION)
    with pytest.raises(SensorError, match="ask for read access"):
        sensor.read()


def test_samples_that_fail_are_an_error(scene: Scene) -> None:
    scene.nvml.samples = []
    sensor = scene.sensor()
    sensor.read()
    scene.nvml.fail["nvmlDeviceGetSamples"] = error(pynvml.NVML_ERROR_GPU_IS_LOST)
    with pytest.raises(SensorError, match="lost"):
        sensor.read()


@pytest.mark.parametrize(
    ("architecture", "instant", "samples", "duty", "window"),
    [
        (HOPPER, None, False, 1.0, 1.0),
        (HOPPER, 200_000, False, 0.25, 0.1),
        (HOPPER, 200_000, True, 1.0, 1.0),  # that the samples are instantaneous is documented nowhere
        (TURING, None, False, 1.0, 0.1),
        (PASCAL, None, False, 0.2, 0.02),  # 10 ms of each 50 ms between two reads
        (PASCAL, None, True, 0.5, 0.02),
        (AMPERE, None, False, 1.0, 1.0),
    ],
)
def test_how_much_of_the_time_the_values_see(
    scene: Scene, architecture: int, instant: int | None, samples: bool, duty: float, window: float
) -> None:
    scene.nvml.architecture, scene.nvml.instant = architecture, instant
    scene.nvml.samples = [] if samples else None
    sensor = scene.sensor()
    assert sensor.duty == pytest.approx(duty)
    assert sensor.source.startswith("NVML power integrated of NVIDIA H100 (")
    whole = Energy(100.0, 90.0, 110.0, "measured", "power")
    begin = sensor.read()
    sensor._add(1000.5, 300.0)
    sensor._add(1001.0, 200.0)
    end = dataclasses.replace(begin, at=1001.0)
    energy = sensor.ours(whole, begin, end)
    assert energy.high == pytest.approx(110 + window * 100)


def test_the_doubt_widens_the_interval_and_not_the_figure(scene: Scene) -> None:
    sensor = scene.sensor()
    begin = sensor.read()
    scene.sleep(0.1)
    scene.nvml.usage = 300_000
    end = sensor.read()
    whole = Energy(25.0, 25.0, 25.0, "measured", "power", 20.0)
    energy = sensor.ours(whole, begin, end)
    doubt = 0.1 * 50 + 0.1 * 100  # half of the change; the sensor's period times the spread
    assert energy == Energy(
        25.0, pytest.approx(25 - doubt), pytest.approx(25 + doubt), "measured", "power", 20.0
    )
    assert sensor.ours(Energy(25.0, 1.0, 25.0, "measured", "power"), begin, end).low == 0
    unknown = Energy.unknown("lost")
    assert sensor.ours(unknown, begin, end) is unknown


def test_a_calibrated_duty_is_used(scene: Scene) -> None:
    device = NvmlDevice(scene.session, 0, scene.clock)
    calibration = {"duty": 0.7, "timestamp_moves_with_ticks": True}
    sensor = NvmlPower(device, calibration=calibration)
    assert (sensor.duty, sensor.tells_ticks) == (0.7, False)


@given(
    values=st.lists(st.floats(0, 1000), min_size=1, max_size=200),
    size=st.integers(4, 16),
    data=st.data(),
)
def test_a_spread_is_never_too_small_and_memory_stays_bounded(
    values: list[float], size: int, data: st.DataObject
) -> None:
    powers = PowerRange(size)
    for at, watts in enumerate(values):
        powers.add(float(at), watts)
        assert len(powers._spans) < size
    begin = data.draw(st.integers(0, len(values) - 1))
    end = data.draw(st.integers(begin, len(values) - 1))
    inside = values[begin : end + 1]
    assert powers.spread(begin, end) >= max(inside) - min(inside)
    assert powers.spread(begin, end) <= max(values) - min(values)


def test_outside_of_all_values_nothing_is_known_of_a_spread() -> None:
    powers = PowerRange()
    powers.add(5.0, 100.0)
    assert powers.spread(6.0, 7.0) == 0
