"""A tracked cell behaves as the plain one, in a real kernel, in all 51 ways, however it is tracked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace

import pytest

from tests.kernel.battery import Seen, verdict
from tests.kernel.cases import CASES, Case
from tests.kernel.cell import MODES, PLAIN
from tests.kernel.stacks import NEWEST
from tests.kernel.transcript import difference

Played = dict[tuple[str, str], Seen]
BatteryOf = Callable[[str], dict[str, "Future[Played]"]]

STACKS = [
    NEWEST,
    "ipython-7.34",
    pytest.param("ipython-8.15", marks=pytest.mark.slow),
]


def test_there_are_51_cases() -> None:
    assert len(CASES) == len({case.name for case in CASES}) == 51


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stack", STACKS)
def test_same_as_plain(stack: str, mode: str, case: Case, battery: BatteryOf) -> None:
    played = battery(stack)
    case = _as_parsed(case, stack)
    reason = verdict(case, mode, played[PLAIN].result(), played[mode].result()[case.name, mode])
    assert not reason, f"\n{reason}"


def _as_parsed(case: Case, stack: str) -> Case:
    """Return the case with its tracked cell as never begun where the stack cannot parse it."""
    if (stack, case.name) != ("ipython-7.34", "shell command into a variable") or sys.version_info < (3, 12):
        return case
    # IPython 7.34 does not understand the tokens of `name = !command` on Python 3.12 and later.
    return replace(case, cells=tuple(replace(cell, begun=False) for cell in case.cells))


def test_two_plain_kernels_agree(battery: BatteryOf, plain_again: Future[Played]) -> None:
    """What differs between two plain kernels is no behaviour, and must have been masked."""
    once, again = battery(NEWEST)[PLAIN].result(), plain_again.result()
    for key in once:
        assert not difference(once[key].lines, again[key].lines), key


@pytest.mark.parametrize(
    ("strategy", "least"),
    [("like_time", 15), ("nested_run_cell", 20), ("comment_line", 3)],
)
def test_wrong_strategies_fail(
    strategy: str, least: int, battery: BatteryOf, wrong: Callable[[str], Played]
) -> None:
    """The battery has teeth: it finds what each wrong way of running a cell breaks."""
    plain, played = battery(NEWEST)[PLAIN].result(), wrong(strategy)
    failing = [case.name for case in CASES if verdict(case, "%%titan", plain, played[case.name, "%%titan"])]
    print(f"{strategy}: {len(failing)} of {len(CASES)} cases fail: {', '.join(failing)}")
    assert len(failing) >= least
    assert "last expression" not in failing
