from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.fakes.accelerator import install, uninstall
from tests.unit.notebook.shells import run
from titan_nb.memory.owners import KeptFinder

MIB = 1 << 20
TAKE = "torch.empty({} << 20, dtype=torch.uint8, device='fakegpu')"


@pytest.fixture
def looks(titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A shell with the fake GPU in use and `%titan on`; what looks there were, in order."""
    gc.collect()
    install(256 * MIB)
    run(titan, f"import torch\nheld = {TAKE.format(1)}")
    run(titan, "%titan on")
    seen: list[str] = []
    for name in ("begin", "end"):
        function: Any = getattr(KeptFinder, name)

        def noted(self: KeptFinder, *values: Any, name: str = name, function: Any = function) -> Any:
            seen.append(name)
            return function(self, *values)

        monkeypatch.setattr(KeptFinder, name, noted)
    yield seen
    titan.user_ns.clear()
    gc.collect()
    uninstall()


def kept() -> list[tuple[str, int]]:
    return [(one.name, one.size_bytes) for one in titan_nb.ledger().reports[-1].memory.kept]


def test_empty_cells_cost_one_look_and_no_more(titan: InteractiveShell, looks: list[str]) -> None:
    for _ in range(5):
        run(titan, "pass")
    assert looks in (["begin"], [])
    assert kept() == []


def test_what_stays_on_the_gpu_is_named_and_what_does_not_is_not(
    titan: InteractiveShell, looks: list[str]
) -> None:
    run(titan, f"x = {TAKE.format(8)}")
    assert kept() == [("x", 8 * MIB)]
    run(titan, f"y = {TAKE.format(4)}")
    assert kept() == [("y", 4 * MIB)]
    run(titan, f"{TAKE.format(16)}.sum();")
    assert kept() == []


def test_what_another_cell_put_in_the_place_of_the_old_is_not_charged_to_the_next(
    titan: InteractiveShell, looks: list[str]
) -> None:
    run(titan, f"x = {TAKE.format(8)}")
    run(titan, f"del x\nz = {TAKE.format(8)}")
    assert kept() == [], "nothing more is held than before"
    looks.clear()
    run(titan, f"y = {TAKE.format(4)}")
    assert looks == ["begin", "end"]
    assert kept() == [("y", 4 * MIB)]


def test_ram_is_told_only_to_the_cell_that_asked(titan: InteractiveShell, looks: list[str]) -> None:
    run(titan, "a = b'y' * (64 << 20)")
    assert kept() == []
    run(titan, "%%titan -q\nb = b'x' * (64 << 20)")
    assert kept() == [("b", sys.getsizeof(titan.user_ns["b"]))]
