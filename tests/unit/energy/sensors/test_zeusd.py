from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.energy.cpu_share import MachineCpu
from titan_nb.energy.sensors import Reading
from titan_nb.energy.sensors.rapl import Zone
from titan_nb.energy.sensors.zeusd import zeusd_configured, zeusd_sensors
from titan_nb.errors import SensorError
from titan_nb.records import Energy

WHOLE = Energy(100.0, 90.0, 110.0, "measured", "counter")


class Daemon:
    """zeusd's client and the class that asks it, as zeus 0.16 has them."""

    def __init__(self, dram: bool = True, error: Exception | None = None) -> None:
        self.dram, self.error = dram, error
        self.energy = {0: (10_000.0, 2_000.0), 1: (20_000.0, 3_000.0)}
        self.ZeusdConfig = SimpleNamespace(from_env=lambda: "the configuration")

    def ZeusdClient(self, config: str) -> str:
        assert config == "the configuration"
        if self.error is not None:
            raise self.error
        return "the client"

    def ZeusdRAPLCPU(self, cpu_index: int, client: str) -> Any:
        assert client == "the client"
        return SimpleNamespace(
            supports_get_dram_energy_consumption=lambda: self.dram,
            get_total_energy_consumption=lambda: SimpleNamespace(
                **dict(zip(("cpu_mj", "dram_mj"), self.energy[cpu_index], strict=True))
            ),
        )


ZONES = [
    Zone(Path("intel-rapl:0"), "cpu:b:pkg0", "CPU package 0"),
    Zone(Path("intel-rapl:0/intel-rapl:0:1"), "dram:b:pkg0", "memory of CPU package 0"),
    Zone(Path("intel-rapl:1"), "cpu:b:pkg1", "CPU package 1"),
]


def test_the_daemon_reads_the_counters_that_we_may_not() -> None:
    daemon = Daemon()
    sensors = zeusd_sensors(ZONES, MachineCpu(), daemon, daemon)
    assert [(one.key, one.read().value) for one in sensors] == [
        ("cpu:b:pkg0", 10.0),
        ("dram:b:pkg0", 2.0),
        ("cpu:b:pkg1", 20.0),
    ]
    begin, end = Reading(0.0, 0.0, (0, 0, 0)), Reading(10.0, 100.0, (2, 2, 8))
    energy = sensors[0].ours(WHOLE, begin, end)
    assert (energy.joules, energy.grade) == (25, "shared")
    assert "zeusd" in sensors[0].source
    assert sensors[0].watts_now() is None


def test_memory_that_the_daemon_does_not_read_is_left_out() -> None:
    daemon = Daemon(dram=False)
    assert len(zeusd_sensors(ZONES, MachineCpu(), daemon, daemon)) == 2


def test_a_daemon_that_does_not_answer_is_an_error() -> None:
    daemon = Daemon(error=ConnectionError("refused"))
    with pytest.raises(SensorError, match="zeusd does not answer: refused") as caught:
        zeusd_sensors(ZONES, MachineCpu(), daemon, daemon)
    assert "ZEUSD_SOCK_PATH" in caught.value.remedy


@pytest.mark.parametrize(
    ("environ", "configured"),
    [({}, False), ({"ZEUSD_SOCK_PATH": "/run/zeusd"}, True), ({"ZEUSD_HOST_PORT": "a:1"}, True)],
)
def test_the_daemon_is_asked_only_where_the_user_says_where_it_is(
    environ: dict[str, str], configured: bool
) -> None:
    assert zeusd_configured(environ) is configured


def test_without_zeus_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeus", None)
    with pytest.raises(SensorError) as caught:
        zeusd_sensors(ZONES, MachineCpu())
    assert caught.value.remedy == 'pip install "titan_nb[zeus]"'
