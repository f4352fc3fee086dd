"""The options of `%titan` that are about memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from IPython.core.magic_arguments import argument

from titan_nb.memory.sizes import bytes_of
from titan_nb.notebook.options import amount
from titan_nb.settings import AUTOCASTS, RECLAIMS

__all__ = ["CELL", "SESSION", "joined_sizes", "limit_bytes", "memory_arguments"]

F = TypeVar("F", bound=Callable[..., Any])

CELL = frozenset({"gpu_limit", "ram_limit", "autocast", "reclaim"})
"""Options of a cell, by their names in the namespace that argparse returns."""

SESSION = CELL - {"autocast"}
"""Those that `%titan on` takes as well."""


_TWO_WORDS = re.compile(r"(--(?:gpu|ram)-limit[ \t=]+[0-9][0-9.]*)[ \t]+([KMGTPkmgtp]?i?[Bb])(?!\S)")


def joined_sizes(line: str) -> str:
    """Return the line of a magic with ``--ram-limit 8 GiB``, as one writes it, in the one word it needs."""
    return _TWO_WORDS.sub(r"\1\2", line)


def limit_bytes(text: str | None) -> int | None:
    """Return a limit in bytes; None for ``off``, and where there is none.

    Raises:
        SettingsError: If it is no size.
    """
    return None if text in (None, "off") else bytes_of(text)


def limit_text(text: str) -> str:
    """Return ``text`` if it is a limit.

    Raises:
        SettingsError: If it is none.
    """
    limit_bytes(text)
    return text


def memory_arguments(function: F) -> F:
    """Give a magic the options that are about memory."""
    for add in reversed(_ARGUMENTS):
        function = add(function)
    return function


_ARGUMENTS: tuple[Callable[[Any], Any], ...] = (
    argument(
        "--gpu-limit",
        metavar="SIZE",
        type=amount(limit_text),
        help="How much this process may hold on each GPU while the cell runs: 8GiB, or off. With %%titan on: "
        "in every cell.",
    ),
    argument(
        "--ram-limit",
        metavar="SIZE",
        type=amount(limit_text),
        help="How much memory of its own this process may hold while the cell runs: 4GiB, or off. With "
        "%%titan on: in every cell.",
    ),
    argument(
        "--autocast",
        choices=AUTOCASTS,
        help="Run the cell under torch's automatic mixed precision.",
    ),
    argument(
        "--reclaim",
        choices=RECLAIMS,
        help="When the memory that a failed cell's frames hold is given back: after an out-of-memory error "
        "(the default), after every error and interrupt, or never. %%tb goes on working, %%debug loses the "
        "values of local variables.",
    ),
    argument(
        "--dry-run",
        action="store_true",
        help="Run nothing: predict the cell's peak of memory in a child process.",
    ),
    argument("--out", action="store_true", help="For free: all outputs, also those that IPython hides."),
    argument("--failed", action="store_true", help="For free: what the frames of failed cells hold."),
    argument("--cache", action="store_true", help="For free: the GPU allocator's unused blocks."),
    argument("--all", action="store_true", help="For free: outputs, failed cells and caches."),
    argument("--disk", action="store_true", help="For spill: to disk, not to the host's memory."),
    argument("--back", action="store_true", help="For spill: bring back what was moved."),
)
