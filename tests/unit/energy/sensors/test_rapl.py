from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from titan_nb.energy.cpu_time import CpuTimes
from titan_nb.energy.sensors import Reading, rapl
from titan_nb.energy.sensors.rapl import PACKAGE_WATTS, RaplSensor, rapl_sensors
from titan_nb.errors import SensorError
from titan_nb.host import boot_id

RANGE_UJ = 262_143_328_850


def zone(folder: Path, name: str, uj: object = 1_000_000, range_uj: object = RANGE_UJ) -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n", encoding="ascii")
    (folder / "energy_uj").write_text(f"{uj}\n", encoding="ascii")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n", encoding="ascii")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "powercap"
    zone(root / "intel-rapl:0", "package-0")
    zone(root / "intel-rapl:0" / "intel-rapl:0:0", "core")
    zone(root / "intel-rapl:0" / "intel-rapl:0:1", "dram")
    zone(root / "intel-rapl:0:0", "core")
    zone(root / "intel-rapl:1", "package-1")
    zone(root / "intel-rapl:2", "psys")
    zone(root / "intel-rapl-mmio:0", "package-0")
    return root


@pytest.fixture
def stat(tmp_path: Path) -> Path:
    path = tmp_path / "stat"
    path.write_text("cpu  100 20 30 9999 50 5 5 70 3 0\ncpu0 1 2 3\n", encoding="ascii")
    return path


def set_uj(zone: Path, uj: object) -> None:
    (zone / "energy_uj").write_text(f"{uj}", encoding="ascii")


def test_packages_and_their_memory_are_found(root: Path, stat: Path) -> None:
    boot = boot_id()
    found = {sensor.key: sensor.name for sensor in rapl_sensors(root, stat)}
    assert found == {
        f"cpu:{boot}:pkg0": "CPU package 0",
        f"dram:{boot}:pkg0": "memory of CPU package 0",
        f"cpu:{boot}:pkg1": "CPU package 1",
    }


def test_no_powercap_is_no_sensor(tmp_path: Path) -> None:
    assert rapl_sensors(tmp_path / "none") == []


def test_a_reading_holds_joules_and_busy_cpu_seconds(root: Path, stat: Path) -> None:
    reading = RaplSensor(root / "intel-rapl:0", "k", "n", stat).read()
    assert reading.value == 1.0
    own, total, busy, doubts = reading.extra
    assert 0 < own <= total
    assert busy == pytest.approx(160 / os.sysconf("SC_CLK_TCK"))
    assert doubts == 0


def test_any_number_of_wraps_adds_up_to_the_truth(root: Path, stat: Path) -> None:
    rng = random.Random(3)
    folder = root / "intel-rapl:0"
    sensor = RaplSensor(folder, "k", "n", stat)
    begin, truth, raw = sensor.read(), 0, 1_000_000
    for _ in range(200):
        step = rng.randrange(RANGE_UJ)
        truth += step
        raw = (raw + step) % RANGE_UJ
        set_uj(folder, raw)
        end = sensor.read()
    assert end.value - begin.value == pytest.approx(truth * 1e-6, abs=1e-3)


def readings(joules: float, ours: float, busy: float, seconds: float) -> tuple[Reading, Reading]:
    return Reading(0.0, 0.0, (0, 0, 0, 0)), Reading(seconds, joules, (ours, ours, busy, 0))


def energy_of(root: Path, stat: Path, joules: float, ours: float, busy: float, seconds: float = 10.0):
    sensor = RaplSensor(root / "intel-rapl:0", "k", "n", stat)
    return sensor.energy(*readings(joules, ours, busy, seconds), 0.0, seconds)


def test_the_share_is_ours_of_what_all_used(root: Path, stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl.os, "cpu_count", lambda: 4)
    energy = energy_of(root, stat, joules=1000, ours=5, busy=20)
    edge = PACKAGE_WATTS * rapl.TICK_SECONDS
    assert energy.grade == "shared"
    assert energy.joules == pytest.approx(250)
    assert energy.low == pytest.approx((1000 - edge) * 5 / 40)
    assert energy.high == pytest.approx(1000 + edge)


def test_coarse_counts_of_the_machine_never_give_more_than_everything(root: Path, stat: Path) -> None:
    assert energy_of(root, stat, joules=10, ours=0.005, busy=0.0).joules == 10
    idle = energy_of(root, stat, joules=10, ours=0.0, busy=0.0)
    assert (idle.joules, idle.low) == (0, 0)
    assert idle.high is not None
    assert idle.high > 10
    assert energy_of(root, stat, joules=0, ours=0.0, busy=0.0, seconds=0.0).joules == 0


def test_children_count_as_ours() -> None:
    assert CpuTimes(2, 9).since(CpuTimes(1, 3)) == 6


def test_too_long_without_a_reading_is_unknown(
    root: Path, stat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(rapl.time, "perf_counter", lambda: now)
    sensor = RaplSensor(root / "intel-rapl:0", "k", "n", stat)
    begin = sensor.read()
    assert sensor.refresh_seconds == pytest.approx(RANGE_UJ * 1e-6 / PACKAGE_WATTS / 2)
    now += sensor.refresh_seconds
    good = sensor.read()
    assert sensor.energy(begin, good, 0, now).grade == "shared"
    now += 3 * sensor.refresh_seconds
    energy = sensor.energy(good, sensor.read(), 0, now)
    assert energy.grade == "unknown"
    assert "wrapped unseen" in energy.source
    sensor.close()


def test_no_permission_comes_with_the_remedy(root: Path, stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_text = Path.read_text

    def refuse(path: Path, **options: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SensorError) as caught:
        rapl_sensors(root, stat)
    assert caught.value.remedy == "sudo chmod -R a+r /sys/class/powercap/intel-rapl*"


@pytest.mark.parametrize("content", ["", "garbage", "-5", "1e30", "12 34"])
@pytest.mark.parametrize("name", ["energy_uj", "max_energy_range_uj"])
def test_nonsense_in_a_file_is_an_error(root: Path, stat: Path, name: str, content: str) -> None:
    (root / "intel-rapl:1" / name).write_text(content, encoding="ascii")
    with pytest.raises(SensorError, match="no count of energy"):
        rapl_sensors(root, stat)


@pytest.mark.parametrize("name", ["name", "energy_uj", "max_energy_range_uj"])
def test_a_missing_file_is_an_error(root: Path, stat: Path, name: str) -> None:
    (root / "intel-rapl:1" / name).unlink()
    with pytest.raises(SensorError, match="cannot be read: No such file"):
        rapl_sensors(root, stat)


@pytest.mark.parametrize("content", ["", "cpu 1 2", "cpu a b c d e f g"])
def test_a_broken_proc_stat_is_an_error(root: Path, stat: Path, content: str) -> None:
    stat.write_text(content, encoding="ascii")
    with pytest.raises(SensorError, match="CPU time"):
        rapl_sensors(root, stat)
