from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.carbon.price import cost_of
from titan_nb.records import Cost, Energy
from titan_nb.settings import CarbonConfig

KWH = Energy(3.6e6, 1.8e6, 7.2e6, "measured", "made up")
HOUR = 3600.0
NIGHT_AND_DAY = {"00:00": 0.20, "07:00": 0.40}


@pytest.fixture
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def price(config: CarbonConfig, started: datetime, seconds: float) -> float:
    cost = cost_of(KWH, config, started, seconds)
    assert cost is not None
    return cost.amount


def test_one_price_all_day() -> None:
    config = CarbonConfig(price_per_kwh=0.30, currency="EUR")
    assert cost_of(KWH, config, datetime(2026, 1, 1), 5.0) == Cost(
        0.30, 0.15, 0.60, "EUR", "0.3 EUR/kWh, given by the user"
    )


def test_pue_multiplies_the_cost_and_is_shown() -> None:
    cost = cost_of(KWH, CarbonConfig(price_per_kwh=0.50, pue=1.5), datetime(2026, 1, 1), 5.0)
    assert cost == Cost(0.75, 0.375, 1.5, None, "0.5 currency not set/kWh, given by the user; times PUE 1.5")


@pytest.mark.parametrize(
    ("energy", "config"),
    [(KWH, CarbonConfig()), (Energy.unknown("no sensor"), CarbonConfig(price_per_kwh=0.3))],
)
def test_without_a_price_or_an_energy_there_is_no_cost(energy: Energy, config: CarbonConfig) -> None:
    assert cost_of(energy, config, datetime(2026, 1, 1), 5.0) is None


@pytest.mark.parametrize(
    ("hour", "seconds", "expected"),
    [
        (3, HOUR, 0.20),
        (7, HOUR, 0.40),
        (23, HOUR, 0.40),
        (6, 2 * HOUR, 0.30),
        (5, 8 * HOUR, 0.35),
        (23, 2 * HOUR, 0.30),
        (7, 24 * HOUR, (17 * 0.40 + 7 * 0.20) / 24),
        (7, 240 * HOUR, (17 * 0.40 + 7 * 0.20) / 24),
        (6, 0.0, 0.20),
        (7, 0.0, 0.40),
        (6, -5.0, 0.20),
    ],
)
def test_a_table_is_split_at_its_times_in_local_time(hour: int, seconds: float, expected: float) -> None:
    config = CarbonConfig(price_per_kwh=NIGHT_AND_DAY, currency="EUR")
    assert price(config, datetime(2026, 1, 15, hour), seconds) == pytest.approx(expected)


def test_before_the_first_time_the_last_price_of_the_day_before_holds() -> None:
    config = CarbonConfig(price_per_kwh={"22:30": 0.10, "06:15": 0.30})
    assert price(config, datetime(2026, 1, 15, 1), HOUR) == pytest.approx(0.10)
    assert price(config, datetime(2026, 1, 15, 6), HOUR / 2) == pytest.approx(0.20)


@pytest.mark.usefixtures("_berlin")
def test_the_offset_of_the_start_is_respected() -> None:
    config = CarbonConfig(price_per_kwh=NIGHT_AND_DAY)
    # 06:30 UTC is 07:30 in Berlin in winter.
    assert price(config, datetime(2026, 1, 15, 6, 30, tzinfo=timezone.utc), 60.0) == pytest.approx(0.40)
    assert price(config, datetime(2026, 1, 15, 6, 30), 60.0) == pytest.approx(0.20)


@pytest.mark.usefixtures("_berlin")
@pytest.mark.parametrize(
    ("day", "expected"),
    [
        # The night of the day has 6 hours when the clock goes forward, 8 when it goes back.
        (datetime(2026, 3, 29), (6 * 0.20 + 17 * 0.40) / 23),
        (datetime(2026, 10, 25), (8 * 0.20 + 17 * 0.40) / 25),
    ],
)
def test_the_days_on_which_the_clock_is_changed(day: datetime, expected: float) -> None:
    config = CarbonConfig(price_per_kwh=NIGHT_AND_DAY)
    seconds = (day + timedelta(days=1)).timestamp() - day.timestamp()
    assert price(config, day, seconds) == pytest.approx(expected)


@pytest.mark.usefixtures("_berlin")
def test_a_time_within_the_hour_that_comes_twice_or_never() -> None:
    config = CarbonConfig(price_per_kwh={"00:00": 1.0, "02:30": 2.0, "04:00": 0.0})
    # 02:00-03:00 twice: half an hour each at 1 and at 2, and the hour from 3 to 4 at 2.
    assert price(config, datetime(2026, 10, 25, 2), 3 * HOUR) == pytest.approx((0.5 + 1 + 0.5 + 1 + 2) / 3)
    # 02:00-03:00 never: from 1:00 on, one hour at 1 and one at 2.
    assert price(config, datetime(2026, 3, 29, 1), 2 * HOUR) == pytest.approx(1.5)


times = st.times().map(lambda at: at.strftime("%H:%M"))


@settings(deadline=None)
@given(
    st.dictionaries(times, st.floats(0, 10), min_size=1, max_size=5),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
    st.floats(0, 5 * 86400),
    st.floats(0, 1),
)
def test_the_mean_lies_among_the_prices_and_two_parts_make_the_whole(
    table: dict[str, float], started: datetime, seconds: float, share: float
) -> None:
    config = CarbonConfig(price_per_kwh=table)
    whole = price(config, started, seconds)
    assert min(table.values()) - 1e-9 <= whole <= max(table.values()) + 1e-9
    first = price(config, started, seconds * share) * share
    later = datetime.fromtimestamp(started.timestamp() + seconds * share, timezone.utc)
    second = price(config, later, seconds * (1 - share)) * (1 - share)
    # A window of microseconds at a change may be split to either side of it.
    assert first + second == pytest.approx(whole, abs=1e-6 + 10 * 1e-4 / max(seconds, 1e-4))
