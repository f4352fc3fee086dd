"""`%titan free`: give memory back on request."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from titan_nb.memory.reclaim import Reclaimed, reclaim
from titan_nb.notebook.interrupts import Shield
from titan_nb.notebook.outputs import forget_outputs
from titan_nb.notebook.reclaim import Holders, freed_text, held_text, returned_text

if TYPE_CHECKING:
    from titan_nb.notebook.session import Session

__all__ = ["free"]

_OUTPUT = re.compile(r"Out(\[.*\])?|_oh|_+[0-9]*")
# Python itself lets many names share one such object.
_SHARED = frozenset({int, float, bool, str, bytes, tuple, type(None)})


def free(session: Session, options: Any, holders: Holders | None = None) -> None:
    """Delete variables, outputs, what failed cells hold or caches, and say what that gave.

    Args:
        session: The session.
        options: ``names``, variables to delete; ``out``, ``failed``, ``cache``; ``all`` for these three.
        holders: Who holds what is left.

    Raises:
        UsageError: If a name is no variable of the user, or nothing is asked for; nothing is freed then.
    """
    shell = session.shell
    names: Sequence[str] = list(dict.fromkeys(options.names))
    out, failed, cache = (options.all or one for one in (options.out, options.failed, options.cache))
    if not (names or out or failed or cache):
        raise UsageError(
            "say what to free: %titan free NAME..., --out (outputs), --failed (failed cells), "
            "--cache (unused blocks) or --all (these three)"
        )
    _check(shell, names)
    notes: list[str] = []

    def drop() -> None:
        deleted = [shell.user_ns.pop(name) for name in names]
        if out:
            forget_outputs(shell, lambda value: True)
        elif deleted:
            forget_outputs(shell, lambda value: any(value is one for one in deleted))
        large = [one for one in deleted if type(one) not in _SHARED]
        variables = shell.user_ns
        others = [name for name in _variables(shell) if any(variables[name] is one for one in large)]
        notes.extend(f"`{name}` is the same object, and stays" for name in others)

    # A half-done deletion would leave references that nobody finds again.
    shield = Shield()
    with shield:
        if failed:
            done = session.relief.failed_cells.reclaim(drop, caches=cache)
        else:
            done = reclaim(drop=drop, caches=cache)
        sys.stdout.write("; ".join([*_parts(done, cache, holders), *notes]) + "\n")
    shield.deliver()


def _parts(done: Reclaimed, cache: bool, holders: Holders | None) -> list[str]:
    given = [freed_text(done), returned_text(done) if cache else None]
    parts = [one for one in given if one is not None] or ["nothing was freed"]
    held = held_text(done, holders)
    return parts if held is None else [*parts, held]


def _variables(shell: Any) -> list[str]:
    """Return the names of the user's own variables: what IPython has put beside them is none of them.

    Names alone, because the traceback of a refusal keeps what its frames hold.
    """
    hidden = shell.user_ns_hidden
    return [name for name, value in shell.user_ns.items() if name not in hidden or hidden[name] is not value]


def _check(shell: Any, names: Sequence[str]) -> None:
    """Refuse names that are no variables of the user."""
    known = _variables(shell)
    for name in names:
        if name in known:
            continue
        if _OUTPUT.fullmatch(name):
            raise UsageError(f"{name} is an output; `%titan free --out` frees all of them")
        if name in shell.user_ns:
            raise UsageError(f"{name} is IPython's own, and stays; nothing was freed")
        near = difflib.get_close_matches(name, known, n=1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(f"there is no variable {name}{meant}; nothing was freed")
