"""Which intensity holds where a provider is switched on."""

from __future__ import annotations

import dataclasses
import re
from datetime import datetime, timezone

import pytest

from titan_nb.carbon import Intensity, refresh, resolve, warning
from titan_nb.carbon.live import FRESH_SECONDS, Live
from titan_nb.carbon.provider import Answer, FakeProvider
from titan_nb.carbon.web import NoAnswer
from titan_nb.errors import SettingsError
from titan_nb.settings import CarbonConfig

LIVE = CarbonConfig(zone="Germany", provider="electricitymaps")


def answer(grams: float) -> Answer:
    return Answer(grams, grams, grams, datetime.now(timezone.utc), "made up")


def asked(provider: FakeProvider, config: CarbonConfig = LIVE) -> Live:
    live = Live()
    refresh(config, provider=provider, live=live)
    live.settle(5)
    return live


def test_the_answer_of_a_provider_replaces_the_yearly_mean() -> None:
    provider = FakeProvider([answer(123.0)])
    live = asked(provider)
    found = resolve(LIVE, provider=provider, live=live)
    assert found is not None
    assert (found.zone, found.grams_per_kwh, found.kind) == ("DE", 123.0, "average")
    assert found.year == datetime.now(timezone.utc).year
    assert re.fullmatch(r"a fake provider, \d{4}-\d\d-\d\d \d\d:\d\d UTC: made up", found.source)
    assert warning(LIVE, provider=provider, live=live) is None


def test_until_a_provider_answers_the_yearly_mean_stands_in_by_name() -> None:
    mean = resolve(CarbonConfig(zone="DE"))
    assert mean is not None
    found = resolve(LIVE, provider=FakeProvider([answer(1.0)]), live=Live())
    assert found == dataclasses.replace(mean, source=f"{mean.source}; a fake provider has not answered")
    elsewhere = resolve(
        dataclasses.replace(LIVE, zone="FR"), provider=FakeProvider([answer(1.0)]), live=Live()
    )
    assert elsewhere is not None
    assert elsewhere.source.endswith("; a fake provider does not know FR")


def test_a_failing_provider_gives_one_warning_with_what_is_used_instead() -> None:
    provider = FakeProvider([NoAnswer("it is off")])
    live = asked(provider)
    mean = resolve(CarbonConfig(zone="DE"))
    assert mean is not None
    assert warning(LIVE, provider=provider, live=live) == (
        f"a fake provider gave no carbon intensity for DE: it is off; used instead: {mean.source}"
    )
    assert warning(LIVE, provider=provider, live=live) is None


def test_the_last_good_answer_goes_before_the_table_when_a_provider_fails() -> None:
    now = [0.0]
    live, good = Live(lambda: now[0]), answer(99.0)
    provider = FakeProvider([good, NoAnswer("it is off")])
    for _ in range(2):
        refresh(LIVE, provider=provider, live=live)
        for one in live._asked.values():
            assert one.thread is not None
            one.thread.join(5)
        now[0] += FRESH_SECONDS
    assert warning(LIVE, provider=provider, live=live) == (
        "a fake provider gave no carbon intensity for DE: it is off; "
        f"used instead: its answer for {good.at:%Y-%m-%d %H:%M} UTC"
    )
    found = resolve(LIVE, provider=provider, live=live)
    assert found is not None
    assert found.grams_per_kwh == 99.0


def test_a_zone_that_only_the_provider_knows_is_unknown_until_it_answers() -> None:
    own = dataclasses.replace(LIVE, zone="us-cal-ciso")
    provider = FakeProvider([NoAnswer("it is off"), answer(200.0)], grids=["US-CAL-CISO"])
    live = asked(provider, own)
    assert resolve(own, provider=provider, live=live) is None
    line = warning(own, provider=provider, live=live)
    assert line is not None
    assert line.endswith("it is off; the carbon is unknown")
    found = resolve(own, provider=provider, live=asked(provider, own))
    assert found is not None
    assert (found.zone, found.grams_per_kwh) == ("US-CAL-CISO", 200.0)
    with pytest.raises(SettingsError, match="no zone 'us-cal-ciso'"):
        resolve(CarbonConfig(zone="us-cal-ciso"))


def test_a_cloud_region_is_asked_for_by_its_country() -> None:
    config = dataclasses.replace(LIVE, zone="gcp:europe-west3")
    provider = FakeProvider([answer(99.0)])
    found = resolve(config, provider=provider, live=asked(provider, config))
    assert found is not None
    assert (provider.asked, found.zone, found.grams_per_kwh) == (["DE"], "gcp:europe-west3", 99.0)


def test_an_explicit_intensity_goes_before_the_provider_and_asks_nobody() -> None:
    config = dataclasses.replace(LIVE, grams_per_kwh=5.0)
    provider = FakeProvider([answer(99.0)])
    live = asked(provider, config)
    assert provider.asked == []
    assert resolve(config, provider=provider, live=live) == Intensity(
        5.0, 5.0, 5.0, None, "given by the user", None
    )
    assert warning(config, provider=provider, live=live) is None


def test_no_provider_switched_on_asks_nobody() -> None:
    provider = FakeProvider([answer(99.0)])
    asked(provider, CarbonConfig(zone="DE"))
    assert provider.asked == []


def test_an_unknown_zone_is_an_error_with_a_provider_too() -> None:
    with pytest.raises(SettingsError, match="no zone 'Germny'"):
        refresh(dataclasses.replace(LIVE, zone="Germny"))
    with pytest.raises(SettingsError, match=r"aws:eu-wst-1.*mean aws:eu-west-1 .*cloud_regions\(\)` lists"):
        resolve(CarbonConfig(zone="aws:eu-wst-1"))
