from __future__ import annotations

import os
from collections.abc import Iterator

import pynvml
import pytest

from tests.unit.energy.sensors.nvml_stand_in import Clock, Nvml, error
from titan_nb.energy.sensors.nvml_device import NvmlDevice
from titan_nb.energy.sensors.nvml_processes import LOOK_SECONDS, Company, Processes, charge
from titan_nb.energy.sensors.nvml_session import NvmlSession
from titan_nb.records import Energy

ME, HERE, HOST = os.getpid(), os.getppid(), 2**22 + 7
WALL = 1_700_000_000.0


class Scene:
    """The processes of one device on clocks that stand still."""

    def __init__(self, session: NvmlSession, nvml: Nvml) -> None:
        self.nvml = nvml
        self.clock, self.wall = Clock(), Clock(WALL)
        self.processes = Processes(NvmlDevice(session, 0), self.clock, self.wall)

    def look(self, seconds: float = LOOK_SECONDS) -> Company:
        self.clock.now += seconds
        self.wall.now += seconds
        return self.processes.look(self.clock.now)

    def run(self, pid_percents: dict[int, int]) -> None:
        """Add a sample of now."""
        stamp = int(self.wall.now * 1e6)
        self.nvml.utilization = [
            *(self.nvml.utilization or []),
            *((stamp, pid, percent) for pid, percent in pid_percents.items()),
        ]


@pytest.fixture
def scene() -> Iterator[Scene]:
    nvml = Nvml()
    session = NvmlSession.join(nvml)
    yield Scene(session, nvml)
    session.leave()


@pytest.mark.parametrize(
    ("pids", "others", "equal"),
    [
        ([], 0, 1.0),
        ([ME], 0, 1.0),
        ([HOST], 0, 1.0),  # a container: the only one is taken as ours
        ([HERE], 1, 0.0),  # another's, and we are not on the device
        ([ME, HOST], 1, 0.5),
        ([HOST, HERE], 1, 0.5),
        ([HOST, HOST + 1, HOST + 2], 2, 1 / 3),
    ],
)
def test_who_is_there(scene: Scene, pids: list[int], others: int, equal: float) -> None:
    scene.nvml.pids = pids
    company = scene.look()
    assert company.others == others
    assert company.looks_shared == (others > 0)
    assert company.idle_share == pytest.approx(equal)


def test_it_looks_no_more_often_than_it_should(scene: Scene) -> None:
    first = scene.look()
    scene.nvml.calls.clear()
    assert scene.look(LOOK_SECONDS - 0.01) is first
    assert scene.nvml.calls == []
    assert scene.look(0.01).looks == 2


def test_a_look_that_takes_long_is_followed_by_a_long_rest(scene: Scene) -> None:
    scene.nvml.pids = []
    slow = type(
        "Slow", (list,), {"__iter__": lambda pids: (setattr(scene.clock, "now", 1001.0), iter(()))[1]}
    )
    scene.nvml.pids = slow()
    before = scene.look(0.5)
    assert scene.look(90) is before
    assert scene.look(20).looks == 2


def test_sm_time_is_added_up(scene: Scene) -> None:
    scene.nvml.pids, scene.nvml.utilization = [ME, HERE], []
    scene.look()
    for _ in range(4):
        scene.run({ME: 30, HERE: 60})
        company = scene.look()
    assert company.sampled_seconds == pytest.approx(2.0)
    # The first sample is of the time before the first look, so it is not counted with the first half second.
    assert company.our_sm_seconds == pytest.approx(0.3 * 1.5)
    assert company.other_sm_seconds == pytest.approx(0.6 * 1.5)


def test_several_samples_in_one_look_are_averaged_over_its_time(scene: Scene) -> None:
    scene.nvml.pids, scene.nvml.utilization = [ME, HERE], []
    scene.look()
    for percents in ({ME: 80}, {ME: 40, HERE: 100}):
        scene.clock.now += 1
        scene.wall.now += 1
        scene.run(percents)
    company = scene.look(0)
    assert company.our_sm_seconds == pytest.approx(2 * 0.6)
    assert company.other_sm_seconds == pytest.approx(2 * 0.5)


def test_samples_with_their_own_stamps_count_in_full(scene: Scene) -> None:
    scene.nvml.pids, scene.nvml.utilization = [ME, HERE], []
    scene.look()
    stamp = int(scene.wall.now * 1e6)
    scene.nvml.utilization = [(stamp + 10, ME, 50), (stamp + 20, HERE, 20)]
    company = scene.look(1.0)
    assert company.our_sm_seconds == pytest.approx(0.5)
    assert company.other_sm_seconds == pytest.approx(0.2)


def test_a_wall_clock_put_back_does_not_stop_the_sampling(scene: Scene) -> None:
    scene.nvml.pids, scene.nvml.utilization = [ME, HERE], []
    scene.look()
    scene.wall.now -= 3600
    scene.look()
    scene.clock.now += 1
    scene.wall.now += 1
    scene.run({ME: 50})
    assert scene.look(0).our_sm_seconds == pytest.approx(0.5)


def test_an_impossible_percentage_is_left_out(scene: Scene) -> None:
    scene.nvml.pids, scene.nvml.utilization = [ME, HERE], []
    scene.look()
    scene.run({HERE: 2**32 - 1})
    scene.nvml.utilization = [(stamp + 1, pid, percent) for stamp, pid, percent in scene.nvml.utilization]
    assert scene.look().other_sm_seconds == 0


