"""Measure how the energy counter of this machine's GPU works: ``python -m titan_nb.energy.calibrate``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from titan_nb.energy.calibration import Calibration, save_calibration
from titan_nb.energy.experiment import FULL_SECONDS, Plan, calibrate
from titan_nb.energy.load import Load, TorchLoad
from titan_nb.energy.sensors.nvml_specimen import Specimen
from titan_nb.errors import SensorError, SettingsError

__all__ = ["main", "table"]

_QUICK_SECONDS = 6.0
_FEWEST_SECONDS, _MOST_SECONDS = 3.0, 3600.0


def table(calibration: Calibration) -> str:
    """Return a calibration as a text for people."""
    one = calibration
    duty = (
        "cannot be told"
        if one.duty is None
        else "all of the time"
        if one.duty == 1
        else f"{one.duty:.0%} of the time"
    )
    lines = [f"{one.name}  {one.uuid}  driver {one.driver}", f"{one.date}, load: {one.load}"]
    if one.reduced:
        lines.append(
            f"reduced run: steady load of {one.steady_seconds:g} s, a full one has {FULL_SECONDS:g} s"
        )
    own = {"own": "by its own id", "other": "by another id, as in a container", "none": "not at all"}
    idle = (f"{_number(watts, ' W')} {name.replace('_', ' ')}" for name, watts in one.idle_watts.items())
    rows: dict[str, str] = {
        "counter ticks every": f"{_ms(one.tick_seconds)} under load, {_ms(one.idle_tick_seconds)} idle",
        "jitter of a tick": _ms(one.jitter_seconds),
        "time stamp is that of": "the last tick" if one.timestamp_moves_with_ticks else "the call, or none",
        "counter looks": f"{duty}: {one.duty_why} ({one.bursts} bursts)",
        "scatter of bursts": f"{_number(one.burst_scatter)} about an integrating counter, "
        f"{_number(one.burst_scatter_part_time)} about the best part-time one",
        "bursts, counted / expected": _number(one.burst_total_ratio),
        "idle power": ", ".join(idle),
        "steady power": _number(one.steady_watts, " W"),
        f"counter / {one.power} power": _number(one.agreement),
        "driver names this process": own[one.own_process],
    }
    width = max(map(len, [*rows, *one.latencies]))
    lines += ["", *(f"{name:{width}}  {text}" for name, text in rows.items())]
    lines += ["", f"{'call':{width}}  {'median':>10}  {'99 %':>10}"]
    for name, call in one.latencies.items():
        lines.append(f"{name:{width}}  {_us(call, 'p50_seconds')}  {_us(call, 'p99_seconds')}")
    return "\n".join(lines) + "\n"


def _number(value: float | None, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:.3g}{unit}"


def _ms(seconds: float | None) -> str:
    return _number(None if seconds is None else seconds * 1e3, " ms")


def _us(call: Mapping[str, float], name: str) -> str:
    return f"{call[name] * 1e6:7.1f} µs"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not _FEWEST_SECONDS <= seconds <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"give {_FEWEST_SECONDS:g} to {_MOST_SECONDS:g} seconds")
    return seconds


def _position(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("give a whole number from 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m titan_nb.energy.calibrate",
        description="Measure how the energy counter of an NVIDIA GPU works. Takes two to three minutes, "
        "wants the GPU to itself, and writes nothing unless asked.",
    )
    parser.add_argument("--device", type=_position, default=0, metavar="N", help="GPU in CUDA's order; 0")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=_seconds, default=FULL_SECONDS, help="steady load; 30 is full")
    length.add_argument(
        "--quick", dest="seconds", action="store_const", const=_QUICK_SECONDS, help="a reduced run"
    )
    parser.add_argument("--save", action="store_true", help="keep it for titan's own use")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it to FILE, as JSON")
    return parser


def main(argv: Sequence[str] | None = None, load: Load | None = None) -> int:
    """Run the program; return its exit status.

    Args:
        argv: The options; those of the command line by default.
        load: Work for the GPU; torch's by default.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.out is not None and not options.out.parent.is_dir():
        parser.error(f"{options.out.parent} is no folder")
    try:
        specimen = Specimen(options.device)
        try:
            plan = Plan.of(options.seconds)
            load = load or TorchLoad(options.device)
            found = calibrate(specimen, load, plan, lambda line: sys.stderr.write(f"{line} ...\n"))
        finally:
            specimen.close()
        sys.stdout.write(f"\n{table(found)}")
        if options.out is not None:
            options.out.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")
        if options.save:
            sys.stdout.write(f"\nkept as {save_calibration(found)}\n")
    except (SensorError, SettingsError, OSError) as error:
        sys.stderr.write(f"calibration failed: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
