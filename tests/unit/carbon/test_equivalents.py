from __future__ import annotations

import pytest

from titan_nb.carbon import car_note
from titan_nb.records import Carbon


def carbon(grams: float, low: float, high: float) -> Carbon:
    return Carbon(grams, low, high, 400.0, "DE", "made up", 2024)


@pytest.mark.parametrize(
    ("amounts", "distance"),
    [
        ((400.0, 400.0, 400.0), "1.6 km"),  # a mile
        ((0.25, 0.25, 0.25), "1 m"),
        ((10.0, 5.0, 20.0), "40 m (20–80)"),
        ((400_000.0, 300_000.0, 500_000.0), "1,609 km (1,207–2,012)"),
        ((0.0, 0.0, 0.0), "0 m"),
    ],
)
def test_grams_as_the_way_of_a_car_with_the_source(
    amounts: tuple[float, float, float], distance: str
) -> None:
    assert car_note(carbon(*amounts)) == (
        f"as an average US passenger car over {distance} "
        "[US EPA, EPA-420-F-23-014: about 400 g CO2 per mile from the tailpipe]"
    )
