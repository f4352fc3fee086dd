from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from titan_nb.energy.cpu_share import MachineCpu
from titan_nb.energy.sensors import Reading, zeus
from titan_nb.energy.sensors.zeus import ZeusSensor
from titan_nb.errors import SensorError
from titan_nb.records import Energy

WHOLE = Energy(100.0, 90.0, 110.0, "measured", "counter")


def fail() -> float:
    raise OSError("gone")


def sensor(joules: float = 5.0, **options: object) -> ZeusSensor:
    return ZeusSensor("gpu:x", "GPU", "counter", lambda: joules, limit_watts=300.0, **options)


def test_a_gpu_is_charged_as_a_whole() -> None:
    gpu = sensor(keep=object())
    reading = gpu.read()
    assert (reading.value, reading.extra) == (5.0, ())
    assert 0 <= reading.slack_seconds < 1
    energy = gpu.ours(WHOLE, reading, gpu.read())
    assert (energy.joules, energy.low, energy.high, energy.grade) == (100, 0, 110, "shared")
    gpu.close()


def test_a_cpu_is_charged_by_its_share() -> None:
    cpu = sensor(machine=MachineCpu())
    assert len(cpu.read().extra) == 3
    begin, end = Reading(0.0, 0.0, (0, 0, 0)), Reading(10.0, 100.0, (2, 2, 8))
    assert cpu.ours(WHOLE, begin, end).joules == 25


def test_power_is_told_where_it_can_be_read() -> None:
    assert sensor().watts_now() is None
    assert sensor(watts=lambda: 42.0).watts_now() == 42
    assert sensor(watts=fail).watts_now() is None


def test_a_counter_that_cannot_be_read_is_an_error() -> None:
    broken = ZeusSensor("gpu:x", "GPU", "counter", fail, limit_watts=300.0)
    with pytest.raises(SensorError, match="GPU cannot be read: gone"):
        broken.read()


def test_without_zeus_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeus", None)
    with pytest.raises(SensorError, match="zeus cannot be imported") as caught:
        zeus.import_zeus("zeus.device.soc.jetson")
    assert caught.value.remedy == 'pip install "titan_nb[zeus]"'


STAND_INS = ("zeus", "zeus.device", "zeus.device.gpu", "zeus.device.gpu.amd", "amdsmi")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A zeus that imports amdsmi as the real one does, and an amdsmi that prints as the real one does."""
    (tmp_path / "zeus" / "device" / "gpu").mkdir(parents=True)
    for part in ("zeus", "zeus/device", "zeus/device/gpu"):
        (tmp_path / part / "__init__.py").write_text("", encoding="ascii")
    (tmp_path / "zeus" / "device" / "gpu" / "amd.py").write_text(
        "try:\n    import amdsmi\nexcept Exception:\n    amdsmi = None\n", encoding="ascii"
    )
    (tmp_path / "amdsmi.py").write_text("print('Unable to find libamd_smi.so library')\n", encoding="ascii")
    monkeypatch.syspath_prepend(tmp_path)
    real = {name: sys.modules.pop(name) for name in STAND_INS if name in sys.modules}
    yield tmp_path
    for name in STAND_INS:
        sys.modules.pop(name, None)
    sys.modules.update(real)


@pytest.mark.parametrize("library", [True, False])
def test_amdsmi_is_settled_before_zeus_takes_stdout_away(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], library: bool
) -> None:
    if library:
        (package / "lib").mkdir()
        (package / "lib" / "libamd_smi.so").touch()
        (package / "amdsmi.py").write_text("", encoding="ascii")
    monkeypatch.setenv("ROCM_PATH", str(package))
    module = zeus.import_zeus("zeus.device.gpu.amd")
    assert (module.amdsmi is not None) is library
    assert ("amdsmi" in sys.modules) is library
    assert capsys.readouterr().out == ""
