from __future__ import annotations

import random
from pathlib import Path

import pytest

from titan_nb.energy.cpu_share import MachineCpu
from titan_nb.energy.sensors import Reading, rapl
from titan_nb.energy.sensors.rapl import PACKAGE_WATTS, RaplSensor, Zone, rapl_sensors, rapl_zones
from titan_nb.errors import SensorError
from titan_nb.host import boot_id
from titan_nb.records import Energy

RANGE_UJ = 262_143_328_850
BOOT = boot_id()


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
    path.write_text("cpu  100 20 30 9999 50 5 5 70 3 0\n", encoding="ascii")
    return path


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rapl.time, "perf_counter", clock)
    return clock


@pytest.fixture
def sensor(root: Path, stat: Path) -> RaplSensor:
    return RaplSensor(Zone(root / "intel-rapl:0", "cpu:b:pkg0", "CPU package 0"), MachineCpu(stat))


def set_uj(folder: Path, uj: object) -> None:
    (folder / "energy_uj").write_text(f"{uj}", encoding="ascii")


def keys(root: Path, stat: Path) -> list[str]:
    return [sensor.key.replace(BOOT, "b") for sensor in rapl_sensors(root, stat)]


def test_packages_and_their_memory_are_found(root: Path, stat: Path) -> None:
    found = {sensor.key: sensor.name for sensor in rapl_sensors(root, stat)}
    assert found == {
        f"cpu:{BOOT}:pkg0": "CPU package 0",
        f"dram:{BOOT}:pkg0": "memory of CPU package 0",
        f"cpu:{BOOT}:pkg1": "CPU package 1",
    }


def test_no_powercap_is_no_sensor(tmp_path: Path) -> None:
    assert rapl_sensors(tmp_path / "none") == []


def test_the_whole_platform_counts_only_where_there_is_no_package(tmp_path: Path, stat: Path) -> None:
    zone(tmp_path / "only" / "intel-rapl:0", "psys")
    assert keys(tmp_path / "only", stat) == ["cpu:b:psys"]


def test_a_package_shown_twice_counts_once(tmp_path: Path, stat: Path) -> None:
    zone(tmp_path / "r" / "intel-rapl:0", "package-0", uj=5)
    zone(tmp_path / "r" / "intel-rapl:1", "package-0", uj=7_000_000)
    assert keys(tmp_path / "r", stat) == ["cpu:b:pkg0"]


@pytest.mark.parametrize("other", ["package-0-die-1", "package-1-die-0"])
def test_dies_that_mirror_their_package_count_once_others_each(
    tmp_path: Path, stat: Path, other: str
) -> None:
    zone(tmp_path / "r" / "intel-rapl:0", "package-0-die-0", uj=123_456_789)
    zone(tmp_path / "r" / "intel-rapl:1", other, uj=123_456_789)
    mirrored = other.startswith("package-0")
    assert len(keys(tmp_path / "r", stat)) == (1 if mirrored else 2)
    set_uj(tmp_path / "r" / "intel-rapl:1", 123_456_790)
    assert len(keys(tmp_path / "r", stat)) == 2


