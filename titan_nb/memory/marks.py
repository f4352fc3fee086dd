"""The high-water marks of one process, which everyone in it must share."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from titan_nb.living import Living
from titan_nb.memory.fold import Fold
from titan_nb.memory.host_peak import HostPeak
from titan_nb.memory.torch_peak import TorchPeak

if TYPE_CHECKING:
    from titan_nb.memory.peaks import Peaks, Scope

__all__ = ["Marks", "marks_of"]

T = TypeVar("T")

_LOCK_SECONDS = 0.020
"""The longest that a cell waits for another thread's boundary, which as a rule takes microseconds."""


class Marks:
    """The high-water marks of one process, the scopes that look at them, and one lock around all.

    Args:
        host: The mark of this process's resident memory.
        torch: The marks of torch's allocators.

    Attributes:
        scopes: The open scopes.
        failures: The last failure of what is not a counter, by its name.
        users: The `Peaks` that may still open scopes; without any, no file is kept open.
    """

    def __init__(self, host: HostPeak | None = None, torch: TorchPeak | None = None) -> None:
        self.host = HostPeak() if host is None else host
        self.host_fold = Fold(self.host)
        self.torch = TorchPeak() if torch is None else torch
        self.torch_fold = Fold(self.torch)
        self.torch.user.before_reset = self._before_user_reset
        # Weak, so that nothing is kept for an owner that was interrupted before it could close.
        self.scopes: Living[Scope] = Living()
        self.users: Living[Peaks] = Living()
        self.numbers = itertools.count()
        self.failures: dict[str, str] = {}
        self._pid = os.getpid()
        # Reentrant: a finaliser or signal handler may open a scope while its own thread is at a boundary.
        self._lock = threading.RLock()

    @property
    def inherited(self) -> bool:
        """Whether this is the copy in a forked child, whose files and lock belong to the parent."""
        return os.getpid() != self._pid

    def locked(self, action: Callable[[], T], otherwise: T) -> T:
        """Return ``action()`` under the lock; ``otherwise`` in a forked child or when it stays taken."""
        if self.inherited:
            return otherwise
        try:
            # Inside the try, so that an interrupt right after it cannot leave the lock held.
            return action() if self._lock.acquire(timeout=_LOCK_SECONDS) else otherwise
        finally:
            try:  # noqa: SIM105 - contextlib.suppress runs Python code, where an interrupt could come first
                self._lock.release()
            except RuntimeError:
                pass  # It was not acquired.

    def release(self) -> None:
        """Let go of what only open or coming scopes need, and they take again; called under the lock."""
        self.host.close()
        if not self.users and not self.scopes:
            self.torch.user.leave()

    def _before_user_reset(self) -> None:
        """Let the open scopes see the peaks that the user's own code is about to reset."""

        def turn() -> bool:
            self.torch_fold.turn()
            return True

        if not self.locked(turn, False):
            self.torch_fold.lose("the user's code reset the peaks while another thread looked at them")

    def sampling_failed(self, error: Exception) -> None:
        """Note why a peak could not be sampled; the window then says so in its source."""
        self.failures["sampler"] = f"{type(error).__name__}: {error}"


@functools.lru_cache(maxsize=1)
def marks_of(pid: int) -> Marks:
    """Return the marks of this process; ``pid`` gives a forked child its own."""
    return Marks()
