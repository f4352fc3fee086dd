"""What was measured of a GPU's counter, and where it is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from titan_nb.errors import SettingsError

__all__ = [
    "CALIBRATION_SCHEMA",
    "Calibration",
    "Calibrations",
    "config_folder",
    "load_calibrations",
    "save_calibration",
]

CALIBRATION_SCHEMA = 1
"""Number of the JSON layout; raised whenever a reader of the old one would be misled."""

_PREFIX = "calibration-"
_LARGEST = sys.float_info.max
_LARGEST_BYTES = 1 << 16
_LONGEST_TEXT = 200
_NAMED = 3
_OWN_PROCESS = ("own", "other", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured of one GPU; None stands for what could not be told.

    Attributes:
        name: Product name.
        uuid: UUID.
        driver: Version of the driver.
        date: When, ISO 8601 with the offset from UTC.
        load: What the device worked at.
        steady_seconds: How long the steady load was.
        reduced: Whether the run was shorter than a full one.
        tick_seconds: From tick to tick of the counter under load.
        jitter_seconds: Root mean square of how far a tick is from the regular grid, under load.
        idle_tick_seconds: From tick to tick when idle.
        timestamp_moves_with_ticks: Whether the time stamp of the counter's field is that of its last tick.
        duty: The part of the time in which the counter looks at the power.
        duty_why: Why, in words.
        bursts: How many bursts the duty was told from.
        burst_scatter: Scatter of the bursts' energies about those of a counter that integrates.
        burst_scatter_part_time: The same about those of the part-time counter that fits best.
        burst_total_ratio: Energy of the bursts as counted, over steady power x busy time.
        idle_watts: Idle power *before_context*, *with_context* and *after_load*.
        steady_watts: Power under the steady load, by the counter.
        agreement: Energy of the steady load by the counter, over the integral of the power readings.
        power: Which power readings: *instant*, or the *mean* of a second or so.
        own_process: How the driver names this process: *own* id, *other* (in a container), *none*.
        latencies: Median and 99th percentile of each NVML call: ``p50_seconds``, ``p99_seconds``.

    Raises:
        SettingsError: If a value cannot be right.
    """

    name: str
    uuid: str
    driver: str
    date: str
    load: str
    steady_seconds: float
    reduced: bool
    tick_seconds: float | None
    jitter_seconds: float | None
    idle_tick_seconds: float | None
    timestamp_moves_with_ticks: bool
    duty: float | None
    duty_why: str
    bursts: int
    burst_scatter: float | None
    burst_scatter_part_time: float | None
    burst_total_ratio: float | None
    idle_watts: Mapping[str, float | None]
    steady_watts: float | None
    agreement: float | None
    power: str
    own_process: str
    latencies: Mapping[str, Mapping[str, float]]

    def __post_init__(self) -> None:
        for name in ("name", "uuid", "driver", "load", "duty_why"):
            value = getattr(self, name)
            _check(isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT, name, value, "a short text")
        _check(_moment(self.date) is not None, "date", self.date, "a time with its offset from UTC")
        for name in ("reduced", "timestamp_moves_with_ticks"):
            _check(isinstance(getattr(self, name), bool), name, getattr(self, name), "true or false")
        for name in ("tick_seconds", "idle_tick_seconds"):
            value = getattr(self, name)
            _check(value is None or _within(value, 1e-3, 5), name, value, "from 0.001 to 5 seconds")
        duty = self.duty
        _check(duty is None or (_within(duty, 0, 1) and duty > 0), "duty", duty, "above 0 and at most 1")
        for name in (
            *("jitter_seconds", "burst_scatter", "burst_scatter_part_time", "steady_watts", "agreement"),
            "burst_total_ratio",
        ):
            _check_amount(name, getattr(self, name))
        _check(_within(self.steady_seconds, 0, _LARGEST), "steady_seconds", self.steady_seconds, "a number")
        _check(type(self.bursts) is int and self.bursts >= 0, "bursts", self.bursts, "a whole number")
        _check(self.power in ("instant", "mean"), "power", self.power, "instant or mean")
        _check(self.own_process in _OWN_PROCESS, "own_process", self.own_process, ", ".join(_OWN_PROCESS))
        for field, table in (("idle_watts", self.idle_watts), *_tables("latencies", self.latencies)):
            _check(isinstance(table, Mapping), field, table, "a table")
            for name, value in table.items():
                _check_amount(f"{field}: {name}", value)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the meter uses: ``duty``, ``tick_seconds`` and ``timestamp_moves_with_ticks``, where known."""
        names = ("duty", "tick_seconds", "timestamp_moves_with_ticks")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def moment(self) -> datetime:
        """When it was measured."""
        return datetime.fromisoformat(self.date)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, texts and numbers, ready for JSON."""
        return {"schema": CALIBRATION_SCHEMA, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, data: object) -> Calibration:
        """Rebuild a calibration from `to_dict`.

        Raises:
            SettingsError: If ``data`` is none.
        """
        if not isinstance(data, dict) or data.get("schema") != CALIBRATION_SCHEMA:
            raise SettingsError(f"no calibration of layout {CALIBRATION_SCHEMA}: calibrate again")
        values = {name: value for name, value in data.items() if name != "schema"}
        wrong = sorted({field.name for field in dataclasses.fields(cls)} ^ set(values))
        if wrong:
            raise SettingsError(f"{wrong[0]!r} is missing, or does not belong into a calibration")
        return cls(**values)


