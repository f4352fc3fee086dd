"""How near this process is to the memory limit of its container, by Linux's control groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from titan_nb.control_groups import control_groups, lines_of
from titan_nb.units import byte_size

__all__ = ["Container", "ContainerWatch", "container"]

_PROC = Path("/proc/self")
_ENDLESS = 1 << 60
"""Version 1 writes the largest number of pages there is where there is no limit."""

_CALM = 0.05
"""How far below the warning's fraction the use must fall before a new rise is one."""


@dataclass(frozen=True, slots=True)
class Container:
    """The memory limit that is nearest for this process.

    Attributes:
        limit_bytes: What the group may hold.
        used_bytes: What it holds, without the file cache that the kernel gives back first.
        oom_kills: How many processes of it the kernel has killed for it; None where it does not tell.
        source: The file with the limit.
    """

    limit_bytes: int
    used_bytes: int
    oom_kills: int | None
    source: str


def container(proc: Path = _PROC) -> Container | None:
    """Return the limit with the least room left, of this process's group and those above; None without one.

    Both layouts are read: version 2 (``memory.max``, ``memory.current``, ``memory.events``) and version 1
    (``memory.limit_in_bytes``, ``memory.usage_in_bytes``, ``memory.oom_control``).
    Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.

    Args:
        proc: Where Linux tells about this process.
    """
    found = [one for group in control_groups(("memory",), proc) if (one := _limit(group)) is not None]
    return min(found, key=lambda one: one.limit_bytes - one.used_bytes, default=None)


class ContainerWatch:
    """Warns before the kernel of the operating system ends this process for its container's limit.

    Args:
        proc: Where Linux tells about this process.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._said = False
        self._kills: int | None = None

    def warning(self, fraction: float = 0.9) -> str | None:
        """Return one line when the use has risen above ``fraction`` of the limit, or processes were killed.

        Each rise is told once; what was killed before the first call is not told.
        """
        now = container(self._proc)
        if now is None:
            return None
        rose = self._rose(now.used_bytes / max(1, now.limit_bytes), fraction)
        killed = self._killed(now)
        line = f"container limit {byte_size(now.limit_bytes)}"
        if rose:
            line += f", {byte_size(now.used_bytes)} used: the kernel is killed when it is passed"
        if killed:
            processes = "1 process" if killed == 1 else f"{killed} processes"
            line += f"{';' if rose else ':'} the system has killed {processes} for it"
        return line if rose or killed else None

    def _rose(self, used: float, fraction: float) -> bool:
        if used < fraction - _CALM:
            self._said = False
        rose = used >= fraction and not self._said
        self._said = self._said or rose
        return rose

    def _killed(self, now: Container) -> int:
        before, self._kills = self._kills, now.oom_kills
        return 0 if before is None or now.oom_kills is None else max(0, now.oom_kills - before)


def _limit(group: Path) -> Container | None:
    for limit, usage, cache, events in (
        ("memory.max", "memory.current", "inactive_file", "memory.events"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "memory.oom_control"),
    ):
        limit_bytes, used_bytes = _number(group / limit), _number(group / usage)
        if limit_bytes is None or used_bytes is None or limit_bytes >= _ENDLESS:
            continue
        cached_bytes = _field(group / "memory.stat", cache) or 0
        oom_kills = _field(group / events, "oom_kill")
        return Container(limit_bytes, max(0, used_bytes - cached_bytes), oom_kills, str(group / limit))
    return None


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, as with ``max``."""
    text = "".join(lines_of(path)[:1]).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _field(path: Path, name: str) -> int | None:
    """Return the number after ``name`` in a file of names and numbers."""
    for line in lines_of(path):
        found, _, number = line.partition(" ")
        if found == name and number.isascii() and number.isdigit():
            return int(number)
    return None
