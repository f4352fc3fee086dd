"""NVIDIA Jetson modules by the power of their rails, through zeus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from titan_nb.energy.sensors import Counter
from titan_nb.energy.sensors.integral import PowerIntegral
from titan_nb.energy.sensors.rapl import PACKAGE_WATTS
from titan_nb.energy.sensors.zeus import import_zeus
from titan_nb.errors import SensorError
from titan_nb.host import boot_id

__all__ = ["jetson_sensors"]

_RAILS = (
    ("total_power_mw", "cpu:{}:module", "Jetson module"),
    ("cpu_power_mw", "cpu:{}:rail", "Jetson CPU"),
    ("gpu_power_mw", "gpu:rail-{}", "Jetson GPU"),
)


def jetson_sensors(jetson: Any = None) -> list[Counter]:
    """Return a sensor for the whole Jetson module; where it has no such rail, one each for CPU and GPU.

    zeus itself reads the rails in a child process, which would run the user's main module once more; here
    they are read by the sampler.

    Args:
        jetson: The module ``zeus.device.soc.jetson``, or a stand-in for it.

    Raises:
        SensorError: If the rails cannot be read; the message carries the remedy where there is one.
    """
    jetson = import_zeus("zeus.device.soc.jetson") if jetson is None else jetson
    try:
        # The method does not use its object, whose making would start the child process.
        rails = jetson.Jetson._discover_available_metrics(None)
    except Exception as error:
        raise SensorError(f"the power rails of this Jetson cannot be found: {error}") from error
    # The whole module, if it has such a rail, holds the two others.
    whole = [rail for rail in _RAILS if rail[0] == "total_power_mw" and rail[0] in rails]
    return [
        PowerIntegral(
            key.format(boot_id()),
            name,
            f"power rail of the {name}",
            _rail_watts(rails[rail]),
            limit_watts=PACKAGE_WATTS,
        )
        for rail, key, name in whole or _RAILS
        if rail in rails
    ]


def _rail_watts(rail: Any) -> Callable[[], float]:
    return lambda: float(rail.measure_power()) * 1e-3
