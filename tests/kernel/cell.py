"""A cell as a front end sends it, and the forms in which a tracked one is typed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["MODES", "PLAIN", "PLAIN_LINE", "Cell"]

PLAIN = "plain"
PLAIN_LINE = "plain, below a line"
"""The plain form of a cell that begins with a line of its own: what ``%titan track`` is compared with."""

MODES = {"%%titan": PLAIN, "%titan track": PLAIN_LINE, "%titan on": PLAIN}
"""The ways of tracking a cell, and the plain form each is compared with."""


@dataclass(frozen=True)
class Cell:
    """A cell as a front end sends it.

    Attributes:
        body: The text.
        tracked: Whether it is the cell under test; the others only set up and look.
        above: A cell magic that stands above ours.
        bare: Whether the plain form must not begin with a comment, because the body has to be the
            first line: a cell magic, or automagic, which IPython knows only in one-line cells.
        begun: Whether there is anything to measure. A cell that does not run is never begun.
        interrupt_on: Text on whose appearance the kernel is interrupted.
        interrupt_after_seconds: Time after sending at which the kernel is interrupted.
        answers: What is typed into ``input``.
        cell_id: The front end's id of the cell; None to send none, as nbclient does.
        expressions: User expressions, evaluated after the cell.
        queued: Whether it is sent together with the cell before it, as Run All does.
    """

    body: str
    tracked: bool = False
    above: str = ""
    bare: bool = False
    begun: bool = True
    silent: bool = False
    store_history: bool = True
    interrupt_on: str = ""
    interrupt_after_seconds: float | None = None
    answers: tuple[str, ...] = ()
    cell_id: str | None = None
    queued: bool = False
    expressions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def typed(self, mode: str) -> Cell:
        """Return the cell as it is typed in ``mode``.

        The plain form has a comment where the tracked one has its first line, so that all other
        lines have the same numbers.
        """
        if not self.tracked:
            return self
        first = mode
        if mode in (PLAIN, "%titan on"):
            first = "" if self.bare else "# plain"
        elif mode == PLAIN_LINE:
            first = "# plain"
        return dataclasses.replace(
            self, body="\n".join(part for part in (self.above, first, self.body) if part)
        )
