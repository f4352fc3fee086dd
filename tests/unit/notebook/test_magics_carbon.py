from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from titan_nb.settings import CarbonConfig


def configure(shell: InteractiveShell, assignment: str) -> BaseException | None:
    return shell.run_cell(f"%config TitanMagics.{assignment}").error_in_exec


def carbon(shell: InteractiveShell) -> CarbonConfig:
    magics: Any = shell.find_line_magic("titan").__self__
    found: CarbonConfig = magics.settings().carbon
    return found


def test_the_carbon_settings_come_from_the_configuration(titan: InteractiveShell) -> None:
    assert carbon(titan) == CarbonConfig()
    for assignment in (
        "provider = 'electricitymaps'",
        "zone = 'US-CAL-CISO'",
        "pue = 1.2",
        "price_per_kwh = {'00:00': 0.2, '07:00': 0.35}",
        "currency = 'EUR'",
        "equivalents = True",
    ):
        assert configure(titan, assignment) is None
    assert carbon(titan) == CarbonConfig(
        zone="US-CAL-CISO",
        provider="electricitymaps",
        pue=1.2,
        price_per_kwh={"00:00": 0.2, "07:00": 0.35},
        currency="EUR",
        equivalents=True,
    )
    assert configure(titan, "price_per_kwh = 0.3") is None
    assert carbon(titan).price_per_kwh == 0.3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("provider = 'me'", "provider is 'me': give one of"),
        ("pue = 0.5", "pue is 0.5: give a number"),
        ("price_per_kwh = -1", "price_per_kwh is -1"),
        ("price_per_kwh = {'7': 1}", "the time '7': give it as HH:MM"),
        ("zone = 'US-CAL-CISO'", "no zone 'US-CAL-CISO'"),
        ("carbon_from = '/nonexistent.toml'", "cannot read /nonexistent.toml"),
    ],
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(
    titan: InteractiveShell, caplog: pytest.LogCaptureFixture, assignment: str, message: str
) -> None:
    configure(titan, assignment)
    assert message in caplog.text
    assert carbon(titan) == CarbonConfig()


def test_all_at_once_from_the_environment_or_a_file(
    titan: InteractiveShell,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TITAN_NB_ZONE", "US-CAL-CISO")
    monkeypatch.setenv("TITAN_NB_PROVIDER", "electricitymaps")
    monkeypatch.setenv("TITAN_NB_PUE", "1.5")
    assert carbon(titan) == CarbonConfig()
    assert configure(titan, "carbon_from = 'env'") is None
    assert carbon(titan) == CarbonConfig(zone="US-CAL-CISO", provider="electricitymaps", pue=1.5)
    file = tmp_path / "titan_nb.toml"
    file.write_text("[carbon]\nzone = 'DE'\n", encoding="utf-8")
    assert configure(titan, f"carbon_from = {str(file)!r}") is None
    assert carbon(titan) == CarbonConfig(zone="DE")
    assert configure(titan, "carbon_from = None") is None
    file.write_text("[carbon]\nzone = 'Atlantis'\n", encoding="utf-8")
    configure(titan, f"carbon_from = {str(file)!r}")
    assert "no zone 'Atlantis'" in caplog.text
    assert carbon(titan) == CarbonConfig(zone="DE")
