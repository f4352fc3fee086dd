"""The failed cells that IPython remembers, and the memory that it thereby keeps."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.headroom import ask_for_everything
from titan_nb.memory.reclaim import Reclaimed, reclaim
from titan_nb.memory.shortage import find_shortage, of_the_host, sticky
from titan_nb.units import byte_size

__all__ = ["FailedCells", "Holders", "freed_text", "gpu_names", "held_text", "returned_text", "short_of_ram"]

Holders = Callable[[], Iterable[tuple[str, int]]]
"""Returns names, and how many bytes each holds."""

LOST = "%tb works, %debug has no locals"
_SHOWN_HOLDERS = 3
# What Python itself takes and gives all the time.
_SHOWN_RAM_BYTES = 16 << 20


class FailedCells:
    """The exceptions that one shell keeps of cells that failed.

    ``sys.last_value`` and its like, ``InteractiveTB.tb`` and the last result keep the last one, each by
    itself, and with it all variables of all functions that it went through.

    Args:
        shell: The shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        # An id and no reference: the user may clean up himself, and nothing must be kept behind his back.
        self._seen: int | None = None
        # Cells of subshells may end at the same time, and each would count what the other gave back.
        # Reentrant: a finaliser that runs meanwhile may run a cell that fails.
        self._lock = threading.RLock()

    def after_cell(
        self,
        result: Any,
        policy: str = "oom",
        holders: Holders | None = None,
        ram_holders: Holders | None = None,
    ) -> str | None:
        """Give back what a cell that has just failed holds; return one line about it, None as a rule.

        To be called under a `Shield`, after IPython has shown the traceback.

        Args:
            result: IPython's result of the cell; None where it has none.
            policy: ``oom`` for errors that mean that memory was short, ``errors`` for all errors and
                interrupts, ``never``.
            holders: Who holds what is left.
            ram_holders: Who holds what is left of the host's memory, where it was that which was short.
        """
        errors = self._new_errors(result)
        if not errors:
            return None
        broken = next((line for line in map(sticky, errors) if line is not None), None)
        if broken is not None:
            return broken
        short = [one for one in errors if find_shortage(one) is not None]
        chosen = {"oom": short, "errors": errors}.get(policy, [])
        if not chosen:
            return None
        roots: list[object] = list(chosen)
        if any(one is _last_error() for one in chosen):
            # The exception itself may have lost its own, as with `raise error.with_traceback(None)`.
            roots += [getattr(sys, "last_traceback", None)]
        on_gpu = bool(short) and not all(map(short_of_ram, short))
        with self._lock:
            done = reclaim(roots, drop=ask_for_everything if on_gpu else None)
        freed = freed_text(done)
        if ram_holders is not None and short and all(map(short_of_ram, short)):
            held = _most_text(_largest(ram_holders))  # what is on the GPUs was not the matter
        else:
            held = held_text(done, holders)
        if not short and freed is None:
            return None
        return "; ".join(part for part in (freed or "nothing to free", held, LOST) if part is not None)

    def reclaim(self, drop: Callable[[], None] | None = None, *, caches: bool = True) -> Reclaimed:
        """Give back what every remembered failure holds, whatever it was, and what the debugger keeps.

        Args:
            drop: Lets go of something else at the same time.
            caches: Whether the allocator's unused blocks go back to the driver as well.
        """
        formatter = self._shell.InteractiveTB

        def drop_all() -> None:
            formatter.pdb = None  # with the frames of the last `%debug`; the next one makes a new debugger
            if drop is not None:
                drop()

        roots = [
            *_errors_of(self._shell.last_execution_result),
            _last_error(),
            getattr(sys, "last_value", None),
            getattr(sys, "last_traceback", None),
            getattr(formatter, "tb", None),
        ]
        with self._lock:
            return reclaim(roots, drop=drop_all, caches=caches)

    def _new_errors(self, result: Any) -> list[BaseException]:
        """Return the errors that came with this cell."""
        errors = _errors_of(result)
        # Some failures are shown, and leave the cell in good order: those of a script under `%run`.
        last = _last_error()
        if last is not None and id(last) != self._seen and not any(last is one for one in errors):
            errors.append(last)
        self._seen = None if last is None else id(last)
        return errors


def freed_text(done: Reclaimed) -> str | None:
    """Return what was freed, such as ``freed 240 MiB on GPU 0``; None if it was nothing."""
    names = _names(done.held_bytes)
    parts = [
        f"{byte_size(done.freed_bytes[key])} on {name}"
        for key, name in names.items()
        if done.freed_bytes.get(key, 0) > 0
    ]
    parts += [
        f"{byte_size(count)} of RAM"
        for key, count in done.freed_bytes.items()
        if key not in names and count >= _SHOWN_RAM_BYTES
    ]
    return f"freed {' and '.join(parts)}" if parts else None


def returned_text(done: Reclaimed) -> str | None:
    """Return what the allocators gave back to the driver; None if it was nothing."""
    names = _names(done.held_bytes)
    parts = [f"{byte_size(count)} of {names[key]}" for key, count in done.returned_bytes.items() if count > 0]
    return f"gave {' and '.join(parts)} back to the driver" if parts else None


def held_text(done: Reclaimed, holders: Holders | None = None) -> str | None:
    """Return what tensors still hold, and the names that hold the most; None if there is nothing to say."""
    names = _names(done.held_bytes)
    parts = [
        f"{byte_size(done.held_bytes[key])} on {name}" for key, name in names.items() if done.held_bytes[key]
    ]
    by_name = _largest(holders)
    if not parts:
        return _most_text(by_name)
    return f"still in use: {' and '.join(parts)}" + (f" ({by_name})" if by_name else "")


def short_of_ram(error: BaseException) -> bool:
    """Say whether it was the host's memory that ran out, or was limited, and not a GPU's."""
    shortage = find_shortage(error)
    return shortage is None or of_the_host(shortage)  # without one: only a limit of RAM interrupts


def _most_text(by_name: str) -> str | None:
    return f"the most is held by {by_name}" if by_name else None


def _largest(holders: Holders | None) -> str:
    """Return the names that hold the most, as a text; empty where there are none."""
    largest: list[tuple[str, int]] = []
    if holders is not None:
        # It looks at all that the user has; its failure is no reason to say nothing.
        with contextlib.suppress(Exception):
            largest = sorted(holders(), key=lambda one: -one[1])[:_SHOWN_HOLDERS]
    return ", ".join(f"`{name}` {byte_size(count)}" for name, count in largest)


def _names(held: Mapping[str, int]) -> dict[str, str]:
    names = gpu_names()
    return {key: names.get(key, "the GPU") for key in held}


def gpu_names() -> dict[str, str]:
    """Return what each GPU in use is called in a line for the user, by device key: his code numbers them."""
    gpu = accelerator()
    return {} if gpu is None else {key: f"GPU {index}" for index, key in gpu.keys().items()}


def _last_error() -> BaseException | None:
    """Return the exception that was shown last; it has another slot since Python 3.12."""
    last = getattr(sys, "last_exc", None)
    return getattr(sys, "last_value", None) if last is None else last


def _errors_of(result: Any) -> list[BaseException]:
    both = (getattr(result, "error_before_exec", None), getattr(result, "error_in_exec", None))
    return [one for one in both if one is not None]
