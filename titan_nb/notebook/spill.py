"""`%titan spill`: move idle tensors out of the way, see what is moved, and bring it back."""

from __future__ import annotations

import difflib
import mmap
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from titan_nb import units
from titan_nb.memory import spill as spilling
from titan_nb.views.grid import grid_bundle

if TYPE_CHECKING:
    from titan_nb.notebook.session import Session

__all__ = ["moved_text", "spill"]

_SHOWN_NAMES = 3


def spill(session: Session, options: Any) -> None:
    """Move the tensors of variables to host memory or to disk; list what is moved; or bring it back.

    Args:
        session: The shell's session.
        options: With ``names`` (list of variables), ``disk`` and ``back`` (whether to).
    """
    if options.back and options.disk:
        raise UsageError("%titan spill --back brings tensors to where they were: leave --disk out")
    if options.disk and not options.names:
        raise UsageError("say what to move to disk: %titan spill NAME... --disk")
    chosen = _chosen(session.shell.user_ns, options.names)
    if "torch" not in sys.modules:
        _say("nothing to spill: torch is not imported")
    elif options.back:
        _say(_back(spilling.restore(chosen) if options.names else spilling.restore()))
    elif not options.names:
        _list(session)
    else:
        # Less than a page would free nothing.
        done = spilling.spill_named([*chosen.items()], disk=options.disk, min_bytes=mmap.PAGESIZE)
        _say(_line(done, "disk" if options.disk else "host memory"))


def _chosen(variables: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    for name in names:
        if name not in variables:
            near = difflib.get_close_matches(name, [one for one in variables if not one.startswith("_")], 1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"no variable {name!r}{meant}")
    return {name: variables[name] for name in names}


def _list(session: Session) -> None:
    found = spilling.spilled()
    if not found:
        _say("nothing is spilled")
        return
    rows = [
        (one.name, units.byte_size(one.size_bytes), one.device, one.where)
        for one in sorted(found, key=lambda one: -one.size_bytes)
    ]
    total = units.byte_size(sum(one.size_bytes for one in found))
    title = f"Spilled: {total}; each comes back when it is used"
    session.presenter.publish(grid_bundle(title, ("tensor", "size", "belongs on", "is in"), rows))


def _line(done: spilling.Spilled, where: str) -> str:
    # Of a model's optimizer there is a tensor of one number for each parameter.
    refused = [one for one in done.refused if not 0 < one.size_bytes < mmap.PAGESIZE]
    if not done.moved and not refused:
        return "nothing to spill: no tensor of a page or more that is not spilled already"
    parts = [f"moved {moved_text(done.moved, f'to {where}')}" if done.moved else "nothing moved"]
    by_reason: dict[str, list[str]] = {}
    for one in refused:
        by_reason.setdefault(one.reason, []).append(one.name)
    parts += [f"{_names(names)}: {reason}" for reason, names in by_reason.items()]
    return "; ".join(parts)


def _back(moved: Sequence[spilling.Moved]) -> str:
    return moved_text(moved, "brought back") if moved else "nothing to bring back"


def moved_text(moved: Sequence[spilling.Moved], how: str) -> str:
    """Return how much was moved, such as ``240 MiB to host memory (3 tensors)``."""
    count = "1 tensor" if len(moved) == 1 else f"{len(moved)} tensors"
    return f"{units.byte_size(sum(one.size_bytes for one in moved))} {how} ({count})"


def _names(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    shown = ", ".join(names[:_SHOWN_NAMES])
    return (
        f"{shown} and {more} more stay" if more > 0 else f"{shown} {'stays' if len(names) == 1 else 'stay'}"
    )


def _say(text: str) -> None:
    sys.stdout.write(f"titan: {text}\n")
