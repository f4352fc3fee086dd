"""eco2ai as a second opinion on a session: its own Tracker, run once, beside the ledger of the same stretch.

eco2ai 0.3.12 is asked in the form that it supports: with the country given, because without it its tracker
looks the location up on the network. Three things are kept from it, without changing what it measures: it
writes no CSV and no configuration into its own package, and it gets a stand-in for ``pkg_resources`` where
setuptools no longer brings it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from titan_nb.carbon import tables
from titan_nb.errors import SettingsError, TitanError
from titan_nb.ledger import Ledger
from titan_nb.records import Energy

__all__ = ["PERIOD_SECONDS", "Audit", "Opinion"]

PERIOD_SECONDS = 10
"""How often eco2ai looks; its own default."""

_JOULES_PER_KWH = 3.6e6
_ECO2AI = "eco2ai:"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What eco2ai and the ledger say of one stretch of time.

    Attributes:
        seconds: Length of the stretch in seconds.
        joules: What eco2ai counted, in joules.
        grams: The same in grams of CO2e, by eco2ai's own table.
        zone: The zone of that table, such as ``eco2ai:DE``.
        grams_per_kwh: Its intensity.
        cells: Sum of the ledger's outermost windows that ended in the stretch.
        gaps: Sum of the gaps between them, by counters only.
        cell_grams: Grams of CO2e of the windows whose carbon is known; None when there is none.
        reasons: Why the figures differ.
    """

    seconds: float
    joules: float
    grams: float
    zone: str
    grams_per_kwh: float
    cells: Energy
    gaps: Energy
    cell_grams: float | None
    reasons: tuple[str, ...]


class Audit:
    """One stretch that eco2ai measures as well.

    Args:
        ledger: The session that it is set beside.
        zone: Country by a code of eco2ai's table, such as ``DE``.
        region: Region of that country, such as ``California``; None for all of it.

    Raises:
        SettingsError: If eco2ai's table has no such zone.
    """

    def __init__(self, ledger: Ledger, zone: str, region: str | None = None) -> None:
        local = zone[len(_ECO2AI) :] if zone.casefold().startswith(_ECO2AI) else zone
        name = f"{_ECO2AI}{local}" + (f"/{region}" if region else "")
        found = tables.find(name)
        if found is None:
            near = [one.code for one in tables.near(name)]
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise SettingsError(f"eco2ai's table has no zone {name!r}{hint}")
        self.zone = found
        self._ledger = ledger
        self._tracker: Any = None
        self._since = 0
        self._started = 0.0

    def start(self) -> None:
        """Start eco2ai's tracker; takes a few seconds, because eco2ai looks at the processor.

        Raises:
            TitanError: If eco2ai does not work here; the message says why.
        """
        if platform.system() == "Linux" and shutil.which("top") is None:
            raise TitanError("eco2ai reads the processor with the program top, which is not installed here")
        try:
            with _quiet():
                self._tracker = _made(self.zone)
                self._tracker.start()
        except Exception as error:
            self._tracker = None
            raise TitanError(f"eco2ai does not work here: {type(error).__name__}: {error}") from error
        reports = self._ledger.reports
        self._since = reports[-1].number if reports else 0
        self._started = time.perf_counter()

    def stop(self) -> Opinion:
        """Stop eco2ai's tracker, and return what it and the ledger say.

        Raises:
            TitanError: If eco2ai failed on the way; the message says why.
        """
        tracker, self._tracker = self._tracker, None
        seconds = time.perf_counter() - self._started
        try:
            with _quiet():
                tracker.stop()
        except Exception as error:
            raise TitanError(f"eco2ai failed: {type(error).__name__}: {error}") from error
        if tracker.fault is not None:
            fault = tracker.fault
            raise TitanError(f"eco2ai failed while it ran: {type(fault).__name__}: {fault}")
        reports = [one for one in self._ledger.reports if one.number > self._since and one.parent is None]
        gaps = [gap for gap in self._ledger.gaps if gap.after > self._since]
        carbons = [one.carbon.grams for one in reports if one.carbon is not None]
        cells = Energy.sum({f"cell {one.number}": one.total for one in reports})
        devices = {key for one in reports for key, part in one.energy.items() if part.joules is not None}
        level = float(tracker.emission_level())
        return Opinion(
            seconds=seconds,
            joules=tracker.total_kwh * _JOULES_PER_KWH,
            grams=tracker.total_kwh * level,
            zone=self.zone.code,
            grams_per_kwh=level,
            cells=cells,
            gaps=Energy.sum({f"{gap.after}-{gap.before}": Energy.sum(gap.energy) for gap in gaps}),
            cell_grams=sum(carbons) if carbons else None,
            reasons=tuple(_reasons(tracker, seconds, devices, level)),
        )