class Calibrations(dict[str, Mapping[str, Any]]):
    """Settings for the meter, by UUID and by product name.

    Attributes:
        ignored: One line on the files that could not be used; empty when there is none.
    """

    ignored: str = ""


def config_folder(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the user's folder for titan's own files; None where the user has no home.

    It is ``TITAN_NB_CONFIG_HOME``, else ``titan_nb`` in ``APPDATA`` on Windows, and in ``XDG_CONFIG_HOME`` or
    ``~/.config`` elsewhere.
    """
    environ = os.environ if environ is None else environ
    if environ.get("TITAN_NB_CONFIG_HOME"):
        return Path(environ["TITAN_NB_CONFIG_HOME"])
    base = environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME", "")
    if Path(base).is_absolute():  # Others are to be ignored, says the XDG specification.
        return Path(base) / "titan_nb"
    try:
        return Path.home() / ".config" / "titan_nb"
    except RuntimeError:
        return None


def save_calibration(calibration: Calibration, folder: Path | None = None) -> Path:
    """Write a calibration into the user's folder, and return the file.

    Raises:
        SettingsError: If there is no folder to write to.
        OSError: If it cannot be written.
    """
    folder = folder or config_folder()
    if folder is None:
        raise SettingsError("there is no folder for the calibration: set TITAN_NB_CONFIG_HOME")
    folder.mkdir(parents=True, exist_ok=True)
    words = f"{calibration.uuid}-{calibration.moment:%Y%m%dT%H%M%S}"
    target = folder / (_PREFIX + "".join(c if c.isalnum() or c == "-" else "_" for c in words) + ".json")
    half = target.with_suffix(f".{os.getpid()}.tmp")  # A reader never sees half a file.
    half.write_text(json.dumps(calibration.to_dict(), indent=1) + "\n", encoding="utf-8")
    half.replace(target)
    return target


def load_calibrations(folder: Path | None = None) -> Calibrations:
    """Return the newest calibration of each GPU, by its UUID and by its product name.

    A file that cannot be used is left out; nothing is raised.

    Args:
        folder: Where they are; by default `config_folder`.
    """
    folder = folder or config_folder()
    good: list[Calibration] = []
    bad: list[str] = []
    try:
        files = [] if folder is None else sorted(folder.glob(f"{_PREFIX}*.json"))
    except OSError as error:
        files, bad = [], [f"the folder: {error.strerror}"]
    for file in files:
        one = _load(file)
        if isinstance(one, Calibration):
            good.append(one)
        else:
            bad.append(f"{file.name}: {one}")
    found = Calibrations()
    for one in sorted(good, key=lambda one: one.moment):
        found[one.name] = found[one.uuid] = one.settings
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        found.ignored = f"cannot be used: {'; '.join(bad[:_NAMED])}{more}"
    return found


def _load(file: Path) -> Calibration | str:
    """Return what a file holds, or why it cannot be used."""
    try:
        if not file.is_file():  # Reading from a pipe would wait for ever.
            return "no file"
        with file.open("rb") as opened:
            content = opened.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            return "too long for a calibration"
        return Calibration.from_dict(json.loads(content))
    except SettingsError as error:
        return str(error)
    except OSError as error:
        return str(error.strerror)
    except (ValueError, RecursionError):
        return "no JSON"


def _tables(field: str, tables: Any) -> Iterable[tuple[str, Any]]:
    _check(isinstance(tables, Mapping), field, tables, "a table of tables")
    return ((f"{field}: {name}", table) for name, table in tables.items())


def _check(good: bool, name: str, value: object, wanted: str) -> None:
    if not good:
        raise SettingsError(f"{name} is {value!r:.40}: it should be {wanted}")


def _check_amount(name: str, value: object) -> None:
    _check(value is None or _within(value, 0, _LARGEST), name, value, "a number, 0 or more")


def _within(value: object, low: float, high: float) -> bool:
    """Return whether ``value`` is a finite number from ``low`` to ``high``."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return low <= value <= high


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if moment is None or moment.tzinfo is None else moment
