"""`%titan dry-run` in a shell of this process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from titan_nb.errors import ResourceError
from titan_nb.memory.forecast import Forecast
from titan_nb.notebook import dry_run as module
from titan_nb.notebook.dry_run import dry_run


class Presenter:
    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []

    def publish(self, bundle: dict[str, Any]) -> None:
        self.shown.append(bundle)


@pytest.fixture
def session(shell: InteractiveShell) -> SimpleNamespace:
    shell.user_ns["torch"] = torch
    return SimpleNamespace(shell=shell, presenter=Presenter())


def predict(session: Any, body: str, quiet: bool = False) -> Forecast:
    dry_run(session, body, SimpleNamespace(output="forecast", quiet=quiet))
    found = session.shell.user_ns.pop("forecast")
    assert isinstance(found, Forecast)
    return found


def test_a_forecast_is_shown_and_named(session: SimpleNamespace) -> None:
    found = predict(session, "x = torch.zeros(256)\n")
    assert found.complete, found
    assert session.presenter.shown == [{"text/plain": found.describe()}]
    assert "x" not in session.shell.user_ns
    predict(session, "x = torch.zeros(256)\n", quiet=True)
    assert len(session.presenter.shown) == 1
    dry_run(session, "", SimpleNamespace(output=None, quiet=False))
    assert "forecast" not in session.shell.user_ns


@pytest.mark.parametrize(
    ("body", "line", "what"),
    [
        ("x = 1\n%pwd\n", 3, "run the magic %pwd"),
        ("\n\n!touch new\n", 4, "start a program or another process"),
        ("files = !ls\n", 2, "start a program or another process"),
        ("%%time\nx = 1\n", 2, "run the magic %%time"),
        ("def f():\n    get_ipython().run_line_magic('cd', '/')\nf()\n", 3, "run the magic %cd"),
    ],
)
def test_magics_and_commands_are_not_run(session: SimpleNamespace, body: str, line: int, what: str) -> None:
    found = predict(session, body)
    assert (found.stopped_line, found.reason) == (line, f"a dry run does not {what}")
    assert found.refused == (f"line {line}: {what}",)


def test_titans_own_line_in_the_body_only_measures(session: SimpleNamespace) -> None:
    found = predict(session, "%titan track -o r\nx = torch.zeros(256)\n")
    assert found.complete, found
    assert found.statements == 2


def test_a_body_that_is_no_python(session: SimpleNamespace) -> None:
    found = predict(session, "x = 1\ny = (\n")
    assert (found.stopped_line, found.reason) == (3, "SyntaxError: '(' was never closed")

    def refuse(cell: str) -> str:
        raise SyntaxError

    session.shell = SimpleNamespace(user_ns={"torch": torch}, transform_cell=refuse, **_parts(session.shell))
    assert predict(session, "x = (\n").stopped_line == 2


def _parts(shell: Any) -> dict[str, Any]:
    return {"display_pub": shell.display_pub}


def test_what_a_kernel_has_more_of(session: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def forecast(source: str, namespace: Any, *, first_line: int, stand_ins: Any) -> Forecast:
        given.extend(stand_ins)
        return Forecast({}, {}, None, None, (), 0, 0.0)

    monkeypatch.setattr(module, "forecast", forecast)
    kernel = SimpleNamespace(session=object())
    session.shell = SimpleNamespace(user_ns={}, transform_cell=str, kernel=kernel, **_parts(session.shell))
    predict(session, "x")
    owners = [(owner, name) for owner, name, _ in given]
    assert (kernel.session, "send") in owners

    def refuse(what: str) -> None:
        raise ResourceError(what, requested_bytes=0, available_bytes=None, device="cpu")

    for _, name, make in given:
        stand_in = make(refuse)
        if name in ("send", "publish", "clear_output"):
            assert stand_in("anything", wait=True) is None
        else:
            with pytest.raises(ResourceError):
                stand_in("name", "line")
