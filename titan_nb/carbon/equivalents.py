"""Grams as something better known, only with a cited source; shown only where the user asked for it."""

from __future__ import annotations

from titan_nb.records import Carbon

__all__ = ["car_note"]

# "The average passenger vehicle emits about 400 grams of CO2 per mile", a fact sheet of June 2023.
_CAR_GRAMS_PER_MILE = 400
_CAR_SOURCE = "US EPA, EPA-420-F-23-014: about 400 g CO2 per mile from the tailpipe"
_METRES_PER_MILE = 1609.344  # the international mile, by definition


def car_note(carbon: Carbon) -> str:
    """Return how far an average US passenger car drives for the same grams, with the interval and the source.

    Source: US EPA, *Tailpipe Greenhouse Gas Emissions from a Typical Passenger Vehicle*, EPA-420-F-23-014,
    June 2023, https://www.epa.gov/greenvehicles/greenhouse-gas-emissions-typical-passenger-vehicle.
    """
    per_gram = _METRES_PER_MILE / _CAR_GRAMS_PER_MILE
    best, low, high = (value * per_gram for value in (carbon.grams, carbon.low, carbon.high))
    unit, size = ("km", 1000.0) if best >= 1000 else ("m", 1.0)
    interval = "" if low == high else f" ({_short(low / size)}–{_short(high / size)})"
    return f"as an average US passenger car over {_short(best / size)} {unit}{interval} [{_CAR_SOURCE}]"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"
