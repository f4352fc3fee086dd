"""What keeps a forked child from reaching anything that it shares with its parent.

A fork copies memory, but it shares open files, sockets, and memory that was mapped to be shared. All of that
is cut off here, by the operating system where it can: code in C is not seen by Python's own hooks.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

__all__ = ["cut_off"]

_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 1, 38  # prctl, linux/prctl.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # landlock's system calls, on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE = 1 << 0, 1 << 1
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14  # since version 2 and 3
_ALL_TCP = 0b11  # bind and connect, since version 4
_ALL_SCOPES = 0b11  # abstract sockets and signals, since version 6


def cut_off(keep: int) -> None:
    """Cut this process off from what it inherited, all but the descriptor ``keep``."""
    import resource

    _let_signals_be()
    _close_files(keep)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the kernel would write one past all that follows
    if sys.platform.startswith("linux"):
        _die_before_the_parent()
        _cut_shared_memory()
        _forbid_writes()


def _let_signals_be() -> None:
    # The event loop's descriptor for signals is shared with the parent, and Ctrl-C is the parent's.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _close_files(keep: int) -> None:
    """Close all files, also a log that the user has open for writing and his connection to a server."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.closerange(3, keep)
    os.closerange(keep + 1, _highest_descriptor() + 1)


def _highest_descriptor() -> int:
    try:
        return max(int(entry.name) for entry in Path("/dev/fd").iterdir())
    except (OSError, ValueError):
        return 4096


def _die_before_the_parent() -> None:
    """End with the parent, and be the one that the kernel picks when the machine's memory runs out."""
    _c_library().prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _cut_shared_memory() -> None:
    """Make memory read-only that is shared with others: a write ends the child, and nobody else sees it.

    Semaphores become private instead, because progress bars take one at every step.
    """
    libc = _c_library()
    libc.mmap.restype = ctypes.c_void_p
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, *_ = line.split()
        if rights != "rw-s":
            continue
        start, end = (int(address, 16) for address in addresses.split("-"))
        place, size = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
        if "/dev/shm/sem." not in line:  # noqa: S108 - a name in a list, not a file of ours
            libc.mprotect(place, size, 1)
            continue
        content = ctypes.string_at(start, end - start)
        private_anonymous_fixed = 0x32
        if libc.mmap(place, size, 3, private_anonymous_fixed, -1, ctypes.c_long(0)) == start:
            ctypes.memmove(start, content, len(content))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # what Python 3.14 wants said of a packed structure
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def _forbid_writes() -> None:
    """Ask the kernel to refuse files opened for writing, programs, and network; older ones cannot."""
    libc = _c_library()
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    if version < 1:
        return
    rules = _Ruleset(files=_EXECUTE | _WRITE_FILE | _REMOVE_AND_MAKE)
    rules.files |= (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rules.net = _ALL_TCP if version >= 4 else 0
    rules.scoped = _ALL_SCOPES if version >= 6 else 0
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return
    nothing = os.open(os.devnull, os.O_RDONLY)
    rule = _PathRule(allowed=_WRITE_FILE, descriptor=nothing)
    libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    libc.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(nothing)
    os.close(ruleset)


def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