def test_a_mirror_that_moves_between_the_looks_is_one_still(
    tmp_path: Path, stat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for die in range(2):
        zone(tmp_path / "r" / f"intel-rapl:{die}", f"package-0-die-{die}")
    looks = iter([RANGE_UJ - 9, 2, 3, *range(10, 100)])  # it wraps once, during the first look
    monkeypatch.setattr(RaplSensor, "read", lambda sensor: None)
    monkeypatch.setattr(RaplSensor, "raw_uj", lambda sensor: next(looks))
    assert len(rapl_sensors(tmp_path / "r", stat)) == 1


def test_a_reading_holds_joules_cpu_seconds_and_its_length(sensor: RaplSensor, root: Path) -> None:
    first = sensor.read()
    set_uj(root / "intel-rapl:0", 1_500_000)
    second = sensor.read()
    assert second.value - first.value == pytest.approx(0.5)
    own, total, busy, doubts = second.extra
    assert 0 < own <= total
    assert busy > 0
    assert doubts == 0
    assert 0 < second.slack_seconds < 1
    assert sensor.watts_now() is None
    assert sensor.duty == 1.0
    sensor.close()


def test_any_number_of_wraps_adds_up_to_the_truth(sensor: RaplSensor, root: Path, clock: Clock) -> None:
    rng = random.Random(3)
    begin, truth, raw = sensor.read(), 0, 1_000_000
    for _ in range(200):
        seconds = rng.uniform(0, sensor.refresh_seconds or 0)
        step = int(rng.uniform(0, PACKAGE_WATTS) * seconds * 1e6)
        truth += step
        raw = (raw + step) % RANGE_UJ
        clock.now += seconds
        set_uj(root / "intel-rapl:0", raw)
        end = sensor.read()
    assert truth > 10 * RANGE_UJ
    assert end.value - begin.value == pytest.approx(truth * 1e-6, abs=1e-3)
    assert end.extra[3] == 0


def whole(joules: float = 1000.0) -> Energy:
    return Energy(joules, joules, joules, "measured", "counter")


def test_what_is_ours_is_a_share(sensor: RaplSensor) -> None:
    begin, end = Reading(0.0, 0.0, (0, 0, 0, 0)), Reading(10.0, 1000.0, (5, 5, 20, 0))
    energy = sensor.ours(whole(), begin, end)
    assert (energy.joules, energy.high, energy.grade) == (250, 1000, "shared")
    assert energy.source == "counter"


def test_too_long_without_a_reading_is_unknown(sensor: RaplSensor, clock: Clock) -> None:
    begin = sensor.read()
    assert sensor.refresh_seconds == pytest.approx(RANGE_UJ * 1e-6 / PACKAGE_WATTS / 2)
    clock.now += sensor.refresh_seconds
    good = sensor.read()
    assert sensor.ours(whole(), begin, good).grade == "shared"
    clock.now += 3 * sensor.refresh_seconds
    energy = sensor.ours(whole(), good, sensor.read())
    assert energy.grade == "unknown"
    assert "wrapped unseen" in energy.source


def test_a_counter_that_begins_anew_is_no_wrap(sensor: RaplSensor, root: Path, clock: Clock) -> None:
    set_uj(root / "intel-rapl:0", 90_000_000_000)
    begin = sensor.read()
    set_uj(root / "intel-rapl:0", 3_000_000)  # after a night of sleep, of which the clock knows nothing
    clock.now += 1.0
    end = sensor.read()
    assert end.value == begin.value
    assert sensor.ours(whole(), begin, end).grade == "unknown"
    clock.now += 1.0
    set_uj(root / "intel-rapl:0", 53_000_000)
    after = sensor.read()
    assert after.value - end.value == pytest.approx(50)
    assert sensor.ours(whole(50), end, after).grade == "shared"


def test_a_counter_that_vanishes_is_read_again_when_it_is_back(
    sensor: RaplSensor, root: Path, clock: Clock
) -> None:
    begin = sensor.read()
    counter = root / "intel-rapl:0" / "energy_uj"
    counter.rename(counter.with_name("away"))
    with pytest.raises(SensorError, match="cannot be read: No such file"):
        sensor.read()
    counter.with_name("away").rename(counter)
    set_uj(root / "intel-rapl:0", 31_000_000)
    clock.now += 1.0
    end = sensor.read()
    assert end.value - begin.value == pytest.approx(30)
    assert sensor.ours(whole(30), begin, end).grade == "shared"


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({}, PACKAGE_WATTS),
        ({"0_name": "long_term", "0_max_power_uw": 65_000_000}, PACKAGE_WATTS),
        ({"0_name": "long_term", "0_max_power_uw": 65_000_000, "1_name": "short_term"}, 65),
        (
            {
                "0_name": "long_term",
                "0_max_power_uw": 65_000_000,
                "1_name": "short_term",
                "1_max_power_uw": 0,
                "1_power_limit_uw": 120_000_000,
            },
            120,
        ),
        ({"0_name": "peak_power", "0_power_limit_uw": 4_095_000_000}, PACKAGE_WATTS),
        ({"0_name": "short_term", "0_max_power_uw": "garbage"}, PACKAGE_WATTS),
        ({"0_name": "short_term", "0_max_power_uw": 0}, PACKAGE_WATTS),
    ],
)
def test_the_limit_is_told_by_the_zone_or_a_bound_for_all(
    root: Path, stat: Path, files: dict[str, object], watts: float
) -> None:
    for name, value in files.items():
        (root / "intel-rapl:1" / f"constraint_{name}").write_text(f"{value}\n", encoding="ascii")
    (sensor,) = (one for one in rapl_sensors(root, stat) if one.key.endswith("pkg1"))
    assert sensor.limit_watts == pytest.approx(watts)


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
    assert len(rapl_zones(root)) == 3, "that the counters are there is known all the same"


def test_counters_hidden_from_a_container_are_told(tmp_path: Path, stat: Path) -> None:
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "masked")
    with pytest.raises(SensorError, match="hidden from this container") as caught:
        rapl_sensors(tmp_path, stat)
    assert caught.value.remedy


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
