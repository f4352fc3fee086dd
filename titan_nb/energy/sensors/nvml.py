"""NVIDIA GPUs by NVML; no ``nvidia-smi`` is needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from titan_nb.energy.cuda_visible import visible_devices
from titan_nb.energy.sensors import Counter
from titan_nb.energy.sensors.nvml_counter import NvmlCounter
from titan_nb.energy.sensors.nvml_device import NvmlDevice, number
from titan_nb.energy.sensors.nvml_power import NvmlPower
from titan_nb.energy.sensors.nvml_session import NvmlError, NvmlSession, text, trouble
from titan_nb.errors import SensorError

__all__ = ["NvmlCounter", "NvmlPower", "binding", "nvml_sensors"]


def nvml_sensors(
    nvml: Any = None,
    environ: Mapping[str, str] | None = None,
    calibrations: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Counter]:
    """Return one counter for each NVIDIA device that CUDA shows to this process.

    Args:
        nvml: The module ``pynvml``, or a stand-in for it.
        environ: Where ``CUDA_VISIBLE_DEVICES`` and ``CUDA_DEVICE_ORDER`` are; the process's own by default.
        calibrations: What was measured of a device, by its UUID or else by its product name; see
            `NvmlCounter`.

    Raises:
        SensorError: If NVML cannot be used; the message carries the remedy where there is one.
    """
    session = NvmlSession.join(binding() if nvml is None else nvml)
    try:
        return _open(session, os.environ if environ is None else environ, calibrations or {})
    except Exception as error:
        raise trouble("the NVIDIA devices cannot be listed", error) from error
    finally:
        session.leave()


def binding() -> Any:
    """Return the module ``pynvml``.

    Raises:
        SensorError: If it is not installed.
    """
    try:
        import pynvml
    except ImportError as error:
        raise SensorError("the Python binding of NVML is missing", "pip install nvidia-ml-py") from error
    return pynvml


def _open(
    session: NvmlSession, environ: Mapping[str, str], calibrations: Mapping[str, Mapping[str, Any]]
) -> list[Counter]:
    nvml = session.nvml
    devices = [NvmlDevice(session, index) for index in range(int(nvml.nvmlDeviceGetCount()))]

    def parent_of_mig(uuid: str) -> str | None:
        try:
            instance = nvml.nvmlDeviceGetHandleByUUID(uuid)
            parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)
            return text(nvml.nvmlDeviceGetUUID(parent))
        except Exception:
            return None  # An entry that names no device, which ends CUDA's own list as well.

    setting = environ.get("CUDA_VISIBLE_DEVICES")
    note = _order_note(setting, environ.get("CUDA_DEVICE_ORDER"), [device.name for device in devices])
    visible = visible_devices(setting, [device.uuid for device in devices], parent_of_mig)
    sensors: list[Counter] = []
    for position, mig in visible:
        device = devices[position]
        calibration = calibrations.get(device.uuid) or calibrations.get(device.name)
        kind = NvmlCounter if _counts(device) or device.watts() is None else NvmlPower
        sensors.append(kind(device, mig=mig or device.mig, note=note, calibration=calibration))
    for position, _ in visible:
        devices[position].hold()
    return sensors


def _counts(device: NvmlDevice) -> bool:
    """Return whether the device has an energy counter; true when it cannot be told now."""
    try:
        return number(device.call("nvmlDeviceGetTotalEnergyConsumption")) is not None
    except NvmlError as error:
        return error.kind not in ("NotSupported", "FunctionNotFound", "AttributeError")


def _order_note(setting: str | None, order: str | None, names: list[str]) -> str:
    """Say when an index in ``CUDA_VISIBLE_DEVICES`` may mean another device to CUDA than to NVML."""
    by_index = any(part.strip().isdecimal() for part in (setting or "").split(","))
    if not by_index or order == "PCI_BUS_ID" or len(set(names)) < 2:
        return ""
    return "CUDA may number these GPUs in another order: set CUDA_DEVICE_ORDER=PCI_BUS_ID to be sure"