def _reasons(tracker: Any, seconds: float, devices: set[str], level: float) -> Iterator[str]:
    cpu, gpu = tracker._cpu, tracker._gpu
    yield (
        f"processor: eco2ai charges this process with its part of {float(cpu.tdp()):g} W for each of "
        f"{int(cpu.cpu_num())} package(s) of {cpu.name()}, and takes one look by `top` for all of "
        f"{PERIOD_SECONDS} s; titan counts CPU seconds, child processes included, or reads a counter"
    )
    if seconds < 2 * PERIOD_SECONDS:
        yield (
            f"length: after {seconds:.0f} s eco2ai has looked {int(seconds // PERIOD_SECONDS) + 1} time(s), "
            "the last one while this process waited: a longer stretch says more"
        )
    yield "memory: eco2ai charges 3 W for 8 GB of this process's memory"
    if gpu.is_gpu_available:
        yield (
            f"GPU: eco2ai adds up the momentary power of all {int(gpu.gpu_num())} GPU(s) of the machine "
            f"once in {PERIOD_SECONDS} s; titan reads the energy counters of the ones in use"
        )
    yield "time: eco2ai counts all of the stretch; titan counts cells, and between them what has a counter"
    kinds = ("cpu", "ram", "gpu") if gpu.is_gpu_available else ("cpu", "ram")
    unlike = [kind for kind in kinds if not any(key.startswith(kind) for key in devices)]
    if unlike:
        yield f"devices: in the cells of this stretch titan knows no energy of: {', '.join(unlike)}"
    yield f"CO2e: eco2ai's table says {level:g} g/kWh, without a year; titan uses the zone of the cells"


def _made(zone: tables.Zone) -> Any:
    """Return eco2ai's tracker, which writes no file."""
    with _pkg_resources():
        from eco2ai.emission_track import Tracker

    class Silent(Tracker):  # type: ignore[misc]
        """eco2ai's tracker without its files."""

        total_kwh = 0.0
        fault: BaseException | None = None

        def get_set_params(self, *args: object, **kwargs: object) -> dict[str, object]:
            # The original rewrites data/config.txt inside the package, for every program of the environment.
            return {}

        def _write_to_csv(self, add_new: bool = False) -> dict[str, object]:
            # `stop` sets the sum to zero, so it is kept here, where the original writes it down.
            self.total_kwh = float(self.consumption())
            return {}

        def _func_for_sched(self, add_new: bool = False) -> Any:
            # In its own thread the error would be a page in the user's log.
            try:
                return super()._func_for_sched(add_new)
            except Exception as error:
                self.fault = error
                return {}

    alpha_2, _, region = zone.code.removeprefix(_ECO2AI).partition("/")
    return Silent(
        project_name="titan_nb audit",
        experiment_description="",
        file_name="unused.csv",
        measure_period=PERIOD_SECONDS,
        emission_level=zone.grams_per_kwh,
        alpha_2_code=alpha_2,
        region=region or None,
        pue=1,
        ignore_warnings=True,
        timezone="UTC",
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _pkg_resources() -> Iterator[None]:
    """Lend eco2ai the one function of ``pkg_resources`` that it imports, where there is no such module."""
    name = "pkg_resources"
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        yield
        return
    lent = ModuleType(name)
    lent.resource_stream = _resource_stream  # type: ignore[attr-defined]
    sys.modules[name] = lent
    try:
        yield
    finally:
        # Others ask by an import whether setuptools brings it.
        sys.modules.pop(name, None)


def _resource_stream(package: str, path: str) -> IO[bytes]:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return (Path(spec.origin).parent / path).open("rb")
