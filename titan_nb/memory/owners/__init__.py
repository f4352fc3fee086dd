"""Which name holds what, on the host and on each GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from titan_nb.memory.owners.kept import KeptFinder
from titan_nb.memory.owners.report import DeviceTotal, Owners, Row
from titan_nb.memory.owners.roots import Kind, Root, frames, last_failure, module_namespaces, variables
from titan_nb.memory.owners.search import look
from titan_nb.memory.owners.slots import locals_of

__all__ = ["DeviceTotal", "KeptFinder", "Kind", "Owners", "Root", "Row", "owners"]


def owners(
    namespace: Mapping[str, Any] | None = None,
    *,
    roots: Iterable[Root] | None = None,
    seconds: float = 0.25,
) -> Owners:
    """Return which name holds which memory: tensors, arrays, text and bytes, each block counted once.

    Also looks through the local variables of all running functions. Nothing is changed, and no code of the
    objects that are looked at is called.

    Args:
        namespace: The variables to look through; the caller's own, global and local, if nothing is given.
        roots: Names to begin with instead, as the notebook has more of them than its variables.
        seconds: Longest time; what could not be looked at in it is named in ``stopped_at``.
    """
    caller = sys._getframe(1)
    given: list[Root] = []
    try:
        if roots is not None:
            given = list(roots)
        elif namespace is not None:
            given = [*variables(namespace), *last_failure()]
        else:
            given = [*variables(caller.f_globals | locals_of(caller)), *last_failure()]
        namespace = caller.f_globals if namespace is None else namespace
        beyond = module_namespaces() | {id(namespace), id(caller.f_globals)}
        return look(chain(given, frames(namespace, caller)), beyond, seconds)
    finally:
        # After an interrupt the traceback keeps this frame, which must not keep the user's objects.
        given.clear()
        del caller
