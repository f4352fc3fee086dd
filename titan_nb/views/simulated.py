"""Fixed figures in the place of measured ones, so that a notebook gives the same output on every machine."""

from __future__ import annotations

import dataclasses

from titan_nb.records import Carbon, CellRef, DeviceMemory, Energy, MemoryUse, Report

__all__ = ["simulated"]

_JOULES_PER_KWH = 3.6e6
_MIB = 2**20

_ENERGY = {
    "gpu:simulated": Energy(1200.0, 1190.0, 1210.0, "measured", "simulated counter", 840.0),
    "cpu-process:simulated": Energy(90.0, 60.0, 120.0, "modelled", "simulated model"),
    "ram:simulated": Energy(2.0, 2.0, 2.0, "modelled", "simulated model"),
}
_MEMORY = MemoryUse(
    {
        "gpu:simulated": DeviceMemory(1024 * _MIB, 3072 * _MIB, 2048 * _MIB, "exact", "simulated allocator"),
        "ram:simulated": DeviceMemory(
            2048 * _MIB, 2560 * _MIB, 2304 * _MIB, "exact", "simulated high-water mark"
        ),
    }
)


def simulated(report: Report) -> Report:
    """Return ``report`` with simulated devices and fixed figures, and the word in its line.

    Kept are the cell's number, label, outcome, error, what was stored, and zone, intensity, year and PUE of
    the carbon. Left out is all that differs between machines, front ends and runs: the execution count, the
    id of the cell, the start, the cost, and notes, budget and shortage, which hold figures or speak of
    sensors.
    """
    return dataclasses.replace(
        report,
        cell=None if report.cell is None else CellRef(report.cell.number),
        started="2000-01-01T00:00:00+00:00",
        seconds=12.0,
        cpu_seconds=9.0,
        energy=dict(_ENERGY),
        carbon=None if report.carbon is None else _carbon(report.carbon),
        memory=_MEMORY,
        notes=(),
        shared_window=False,
        budget=None,
        cost=None,
        shortage=None,
    )


def _carbon(carbon: Carbon) -> Carbon:
    total = Energy.sum(_ENERGY)
    factor = carbon.grams_per_kwh * carbon.pue / _JOULES_PER_KWH
    return dataclasses.replace(
        carbon,
        grams=(total.joules or 0.0) * factor,
        low=(total.low or 0.0) * factor,
        high=(total.high or 0.0) * factor,
    )
