"""RAPL counters that only the daemon zeusd may read, through zeus."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from titan_nb.energy.cpu_share import MachineCpu
from titan_nb.energy.sensors import Counter
from titan_nb.energy.sensors.rapl import PACKAGE_WATTS, Zone
from titan_nb.energy.sensors.zeus import ZeusSensor, import_zeus
from titan_nb.errors import SensorError

__all__ = ["zeusd_configured", "zeusd_sensors"]

_SOURCE = "RAPL counter by zeusd x share of the machine's CPU time"
_REMEDY = "start zeusd, or check ZEUSD_SOCK_PATH"


def zeusd_configured(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether the user has told zeus where its daemon is."""
    environ = os.environ if environ is None else environ
    return "ZEUSD_SOCK_PATH" in environ or "ZEUSD_HOST_PORT" in environ


def zeusd_sensors(
    zones: Sequence[Zone], machine: MachineCpu, rapl: Any = None, daemon: Any = None
) -> list[Counter]:
    """Return one sensor for each of the ``zones``, read by the daemon zeusd, which has the right to.

    Args:
        zones: The RAPL counters that the machine shows; see `rapl_zones`.
        machine: The CPU time of the machine.
        rapl: The module ``zeus.device.cpu.rapl``, or a stand-in for it.
        daemon: The module ``zeus.utils.zeusd``, or a stand-in for it.

    Raises:
        SensorError: If the daemon cannot be asked, or does not read these counters.
    """
    rapl = import_zeus("zeus.device.cpu.rapl") if rapl is None else rapl
    daemon = import_zeus("zeus.utils.zeusd") if daemon is None else daemon
    sensors: list[Counter] = []
    try:
        client = daemon.ZeusdClient(daemon.ZeusdConfig.from_env())
        for zone in zones:
            # "intel-rapl:0" and, within it, "intel-rapl:0:1": the daemon counts packages.
            package = rapl.ZeusdRAPLCPU(int(zone.folder.name.split(":")[1]), client)
            memory = zone.key.startswith("dram:")
            if memory and not package.supports_get_dram_energy_consumption():
                continue
            joules = _package_joules(package, "dram_mj" if memory else "cpu_mj")
            sensors.append(
                ZeusSensor(zone.key, zone.name, _SOURCE, joules, limit_watts=PACKAGE_WATTS, machine=machine)
            )
    except Exception as error:
        raise SensorError(f"zeusd does not answer: {error}", _REMEDY) from error
    return sensors


def _package_joules(package: Any, field: str) -> Callable[[], float]:
    return lambda: float(getattr(package.get_total_energy_consumption(), field)) * 1e-3
