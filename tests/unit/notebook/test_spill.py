"""What `%titan spill` says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from IPython.core.error import UsageError

from titan_nb.memory.spill.handle import is_handle
from titan_nb.notebook import spill as verb


class _Presenter:
    def __init__(self) -> None:
        self.bundles: list[dict[str, Any]] = []

    def publish(self, bundle: dict[str, Any]) -> None:
        self.bundles.append(bundle)


def _say(capsys: pytest.CaptureFixture[str], variables: dict[str, Any], *names: str, **options: bool) -> str:
    session: Any = SimpleNamespace(shell=SimpleNamespace(user_ns=variables), presenter=_Presenter())
    chosen = SimpleNamespace(names=list(names), **{"disk": False, "back": False, **options})
    verb.spill(session, chosen)
    shown = [bundle["text/plain"] for bundle in session.presenter.bundles]
    return capsys.readouterr().out + "\n".join(shown)


def test_it_moves_lists_and_brings_back(capsys: pytest.CaptureFixture[str]) -> None:
    variables = {"x": torch.ones(1 << 18), "model": torch.nn.Linear(500, 2000)}
    view = variables["model"].bias.detach()
    said = _say(capsys, variables, "x", "model", disk=True)
    assert said == (
        "titan: moved 4.8 MiB to disk (2 tensors); "
        "model.bias stays: a view, NumPy or another tensor shares its memory\n"
    )
    assert is_handle(variables["x"])
    listed = _say(capsys, variables)
    assert "Spilled: 4.8 MiB" in listed
    assert listed.index("model.weight") < listed.index("x ")
    assert _say(capsys, variables, "x", back=True) == "titan: 1.0 MiB brought back (1 tensor)\n"
    assert _say(capsys, variables, back=True) == "titan: 3.8 MiB brought back (1 tensor)\n"
    assert _say(capsys, variables, back=True) == "titan: nothing to bring back\n"
    assert _say(capsys, variables) == "titan: nothing is spilled\n"
    del view


def test_what_stays_is_said_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    variables: dict[str, Any] = {"x": torch.ones(5000), "many": [torch.ones(5000) for _ in range(5)]}
    assert _say(capsys, variables, "x") == (
        "titan: nothing moved; x stays: it is in host memory already (--disk moves it to disk)\n"
    )
    assert _say(capsys, variables, "many") == (
        "titan: nothing moved; many[0], many[1], many[2] and 2 more stay: "
        "it is in host memory already (--disk moves it to disk)\n"
    )
    variables["tiny"] = torch.ones(3)
    assert _say(capsys, variables, "tiny").startswith("titan: nothing to spill")
    assert "tiny" not in _say(capsys, variables, "x", "tiny")
    assert _say(capsys, variables, "tiny", disk=True).startswith("titan: nothing to spill")


def test_a_name_that_is_none_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no variable 'modle'; did you mean model"):
        _say(capsys, {"model": 1}, "modle")
    with pytest.raises(UsageError, match=r"no variable 'q'$"):
        _say(capsys, {"model": 1}, "q")
    with pytest.raises(UsageError, match="say what to move to disk"):
        _say(capsys, {}, disk=True)
    with pytest.raises(UsageError, match="leave --disk out"):
        _say(capsys, {}, back=True, disk=True)


def test_without_torch_there_is_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(verb.sys.modules, "torch")
    assert _say(capsys, {}) == "titan: nothing to spill: torch is not imported\n"
