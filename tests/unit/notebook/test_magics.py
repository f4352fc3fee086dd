from __future__ import annotations

import csv
import io
import json
import re
import sys

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets import TraitError

import titan_nb
from tests.unit.notebook.shells import run, shown
from titan_nb.notebook import extension
from titan_nb.notebook.magics import VERBS
from titan_nb.records import Report
from titan_nb.settings import Settings


def reports() -> tuple[Report, ...]:
    return titan_nb.ledger().reports


def test_a_tracked_cell_runs_and_is_reported(titan: InteractiveShell) -> None:
    run(titan, "%%titan -o r --label 'my fit' -q\nx = 6 * 7\nx")
    assert titan.user_ns["x"] == 42
    assert titan.user_ns["_"] == 42
    report = titan.user_ns["r"]
    assert report is reports()[-1]
    assert (report.label, report.outcome, report.seconds > 0) == ("my fit", "ok", True)


def test_the_report_bears_the_number_of_the_prompt(titan: InteractiveShell) -> None:
    before = titan.execution_count
    run(titan, "%%titan -q -o r\nx = 1")
    counted = titan.execution_count
    assert counted == before + 1
    assert titan.user_ns["r"].cell.execution_count == before


def test_track_on_the_first_line_is_the_same(titan: InteractiveShell) -> None:
    run(titan, "%titan track -q -o r\nx = 1")
    assert titan.user_ns["r"].outcome == "ok"


def test_both_names_of_a_doubly_tracked_cell_get_the_one_report(titan: InteractiveShell) -> None:
    count = len(reports())
    run(titan, "%%titan -q -o a\n%%titan -q -o b\nx = 1")
    assert len(reports()) == count + 1
    assert titan.user_ns["a"] is titan.user_ns["b"]


def test_on_measures_from_its_own_cell_and_off_ends_with_its_own(titan: InteractiveShell) -> None:
    count = len(reports())
    run(titan, "%titan on")
    run(titan, "x = 1")
    run(titan, "%titan off")
    run(titan, "x = 2")
    assert len(reports()) == count + 2


def test_off_leaves_a_cell_alone_that_asked_for_itself(titan: InteractiveShell) -> None:
    count = len(reports())
    run(titan, "%%titan -q\n%titan off")
    assert len(reports()) == count + 1


def test_the_options_of_a_cell_go_before_always_on(titan: InteractiveShell) -> None:
    run(titan, "%titan on")
    run(titan, "%%titan -q --label mine --zone DE\nx = 1")
    report = reports()[-1]
    assert report.label == "mine"
    assert report.carbon is None or report.carbon.zone == "DE"
    run(titan, "%titan off")


def test_nested_cells_make_one_report(titan: InteractiveShell) -> None:
    count = len(reports())
    run(titan, "%%titan -q\nget_ipython().run_cell('y = 1')\nget_ipython().run_cell('%%titan\\nz = 2')")
    assert len(reports()) == count + 1
    assert (titan.user_ns["y"], titan.user_ns["z"]) == (1, 2)


