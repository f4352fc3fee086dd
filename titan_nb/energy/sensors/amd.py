"""AMD GPUs by the energy counter of amdsmi, through zeus."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from titan_nb.energy.bracket import MAX_WATTS
from titan_nb.energy.sensors import Counter
from titan_nb.energy.sensors.integral import PowerIntegral
from titan_nb.energy.sensors.zeus import AMD_LIBRARY, ZeusSensor, amd_library, import_zeus
from titan_nb.errors import SensorError
from titan_nb.host import boot_id

__all__ = ["amd_sensors"]


def amd_sensors(amd: Any = None, environ: Mapping[str, str] | None = None) -> list[Counter]:
    """Return one sensor for each AMD GPU that HIP shows to this process.

    zeus compares each GPU's counter with its power for half a second, because some counters are wrong by
    orders of magnitude (github.com/ROCm/amdsmi/issues/38). Where the two differ by more than a factor of
    ten, the power is summed up instead.

    Args:
        amd: The module ``zeus.device.gpu.amd``, or a stand-in for it.
        environ: Where ``HIP_VISIBLE_DEVICES`` is; the process's own by default.

    Raises:
        SensorError: If the GPUs cannot be read; the message carries the remedy where there is one.
    """
    environ = os.environ if environ is None else environ
    shown = environ.get("HIP_VISIBLE_DEVICES", environ.get("CUDA_VISIBLE_DEVICES"))
    if shown is not None and shown.strip() in ("", "-1"):
        return []  # zeus raises where there is nothing to show
    if amd is None:
        if not amd_library():
            raise SensorError(f"{AMD_LIBRARY} is not installed", "install amd-smi-lib, a part of ROCm")
        amd = import_zeus("zeus.device.gpu.amd")
    try:
        gpus = amd.AMDGPUs()
    except ValueError as error:
        remedy = "set HIP_VISIBLE_DEVICES to numbers: zeus knows no other names"
        raise SensorError(f"the AMD GPUs cannot be listed: {error}", remedy) from error
    except Exception as error:
        raise SensorError(f"the AMD GPUs cannot be listed: {error}") from error
    # zeus shuts the library down when its list of GPUs is deleted, so each sensor holds on to it.
    return [_amd_sensor(gpu, gpus) for gpu in gpus.gpus]


def _amd_sensor(gpu: Any, gpus: Any) -> Counter:
    key, name, limit = f"gpu:amd{gpu.gpu_index}-{boot_id()}", f"AMD GPU {gpu.gpu_index}", MAX_WATTS
    try:
        name = str(gpu.get_name())
        limit = gpu.get_power_management_limit() * 1e-3 or MAX_WATTS
    except Exception:  # noqa: S110 - without them it has a plainer name, and a wider interval
        pass

    def joules() -> float:
        return float(gpu.get_total_energy_consumption()) * 1e-3

    def watts() -> float:
        try:
            return float(gpu.get_instant_power_usage()) * 1e-3
        except Exception:  # Which of the two there is depends on the model.
            return float(gpu.get_average_power_usage()) * 1e-3

    if gpu.supports_get_total_energy_consumption():
        source = f"amdsmi energy counter of {name}"
        return ZeusSensor(key, name, source, joules, watts=watts, limit_watts=limit, keep=gpus)
    return PowerIntegral(key, name, f"amdsmi power of {name}", watts, limit_watts=limit, keep=gpus)
