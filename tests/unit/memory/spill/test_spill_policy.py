"""What is moved without being named: what no cell has mentioned for a while, once memory is short."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from titan_nb.errors import SettingsError
from titan_nb.memory.spill import policy
from titan_nb.memory.spill.handle import is_handle
from titan_nb.memory.spill.mentions import mentioned
from titan_nb.memory.spill.policy import SpillPolicy


def _run(code: str, **names: Any) -> dict[str, Any]:
    namespace: dict[str, Any] = dict(names)
    exec(code, namespace)
    return namespace


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a + 1", {"a"}),
        ("%time f(2)", {"f", "a"}),
        ("outer()", {"outer", "f", "a"}),
        ("model(3)", {"model", "b"}),
        ("Model", {"Model", "b"}),
        ("nested", {"nested", "a"}),
        ("bound()", {"bound"}),
        ("'c' # b", {"c", "b"}),
        ("closed()", {"closed", "a"}),
        ("é_1", {"é_1"}),
        ("unknown = 1", set()),
    ],
)
def test_names_are_found_through_the_functions_that_a_cell_calls(source: str, expected: set[str]) -> None:
    namespace = _run("""
a = b = c = é_1 = 1
def f(x): return a + x
def outer(): return f(1)
def nested(): return [a for _ in range(3)]
class Model:
    @property
    def weight(self): return b
    @staticmethod
    def other(): return b
    @classmethod
    def third(cls): return b
    def __call__(self, x): return x + self.weight
    def __getattr__(self, name): raise RuntimeError
model = Model()
bound = model.__call__
def close(g, unset=True):
    if not unset: later = 1
    return lambda: g(1) if unset else later
closed = close(f)
""")
    assert mentioned(source, namespace) - {"close", "range"} == expected


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_host_used", lambda: 0.9)


@pytest.mark.usefixtures("short")
def test_what_is_idle_goes_and_what_is_mentioned_stays() -> None:
    chosen = SpillPolicy(idle_cells=2, min_bytes=400, disk=True)
    namespace: dict[str, Any] = {
        "old": torch.ones(100),
        "used": torch.ones(100),
        "small": torch.ones(10),
        "held": torch.ones(100),
        "_7": torch.ones(100),
        "Out": {},
    }
    namespace["holder"] = [namespace["held"]]
    done = None
    for number in range(1, 4):
        done = chosen.before_cell("used, holder", namespace, number)
        assert (done is not None and len(done.moved) == 1) == (number == 3)
    assert done is not None
    assert [one.name for one in done.moved] == ["old"]
    assert is_handle(namespace["old"])
    assert not any(is_handle(namespace[name]) for name in ("used", "small", "held", "_7"))
    again = chosen.before_cell("used, holder", namespace, 4)
    assert again is not None
    assert again.moved == ()


def test_nothing_moves_while_memory_is_plentiful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_host_used", lambda: 0.7)
    chosen = SpillPolicy(idle_cells=1, min_bytes=1, disk=True)
    namespace = {"old": torch.ones(100)}
    assert [chosen.before_cell("", namespace, number) for number in range(4)] == [None] * 4
    assert SpillPolicy(idle_cells=1).before_cell("", namespace, 1) is None
    assert not is_handle(namespace["old"])


def test_the_host_use_is_a_part() -> None:
    assert 0 < policy._host_used() < 1


@pytest.mark.parametrize("wrong", [{"idle_cells": 0}, {"pressure": 1.1}, {"pressure": float("nan")}])
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SpillPolicy(**wrong)