def test_a_block_in_a_cell_has_a_report_inside_the_cells(titan: InteractiveShell) -> None:
    run(titan, "%%titan -q\nimport titan_nb\nwith titan_nb.track(label='inner'):\n    pass")
    outer, inner = reports()[-2:]
    assert (outer.parent, inner.parent, inner.label) == (None, outer.number, "inner")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%%titan --bogus", "unrecognized arguments: --bogus"),
        ("%%titan -o", "expected one argument"),
        ("%%titan -o 1x", "variable name"),
        ("%%titan -o class", "variable name"),
        ("%%titan on", "did you mean %titan on"),
        ('%%titan --label "unbalanced', "No closing quotation"),
        ("%%titan -o In", "variable name"),
        ("%%titan stray", "takes no"),
        ("%%titan --zone Atlantis", "Atlantis"),
        ("%%titan --format csv", "takes no --format"),
        ("%titan track --bogus", "unrecognized arguments"),
        ("%titan fly", "invalid choice: 'fly'"),
        ("%titan on --zone DE", "takes no --zone"),
        ("%titan", "say what to do"),
        ("%titan recall", "say what to recall"),
        ("%titan recall x -k 0", "-k is 0"),
        ("%titan recall x -k many", "invalid int value"),
        ("%titan report --format xml", "invalid choice: 'xml'"),
    ],
)
def test_bad_options_are_one_line_and_the_body_does_not_run(
    titan: InteractiveShell, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    count = len(reports())
    result = titan.run_cell(f"{line}\nran = True")
    assert type(result.error_in_exec or result.error_before_exec).__name__ == "UsageError"
    assert "ran" not in titan.user_ns
    assert len(reports()) == count
    out, err = capsys.readouterr()
    said = (out + err).strip()
    assert len(said.splitlines()) == 1, said
    assert re.search(message, said), said


def test_a_syntax_error_is_not_begun(titan: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    count = len(reports())
    titan.run_cell("%%titan -o never\nx = = 1")
    assert "never" not in titan.user_ns
    run(titan, "%titan on")
    titan.run_cell("x = = 1")
    run(titan, "%titan off")
    assert len(reports()) == count + 1


@pytest.mark.parametrize(
    ("body", "outcome", "error"),
    [
        ("1 / 0", "error", "ZeroDivisionError"),
        ("raise KeyboardInterrupt", "interrupted", "KeyboardInterrupt"),
        ("raise SystemExit(3)", "error", "SystemExit"),
        ("import asyncio; await asyncio.sleep(0.001)", "ok", None),
    ],
)
@pytest.mark.filterwarnings("ignore:To exit")
def test_every_end_is_reported(titan: InteractiveShell, body: str, outcome: str, error: str | None) -> None:
    for cell in (f"%%titan -q\n{body}", f"%titan track -q\n{body}"):
        titan.run_cell(cell)
        assert (reports()[-1].outcome, reports()[-1].error) == (outcome, error)


def test_a_program_that_calls_the_cell_magic_itself_is_told_what_to_use(titan: InteractiveShell) -> None:
    with pytest.raises(UsageError, match=r"with titan_nb.track\(\)"):
        titan.run_cell_magic("titan", "-q", "made = 1")
    assert "made" not in titan.user_ns


def test_the_cell_that_loads_titan_cannot_be_tracked_and_says_so(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_cell("%load_ext titan_nb\n%titan track -o r\nran = True")
    assert type(result.error_in_exec).__name__ == "UsageError"
    assert "next cell" in "".join(capsys.readouterr())
    run(shell, "%titan track -q -o r")
    assert shell.user_ns["r"].outcome == "ok"


def test_a_report_that_was_asked_for_is_captured_with_the_cell(titan: InteractiveShell) -> None:
    run(titan, "%%capture out\n%titan report")
    assert "application/vnd.titan.table+json" in titan.user_ns["out"].outputs[0].data


@pytest.mark.parametrize(
    "setting",
    ["zone = 'Atlantis'", "grams_per_kwh = -5", "grams_per_kwh = float('nan')", "min_seconds = float('nan')"],
)
def test_a_setting_that_cannot_be_used_is_refused_when_it_is_made(
    titan: InteractiveShell, setting: str
) -> None:
    magics = titan.magics_manager.registry["TitanMagics"]
    name, _, value = setting.partition(" = ")
    with pytest.raises(TraitError):
        setattr(magics, name, eval(value))
    assert magics.settings() == Settings()


def test_another_shell_leaves_the_history_limit_alone(titan: InteractiveShell) -> None:
    run(titan, "%config TitanMagics.history_limit = 3")
    other = InteractiveShell(parent=None)
    other.history_manager.enabled = False
    extension.load(other)
    assert titan_nb.ledger().limit == 3
    extension.unload(other)
    run(titan, "%config TitanMagics.history_limit = 10000")


def test_outside_a_cell_track_does_nothing(titan: InteractiveShell) -> None:
    count = len(reports())
    titan.run_line_magic("titan", "track")
    assert len(reports()) == count


def test_one_display_at_the_end_with_three_forms(titan: InteractiveShell) -> None:
    (display,) = shown(titan, "%%titan\nx = 1")
    assert set(display.data) == {"text/plain", "text/html", "application/vnd.titan.report+json"}
    assert Report.from_dict(display.data["application/vnd.titan.report+json"]) == reports()[-1]


def test_quiet_off_and_thresholds(titan: InteractiveShell) -> None:
    assert shown(titan, "%%titan -q\nx = 1") == []
    run(titan, "%config TitanMagics.quiet = True")
    assert shown(titan, "%%titan\nx = 1") == []
    run(titan, "%config TitanMagics.quiet = False")
    run(titan, "%config TitanMagics.display = 'off'")
    assert shown(titan, "%%titan\nx = 1") == []
    run(titan, "%config TitanMagics.display = 'auto'")
    run(titan, "%titan on")
    assert shown(titan, "import time; time.sleep(1.1)") == [], "in a terminal `on` is silent"
    titan.kernel = object()  # what a shell with a front end has
    assert len(shown(titan, "import time; time.sleep(1.1)")) == 1
    assert shown(titan, "x = 1") == [], "below the threshold"
    del titan.kernel
    run(titan, "%titan off")


def test_simulated_displays_are_the_same_on_every_run(titan: InteractiveShell) -> None:
    run(titan, "%config TitanMagics.display = 'simulated'")
    first = shown(titan, "%%titan\nx = 1")[0].data
    second = shown(titan, "%%titan\nx = sum(range(10**5))")[0].data
    assert "simulated" in first["text/plain"]
    number = titan_nb.ledger().reports[-1].cell
    assert number is not None
    assert first["text/plain"].replace(str(number.number - 1), "N", 1) == second["text/plain"].replace(
        str(number.number), "N", 1
    )
    run(titan, "%config TitanMagics.display = 'auto'")


def test_the_display_mode_comes_from_the_environment(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITAN_NB_DISPLAY", "simulated")
    run(shell, "%load_ext titan_nb")
    assert shell.magics_manager.registry["TitanMagics"].display == "simulated"
    monkeypatch.setenv("TITAN_NB_DISPLAY", "nonsense")
    run(shell, "%reload_ext titan_nb")
    assert shell.magics_manager.registry["TitanMagics"].display == "auto"


def test_help_names_every_verb_and_option(titan: InteractiveShell) -> None:
    text = titan.magics_manager.magics["line"]["titan"].__doc__
    assert titan.magics_manager.magics["cell"]["titan"].__doc__ == text
    for word in (*VERBS, "--output", "--quiet", "--chat", "--zone", "--label", "--format", "-k"):
        assert word in text, word


def test_every_trait_has_help(titan: InteractiveShell) -> None:
    magics = titan.magics_manager.registry["TitanMagics"]
    traits = magics.class_own_traits(config=True)
    assert len(traits) >= 7
    for name, trait in traits.items():
        assert trait.help, name


def test_the_history_limit_takes_effect_at_once(titan: InteractiveShell) -> None:
    run(titan, "%config TitanMagics.history_limit = 2")
    for _ in range(4):
        run(titan, "%%titan -q\nx = 1")
    assert len(reports()) == 2
    run(titan, "%config TitanMagics.history_limit = 10000")


def test_report_as_a_table_and_in_each_format(
    titan: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(titan, "%%titan -q --label one\nx = 1")
    run(titan, "%%titan -q --label two\nx = 1")
    (display,) = shown(titan, "%titan report")
    assert "application/vnd.titan.table+json" in display.data
    assert "one" in display.data["text/plain"]
    capsys.readouterr()
    run(titan, "%titan report --format csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["label"] for row in rows] == ["one", "two"]
    run(titan, "%titan report --format json")
    assert [row["label"] for row in json.loads(capsys.readouterr().out)] == ["one", "two"]
    run(titan, "%titan report --format text")
    assert "two" in capsys.readouterr().out
    run(titan, "%titan report --format html")
    assert "<table" in capsys.readouterr().out
    run(titan, "%titan report --format csv -o text")
    assert titan.user_ns["text"].count("\n") == 3


def test_reset_forgets(titan: InteractiveShell) -> None:
    run(titan, "%%titan -q\nx = 1")
    run(titan, "%titan reset")
    assert reports() == ()


def test_status_says_what_is_measured_and_how_to_get_more(titan: InteractiveShell) -> None:
    (display,) = shown(titan, "%titan status")
    text = display.data["text/plain"]
    for word in ("NVIDIA", "RAPL", "CPU", "memory"):
        assert word in text
    assert "application/vnd.titan.table+json" in display.data


def test_dashboard_is_a_widget_with_a_static_fallback(titan: InteractiveShell) -> None:
    run(titan, "%%titan -q --label shown\nx = 1")
    (display,) = shown(titan, "%titan dashboard")
    assert "shown" in display.data["text/html"]
    assert "shown" in display.data["text/plain"]


def test_without_ipywidgets_the_dashboard_is_the_table(
    titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "titan_nb.views.widgets", raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    run(titan, "%%titan -q --label shown\nx = 1")
    (display,) = shown(titan, "%titan dashboard")
    assert "application/vnd.titan.table+json" in display.data


def test_options_given_by_variables(titan: InteractiveShell) -> None:
    titan.user_ns["name"] = "from a variable"
    run(titan, '%%titan -q --label "$name"\nx = 1')
    assert reports()[-1].label == "from a variable"


def test_zone_and_intensity_come_from_the_configuration(titan: InteractiveShell) -> None:
    magics = titan.magics_manager.registry["TitanMagics"]
    assert magics.settings().carbon.zone is None
    run(titan, "%config TitanMagics.zone = 'DE'")
    run(titan, "%config TitanMagics.grams_per_kwh = 100")
    assert (magics.settings().carbon.zone, magics.settings().carbon.grams_per_kwh) == ("DE", 100)
    options = magics._parsed("track --zone FR")
    assert magics.settings(options).carbon.grams_per_kwh is None, "a zone for this cell is meant to be used"
    run(titan, "%config TitanMagics.zone = None")
    run(titan, "%config TitanMagics.grams_per_kwh = None")
