"""What one fake device is like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .control import MAX_INSTANCES

__all__ = ["FakeGpu"]

# From NVML's architecture to the compute capability of one of its models.
_CAPABILITY = {5: (7, 0), 6: (7, 5), 7: (8, 0), 8: (8, 9), 9: (9, 0), 10: (10, 0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeGpu:
    """One device, as it is before the test makes anything happen to it.

    Attributes:
        uuid: Its UUID; by default one made from its index.
        name: Product name.
        architecture: NVML's number: 5 Volta, 6 Turing, 7 Ampere, 8 Ada, 9 Hopper, 10 Blackwell.
        limit_watts: Enforced power limit.
        idle_watts: What it draws where no load is.
        counter: Whether it has an energy counter; without one only power can be read.
        tick_seconds: The counter, and power, move once in so many seconds.
        phase_seconds: The first tick comes so long after the device's birth, 10 s before the fake was made.
        jitter_seconds: Each tick is early or late by up to this, less than half of ``tick_seconds``.
        seed: What the jitter is drawn from.
        duty: 1 integrates all; 0.25 adds the mean power of the last quarter of each tick, times its length.
        stamps_ticks: Whether the time stamp of a field value is that of the last tick, or of the call.
        instant_seconds: Window of NVML_FI_DEV_POWER_INSTANT, which ends at the last tick.
        average_seconds: Window of NVML_FI_DEV_POWER_AVERAGE and of the power usage.
        sample_seconds: Spacing of the 120 power samples that are kept; each is the mean since the last.
        utilization_seconds: Spacing of the samples of utilization.
        utilization_ring: How many samples of each process's utilization the driver keeps.
        memory_bytes: Size of its memory.
        mig_supported: Whether it has a MIG mode.
        mig_instances: Number of MIG instances; above 0 the mode is on.
    """

    uuid: str = ""
    name: str = "NVIDIA H100 80GB HBM3"
    architecture: int = 9
    limit_watts: float = 700.0
    idle_watts: float = 70.0
    counter: bool = True
    tick_seconds: float = 0.1
    phase_seconds: float = 0.0
    jitter_seconds: float = 0.0
    seed: int = 0
    duty: float = 1.0
    stamps_ticks: bool = False
    instant_seconds: float = 0.025
    average_seconds: float = 1.0
    sample_seconds: float = 0.02
    utilization_seconds: float = 0.2
    utilization_ring: int = 1
    memory_bytes: int = 80 << 30
    mig_supported: bool = True
    mig_instances: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.jitter_seconds < self.tick_seconds / 2:
            raise ValueError("jitter must be less than half a tick, so that ticks keep their order")
        if not 0 < self.duty <= 1:
            raise ValueError("duty is above 0 and at most 1")
        if not 0 <= self.mig_instances <= MAX_INSTANCES:
            raise ValueError(f"a device has at most {MAX_INSTANCES} MIG instances")

    def write(self, device: Any, index: int, epoch_ns: int) -> None:
        """Write it into the control file.

        Args:
            device: The `Device` of the control file.
            index: Its index.
            epoch_ns: Its birth on the monotonic clock.
        """
        number = f"{index:08x}-0000-4000-8000-000000000000"
        device.uuid = (self.uuid or f"GPU-{number}").encode()
        device.name = self.name.encode()
        device.pci_bus_id = f"00000000:{index + 1:02X}:00.0".encode()
        for instance in range(self.mig_instances):
            device.mig_uuids[instance].value = f"MIG-{number[:-2]}{instance:02x}".encode()
        device.architecture = self.architecture
        device.compute_major, device.compute_minor = _CAPABILITY.get(self.architecture, (6, 0))
        device.mig_supported = self.mig_supported
        device.mig_count = self.mig_instances
        device.mig_mode = self.mig_instances > 0
        device.has_counter = self.counter
        device.stamps_ticks = self.stamps_ticks
        device.utilization_ring = self.utilization_ring
        device.memory_bytes = self.memory_bytes
        device.seed = self.seed
        device.limit_watts = self.limit_watts
        device.idle_watts = self.idle_watts
        device.duty = self.duty
        device.epoch_ns = epoch_ns
        for name in ("tick", "phase", "jitter", "instant", "average", "sample", "utilization"):
            setattr(device, f"{name}_ns", round(getattr(self, f"{name}_seconds") * 1e9))
