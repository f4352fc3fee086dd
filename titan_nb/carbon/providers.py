"""Who can be asked for the intensity of a grid now; nobody is, unless the user switched one of them on.

All of them give *average* intensities. A marginal one answers another question, and is refused.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

from titan_nb.carbon.provider import Answer, NullProvider, Provider
from titan_nb.carbon.web import TIMEOUT_SECONDS, NoAnswer, get_json

__all__ = ["KEY_VARIABLE", "CarbonIntensityUK", "ElectricityMaps", "EnergiDataService", "by_name"]

KEY_VARIABLE = "ELECTRICITYMAPS_API_KEY"
"""The environment variable with the key for Electricity Maps."""

_US_STATE = re.compile(r"US-[A-Z]{2}")
_MAP_ZONE = re.compile(r"[A-Z]{2}(-[A-Z0-9]+)*")


class ElectricityMaps:
    """Electricity Maps: many grids; needs a key, and has terms of its own.

    https://static.electricitymap.org/api/docs/, ``/v3/carbon-intensity/latest``: g CO2e per kWh of what is
    consumed, by life-cycle factors. Asked for a zone that it does not know, it may answer for the place of
    the caller; such an answer is refused.
    """

    name = "Electricity Maps"

    def __init__(
        self, base: str = "https://api.electricitymaps.com", timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._base = base
        self._timeout = timeout

    def covers(self, grid: str) -> bool:
        """Return whether ``grid`` is spelt like one of its zones; states of the USA are not."""
        return bool(_MAP_ZONE.fullmatch(grid)) and not _US_STATE.fullmatch(grid)

    def fetch(self, grid: str) -> Answer:
        """Ask for the latest hour of ``grid``."""
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise NoAnswer(f"it needs a key in the environment variable {KEY_VARIABLE}")
        query = urlencode({"zone": grid, "emissionFactorType": "lifecycle"})
        url = f"{self._base}/v3/carbon-intensity/latest?{query}"
        body = _object(get_json(url, {"auth-token": key}, self._timeout))
        if body.get("zone") != grid:
            raise NoAnswer(f"it answered for {body.get('zone')!r} instead of {grid}")
        if body.get("emissionFactorType", "lifecycle") != "lifecycle":
            raise NoAnswer(
                f"it answered with {body['emissionFactorType']!r} factors instead of life-cycle ones"
            )
        value = _grams(body, "carbonIntensity")
        estimated = ", estimated" if body.get("isEstimated") else ""
        says = f"CO2e of what is consumed, life cycle{estimated}"
        return Answer(value, value, value, _time(body.get("datetime")), says)


class CarbonIntensityUK:
    """The Carbon Intensity API of the National Energy System Operator: Great Britain, without a key.

    https://carbon-intensity.github.io/api-definitions/, ``/intensity``: g CO2 per kWh of what is consumed
    in the current half hour.
    """

    name = "Carbon Intensity API (GB)"

    def __init__(
        self, base: str = "https://api.carbonintensity.org.uk", timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._base = base
        self._timeout = timeout

    def covers(self, grid: str) -> bool:
        """Return whether ``grid`` is Great Britain."""
        return grid == "GB"

    def fetch(self, grid: str) -> Answer:
        """Ask for the current half hour; where it is not known yet, its forecast is taken."""
        body = _object(get_json(f"{self._base}/intensity", {}, self._timeout))
        period = _first(body, "data")
        intensity = _object(period.get("intensity"))
        field = "forecast" if intensity.get("actual") is None else "actual"
        value = _grams(intensity, field)
        what = "forecast for" if field == "forecast" else "estimate of"
        says = f"CO2 of what is consumed, {what} the half hour"
        return Answer(value, value, value, _time(period.get("from")), says)


class EnergiDataService:
    """Energi Data Service of Energinet: Denmark and its two price areas, without a key.

    https://www.energidataservice.dk/tso-electricity/CO2Emis: g CO2 per kWh of what is consumed, every five
    minutes. For the whole of Denmark (``DK``) the figure is the mean of the two areas, not weighted, and the
    interval reaches from one to the other.
    """

    name = "Energi Data Service (DK)"
    _areas: Mapping[str, tuple[str, ...]] = {
        "DK": ("DK1", "DK2"),
        "DK-DK1": ("DK1",),
        "DK-DK2": ("DK2",),
    }

    def __init__(
        self, base: str = "https://api.energidataservice.dk", timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._base = base
        self._timeout = timeout

    def covers(self, grid: str) -> bool:
        """Return whether ``grid`` is Denmark, ``DK-DK1`` or ``DK-DK2``."""
        return grid in self._areas

    def fetch(self, grid: str) -> Answer:
        """Ask for the newest five minutes."""
        areas = self._areas[grid]
        wanted = '{"PriceArea":[' + ",".join(f'"{area}"' for area in areas) + "]}"
        query = urlencode({"limit": len(areas), "sort": "Minutes5UTC DESC", "filter": wanted})
        body = _object(get_json(f"{self._base}/dataset/CO2Emis?{query}", {}, self._timeout))
        _first(body, "records")
        found = [_object(record) for record in body["records"]]
        if sorted(str(record.get("PriceArea")) for record in found) != sorted(areas):
            raise NoAnswer(f"it did not answer for {' and '.join(areas)}")
        values = [_grams(record, "CO2Emission") for record in found]
        at = min(_time(record.get("Minutes5UTC")) for record in found)
        mean = ", mean of the areas DK1 and DK2" if len(areas) > 1 else ""
        says = f"CO2 of what is consumed{mean}"
        return Answer(math.fsum(values) / len(values), min(values), max(values), at, says)


def by_name(name: str | None) -> Provider:
    """Return the provider that the settings call ``name``; None is nobody."""
    known: dict[str | None, type[Provider]] = {
        "electricitymaps": ElectricityMaps,
        "carbonintensity-uk": CarbonIntensityUK,
        "energidataservice": EnergiDataService,
    }
    return known.get(name, NullProvider)()


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise NoAnswer("its answer is not laid out as documented")
    return value


def _first(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    rows = body.get(name)
    if not isinstance(rows, list) or not rows:
        raise NoAnswer(f"its answer has no {name}")
    return _object(rows[0])


def _grams(body: Mapping[str, Any], name: str) -> float:
    """Return the number called ``name``, in g per kWh; whether it is plausible is judged by who takes it."""
    unit = body.get("unit", body.get("units", "g"))
    if not (isinstance(unit, str) and unit.casefold().startswith("g")):
        raise NoAnswer(f"its answer is in {unit!r} instead of grams per kWh")
    value = body.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise NoAnswer(f"its answer has no number {name}")
    try:
        return float(value)
    except OverflowError:
        raise NoAnswer(f"its answer has a {name} that is too large") from None


def _time(text: Any) -> datetime:
    """Return an ISO 8601 time; without an offset it is UTC."""
    try:
        # Python 3.10 does not know the Z.
        at = datetime.fromisoformat(text.removesuffix("Z") + "+00:00" * text.endswith("Z"))
    except (AttributeError, ValueError):
        raise NoAnswer(f"its answer has no time, but {text!r}") from None
    return at.astimezone(timezone.utc) if at.tzinfo else at.replace(tzinfo=timezone.utc)
