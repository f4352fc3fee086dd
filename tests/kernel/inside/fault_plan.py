"""Which cell of a session meets which fault: drawn once from a seed, by the test and by its kernel alike."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["HANGS", "KINDS", "ON", "PLACES", "Planned", "plan"]

KINDS = ("raise", "base exception", "memory error", "nan", "inf", "negative", "wrong type", "huge")
PLACES = ("inline sensor", "thread sensor", "clock", "store", "publish", "view")
HANGS = ("hanging sensor 1", "hanging sensor 2")
"""Sensors that hang once each: the first one's thread is abandoned, the second holds up its successor."""

ON = "%titan on"

_BODIES = {
    "value": "v{n} = {i}\nv{n} * 2",
    "print": "print('line', {i})\nv{n} = 'x' * {n}",
    "error": "v{n} = [{i}]\nraise ValueError({i})",
    "error in a function": "def fail(x):\n    return x / 0\nv{n} = {i}\nfail(v{n})",
    # Flushed, because a kernel sends its two streams in no fixed order of their own.
    "stderr": "import sys\nprint('out', {i}, flush=True)\nprint('err', {i}, file=sys.stderr)",
    "display": "from IPython.display import HTML, display\ndisplay(HTML('<b>{i}</b>'))\n'shown'",
    "clear": "from IPython.display import clear_output\nprint('gone')\nclear_output(wait=True)\nprint({i})",
    "await": "import asyncio\nawait asyncio.sleep(0.001)\nv{n} = {i}\nv{n} + 1",
    "generators": "import random\nimport numpy\nv{n} = random.random() + numpy.random.rand()\nv{n}",
    "semicolon": "v{n} = {i};\nv{n};",
    "array": "import numpy\nv{n} = numpy.full((2, 3), {i} + 1.0)\nv{n}",
    "line magic": "%precision 3\nv{n} = {i} / 7\nv{n}",
}


@dataclass(frozen=True)
class Planned:
    """One cell and the fault that it meets.

    Attributes:
        body: The cell.
        line: What stands above it when it is tracked; `ON` for nothing.
        place: Where the fault strikes; empty for nowhere.
        kind: One of `KINDS`, or ``hang``.
        call: Which use of that place in the cell fails: 0 the first, 1 the second, None each.
    """

    body: str
    line: str
    place: str
    kind: str
    call: int | None

    def typed(self, tracked: bool) -> str:
        """Return the cell as it is typed, with as many lines in either form."""
        if self.line == ON:
            return self.body
        return f"{self.line if tracked else '# plain'}\n{self.body}"


def plan(seed: int, cells: int) -> list[Planned]:
    """Return the cells of a session; in the last fifth every cell is tracked by ``%titan on``."""
    source = random.Random(seed)
    planned = []
    hangs = dict(zip((cells // 20, cells // 5), HANGS, strict=True))
    for number in range(cells):
        place, kind = source.choice(PLACES), source.choice(KINDS)
        call = source.choice((0, 1, None)) if place.endswith(("sensor", "clock")) else None
        body = source.choice(tuple(_BODIES))
        line = source.choice(("%%titan", "%titan track", "%%titan --chat notes"))
        if number in hangs:
            place, kind, call = hangs[number], "hang", 0
        if number >= cells * 4 // 5:
            line = ON
            place = source.choice(PLACES[:3]) if place == "store" else place
        if place == "store":
            body, line = "array", "%%titan --chat notes"
        if place in ("publish", "view"):
            body = source.choice(tuple(name for name in _BODIES if name != "clear"))
        text = _BODIES[body].replace("{n}", str(number % 40)).replace("{i}", str(number))
        planned.append(Planned(text, line, place, kind, call))
    return planned