@pytest.mark.parametrize(
    ("code", "asked"), [(pynvml.NVML_ERROR_NOT_SUPPORTED, 1), (pynvml.NVML_ERROR_TIMEOUT, 2)]
)
def test_only_what_can_work_is_asked_again(scene: Scene, code: int, asked: int) -> None:
    scene.nvml.fail["nvmlDeviceGetProcessUtilization"] = error(code)
    for _ in range(5):
        company = scene.look()
    assert scene.nvml.calls.count("nvmlDeviceGetProcessUtilization") == asked
    assert company.sampled_seconds == 0


def test_no_process_at_work_is_sampled_time_too(scene: Scene) -> None:
    scene.nvml.fail["nvmlDeviceGetProcessUtilization"] = error(0)
    scene.look()
    assert scene.look().sampled_seconds == pytest.approx(LOOK_SECONDS)


def test_where_ours_cannot_be_told_nothing_is_split(scene: Scene) -> None:
    scene.nvml.pids, scene.nvml.utilization = [HOST, HOST + 1], []
    scene.look()
    scene.run({HOST: 50})
    assert scene.look().sampled_seconds == 0


def test_a_driver_that_does_not_tell_is_noted(scene: Scene) -> None:
    scene.nvml.fail["nvmlDeviceGetComputeRunningProcesses"] = error(pynvml.NVML_ERROR_NOT_SUPPORTED)
    company = scene.look()
    assert (company.others, company.looks_untold) == (-1, 1)


WHOLE = Energy(1000.0, 990.0, 1010.0, "measured", "counter", 400.0)


def charged(
    begin: Company, end: Company, seconds: float = 10.0, whole: Energy = WHOLE, *, mig: bool = False
) -> Energy:
    return charge(whole, begin, end, seconds=seconds, limit_watts=100.0, mig=mig)


def test_alone_everything_is_ours() -> None:
    assert charged(Company(looks=1, idle_share=1), Company(looks=20, idle_share=20)) == WHOLE


SHARED = Company(
    others=1,
    looks=21,
    looks_shared=20,
    idle_share=11,
    our_sm_seconds=6,
    other_sm_seconds=2,
    sampled_seconds=10,
)
ALONE = Company(looks=1, idle_share=1)


def test_active_energy_is_split_by_sm_time_and_idle_energy_in_equal_parts() -> None:
    energy = charged(ALONE, SHARED)
    assert energy.joules == pytest.approx(600 * 0.75 + 400 * 0.5)
    assert energy.idle_joules == pytest.approx(200)
    # Less the idle energy of the others, and 100 W for their 2 s and one sampling period.
    assert energy.low == pytest.approx(990 - 200 - 300)
    assert energy.high == 1010
    assert energy.grade == "shared"
    assert "75% of its active energy, by SM time, and 50% of its idle energy" in energy.source


def test_without_an_idle_power_all_of_it_is_split_by_sm_time() -> None:
    energy = charged(ALONE, SHARED, whole=Energy(1000.0, 990.0, 1010.0, "measured", "counter"))
    assert energy.joules == pytest.approx(750)
    assert (energy.low, energy.high, energy.idle_joules) == (0, 1010, None)


def test_where_nobody_used_the_sms_the_split_is_equal() -> None:
    energy = charged(ALONE, SHARED._replace(our_sm_seconds=0, other_sm_seconds=0))
    assert energy.joules == pytest.approx(500)


def test_we_who_are_not_on_the_device_get_nothing_of_it() -> None:
    end = SHARED._replace(idle_share=1, our_sm_seconds=0)
    energy = charged(ALONE, end)
    assert (energy.joules, energy.low, energy.high, energy.grade) == (0, 0, 1010, "shared")


@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [
        (ALONE, SHARED, 1.9),  # too short
        (ALONE, SHARED._replace(sampled_seconds=4), 10.0),  # not sampled for most of it
        (SHARED, SHARED, 3.0),  # no look in it
        (SHARED, SHARED._replace(others=0), 0.1),  # gone at the end
        (ALONE, SHARED._replace(others=0), 1.0),  # there in between only
    ],
)
def test_what_cannot_be_split_is_the_whole_with_no_lower_end(
    begin: Company, end: Company, seconds: float
) -> None:
    energy = charged(begin, end, seconds)
    assert (energy.joules, energy.low, energy.high, energy.grade) == (1000, 0, 1010, "shared")
    assert "other processes" in energy.source


def test_a_mig_instance_is_charged_the_whole_gpu_and_it_says_so() -> None:
    energy = charged(Company(), Company(), mig=True)
    assert (energy.joules, energy.low, energy.grade) == (1000, 0, "shared")
    assert "MIG" in energy.source


def test_no_list_of_processes_is_not_taken_for_being_alone() -> None:
    for begin, end in (
        (ALONE, ALONE._replace(others=-1)),
        (ALONE, ALONE._replace(looks=9, looks_untold=1)),
    ):
        energy = charged(begin, end)
        assert (energy.grade, energy.low) == ("shared", 0)
        assert "not known" in energy.source


def test_a_bounded_or_unknown_figure_stays_what_it_is() -> None:
    bounded = Energy(5.0, 0.0, 50.0, "bounded", "counter")
    assert charged(SHARED, SHARED, 0.01, bounded).grade == "bounded"
    assert charged(ALONE, SHARED, 10.0, bounded).grade == "bounded"
    unknown = Energy.unknown("lost")
    assert charged(ALONE, SHARED, 10.0, unknown) is unknown
