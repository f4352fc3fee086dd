"""How NVIDIA's models look at their power, as far as it was measured by others."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Sampling", "averages_a_second", "sampling"]

_PASCAL, _VOLTA, _TURING, _AMPERE, _HOPPER = 4, 5, 6, 7, 9
"""NVML_DEVICE_ARCH_*."""

_GA100 = ("A100", "A800", "A30")
"""Product names with the chip GA100; other Ampere chips behave in another way."""


class Sampling(NamedTuple):
    """How the power sensor of a model works: each period it gives the mean over a window.

    Attributes:
        period_seconds: From one value to the next.
        window_seconds: The part of the period, at its end, that the value is the mean of.
        known: Whether the model was measured; otherwise the most careful case stands in.
    """

    period_seconds: float
    window_seconds: float
    known: bool = True

    @property
    def duty(self) -> float:
        """The part of the time that the sensor sees."""
        return self.window_seconds / self.period_seconds


_CAREFUL = Sampling(0.1, 0.025, known=False)


def sampling(architecture: int | None, name: str) -> Sampling:
    """Return how a model samples its power.

    Source: Yang, Adámek, Armour, "Part-time Power Measurements: nvidia-smi's Lack of Attention",
    arXiv:2312.02741, measured with ``nvidia-smi`` against an external meter. That the energy counter is fed
    by the same samples is an assumption; a calibration tells.

    Args:
        architecture: NVML's number of the architecture; None when unknown.
        name: Product name.
    """
    words = name.split()
    if architecture in (_PASCAL, _VOLTA):
        return Sampling(0.02, 0.01)
    if architecture == _TURING or (architecture == _AMPERE and "3090" in words):
        return Sampling(0.1, 0.1)
    if architecture == _HOPPER and "GH200" in words:
        return Sampling(0.1, 0.02)
    if architecture == _HOPPER or (architecture == _AMPERE and _is_ga100(name)):
        return Sampling(0.1, 0.025)
    return _CAREFUL


def averages_a_second(architecture: int | None, name: str) -> bool:
    """Return whether ``nvmlDeviceGetPowerUsage`` is the mean of the last second.

    Source: NVML's documentation of that function: so on Ampere (except GA100) and newer. An unknown
    architecture is taken to be new.
    """
    if architecture is None or architecture > _AMPERE:
        return True
    return architecture == _AMPERE and not _is_ga100(name)


def _is_ga100(name: str) -> bool:
    # "NVIDIA A100-SXM4-40GB", "A30 MIG 1g.6gb"; not "RTX A3000".
    return any(word.split("-")[0] in _GA100 for word in name.split())
