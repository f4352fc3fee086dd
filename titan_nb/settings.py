"""The one frozen object that says how a cell is tracked."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from titan_nb.budget import Budget
from titan_nb.errors import SettingsError

__all__ = ["AUTOCASTS", "PROVIDERS", "RECLAIMS", "CarbonConfig", "Settings"]


PROVIDERS = ("electricitymaps", "carbonintensity-uk", "energidataservice")
"""Who can be asked for the intensity of now, once the user has switched one of them on."""

AUTOCASTS = ("off", "bf16", "fp16")
"""What torch's automatic mixed precision computes in."""

RECLAIMS = ("oom", "errors", "never")
"""After which failures the memory that the failed cell's frames hold is given back."""

_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_ENVIRONMENT = "TITAN_NB_"
_TEXTS = frozenset({"zone", "provider", "currency"})
_WANTED = {"price_per_kwh": "a number, or times and prices in JSON", "equivalents": "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonConfig:
    """How energy becomes grams of CO2 equivalent, and money.

    Attributes:
        zone: Where the electricity comes from: a country (ISO 3166-1 code of two or three letters, or English
            name), a US state (``US-CA``), a cloud region (``aws:eu-west-1``), a zone of the second table
            (``eco2ai:US/California``), all in any case; ``auto`` for the cloud region that this machine says
            it is in; None for unknown.
        grams_per_kwh: An explicit intensity in g CO2e per kWh; it goes before ``zone``.
        provider: Who is asked over the network for the intensity of now, one of `PROVIDERS`; None for nobody.
        pue: Power usage effectiveness of the data centre, from 1: carbon and cost are multiplied by it, the
            joules are not.
        price_per_kwh: Price of a kilowatt-hour; or a table of local times of day and the price from then on,
            such as ``{"00:00": 0.20, "07:00": 0.35}``, which is kept as sorted pairs.
        currency: What the price is in, such as ``EUR``.
        equivalents: Whether grams are also shown as something better known, with the source.
    """

    zone: str | None = None
    grams_per_kwh: float | None = None
    provider: str | None = None
    pue: float = 1.0
    price_per_kwh: float | Mapping[str, float] | tuple[tuple[str, float], ...] | None = None
    currency: str | None = None
    equivalents: bool = False

    def __post_init__(self) -> None:
        _check_text("zone", self.zone)
        _check_text("currency", self.currency)
        if self.grams_per_kwh is not None and not _within(self.grams_per_kwh, 0, 5000):
            raise SettingsError(
                f"grams_per_kwh is {self.grams_per_kwh!r}: give a number of grams of CO2e per kWh "
                "from 0 to 5000"
            )
        if self.provider is not None and self.provider not in PROVIDERS:
            raise SettingsError(
                f"provider is {self.provider!r}{_meant(str(self.provider), PROVIDERS)}: "
                f"give one of {', '.join(PROVIDERS)}"
            )
        if not _within(self.pue, 1, 10):
            raise SettingsError(
                f"pue is {self.pue!r}: give a number from 1 to 10, what the data centre draws over what its "
                "computers draw"
            )
        if not isinstance(self.equivalents, bool):
            raise SettingsError(f"equivalents is {self.equivalents!r}: give True or False")
        object.__setattr__(self, "price_per_kwh", _checked_price(self.price_per_kwh))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; `from_dict` takes them back."""
        data = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        if isinstance(self.price_per_kwh, tuple):
            data["price_per_kwh"] = dict(self.price_per_kwh)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CarbonConfig:
        """Build the settings from names and values.

        Raises:
            SettingsError: If a name is not known, with the nearest known one, or a value cannot be used.
        """
        if not isinstance(data, Mapping):
            raise SettingsError(f"cannot read carbon settings from {data!r}: give names and values")
        known = [one.name for one in dataclasses.fields(cls)]
        for name in data:
            if name not in known:
                raise SettingsError(
                    f"no carbon setting {name!r}{_meant(str(name), known)}: there are {', '.join(known)}"
                )
        return cls(**data)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> CarbonConfig:
        """Read ``TITAN_NB_ZONE``, ``TITAN_NB_PUE`` and so on: one variable a setting, empty for not set.

        ``TITAN_NB_PRICE_PER_KWH`` is a number or a JSON object of times and prices; ``TITAN_NB_EQUIVALENTS``
        is ``true`` or ``false``.

        Args:
            environ: The variables; those of this process by default.

        Raises:
            SettingsError: If a value cannot be used; the message names the variable.
        """
        environ = os.environ if environ is None else environ
        data: dict[str, Any] = {}
        for one in dataclasses.fields(cls):
            variable = _ENVIRONMENT + one.name.upper()
            text = environ.get(variable, "").strip()
            if not text:
                continue
            try:
                data[one.name] = text if one.name in _TEXTS else json.loads(text)
                cls.from_dict({one.name: data[one.name]})
            except SettingsError as error:
                raise SettingsError(f"environment variable {variable}: {error}") from None
            except (ValueError, RecursionError):
                wanted = _WANTED.get(one.name, "a number")
                raise SettingsError(
                    f"environment variable {variable} is {text[:40]!r}: give {wanted}"
                ) from None
        return cls.from_dict(data)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> CarbonConfig:
        """Read the table ``[carbon]`` of a TOML file, or ``[tool.titan_nb.carbon]`` of a pyproject.toml.

        Raises:
            SettingsError: If there is no such file or table, or something in it cannot be used.
        """
        file = Path(path)
        names = ("tool", "titan_nb", "carbon") if file.name == "pyproject.toml" else ("carbon",)
        try:
            # In the standard library from 3.11 on.
            toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
            table: Any = toml.loads(file.read_text(encoding="utf-8"))
        except ImportError:
            raise SettingsError(
                "TOML cannot be read on Python 3.10 without tomli: pip install tomli"
            ) from None
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot read {file}: {error}") from None
        for name in names:
            table = table.get(name) if isinstance(table, dict) else None
        if table is None:
            raise SettingsError(f"{file} has no table [{'.'.join(names)}]: put the carbon settings there")
        try:
            return cls.from_dict(table)
        except SettingsError as error:
            raise SettingsError(f"{file}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one cell is tracked.

    Attributes:
        label: The user's own name for the cell.
        quiet: Measure, and show nothing.
        chat: Chat id under which the cell's last value is stored; None to store nothing.
        carbon: How energy becomes grams.
        exact_host_peak: Reset this process's own high-water mark (VmHWM) for an exact peak. It lowers what
            ``resource.getrusage().ru_maxrss`` says; turn it off to sample the peak instead.
        budget: What this one cell may spend; None for no limit.
        gpu_limit_bytes: How much this process may hold on each GPU while the cell runs; None for no limit.
        ram_limit_bytes: How much memory of its own this process may hold meanwhile; None for no limit.
        autocast: What torch's automatic mixed precision computes in, one of `AUTOCASTS`.
        reclaim: After which failures the memory of the failed cell is given back, one of `RECLAIMS`.
    """

    label: str | None = None
    quiet: bool = False
    chat: str | None = None
    carbon: CarbonConfig = field(default_factory=CarbonConfig)
    exact_host_peak: bool = True
    budget: Budget | None = None
    gpu_limit_bytes: int | None = None
    ram_limit_bytes: int | None = None
    autocast: str = AUTOCASTS[0]
    reclaim: str = RECLAIMS[0]

    def __post_init__(self) -> None:
        _check_text("label", self.label)
        _check_text("chat", self.chat)
        _check_limit("gpu_limit_bytes", self.gpu_limit_bytes)
        _check_limit("ram_limit_bytes", self.ram_limit_bytes)
        _check_choice("autocast", self.autocast, AUTOCASTS)
        _check_choice("reclaim", self.reclaim, RECLAIMS)
        if self.budget is not None:
            _check_budget(self.budget, self.carbon)

    def replace(self, **changes: object) -> Settings:
        """Return a copy with ``changes``."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, (str, type(None))):
        raise SettingsError(f"{name} is {value!r}: give a text")


def _check_limit(name: str, value: object) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise SettingsError(f"{name} is {value!r}: give a whole number of bytes, 1 or more, or None")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}: give one of {', '.join(choices)}")


def _within(value: object, low: float, high: float) -> bool:
    """Return whether ``value`` is a finite number from ``low`` to ``high``."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value) and low <= value <= high
    except OverflowError:  # an integer that no float can hold
        return False


def _meant(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name.casefold(), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _checked_price(price: Any) -> float | tuple[tuple[str, float], ...] | None:
    """Return a price that can be used, a table of times as sorted pairs."""
    if price is None or _within(price, 0, math.inf):
        return cast("float | None", price)
    try:
        table = dict(price)
    except (TypeError, ValueError):
        table = {}
    if not table:
        raise SettingsError(
            f"price_per_kwh is {price!r}: give a number, 0 or more, or times and prices such as "
            '{"00:00": 0.20, "07:00": 0.35}'
        )
    for time, one in table.items():
        if not isinstance(time, str) or not _TIME.fullmatch(time):
            raise SettingsError(f"price_per_kwh has the time {time!r}: give it as HH:MM, such as '07:00'")
        if not _within(one, 0, math.inf):
            raise SettingsError(f"price_per_kwh from {time} on is {one!r}: give a number, 0 or more")
    return tuple(sorted(table.items()))


def _check_budget(budget: Budget, carbon: CarbonConfig) -> None:
    """Refuse a limit that could never be compared with anything."""
    located = bool(carbon.zone and carbon.zone.strip()) or carbon.grams_per_kwh is not None
    if budget.max_grams is not None and not (located or carbon.provider):
        raise SettingsError(
            "a limit in grams needs a carbon intensity: set a zone or grams_per_kwh, "
            "as with --zone or %config TitanMagics.zone"
        )
    if budget.max_cost is not None and carbon.price_per_kwh is None:
        raise SettingsError(
            "a limit in money needs a price: set price_per_kwh, as with %config TitanMagics.price_per_kwh"
        )
