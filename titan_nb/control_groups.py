"""Where Linux's control groups tell the limits of this process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

__all__ = ["control_groups", "lines_of"]


def control_groups(controllers: Collection[str], proc: Path = Path("/proc/self")) -> Iterator[Path]:
    """Yield the folders of the groups of this process, and of those above it, that can be seen here.

    A group is bound by the groups above it as well. Both layouts are found; which of them limits what is
    told by the files in a folder.
    Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/cgroups.rst.

    Args:
        controllers: Controllers of version 1, such as ``cpu`` or ``memory``; version 2 has one tree for all.
        proc: Where Linux tells about this process.
    """
    places = dict(_places(lines_of(proc / "cgroup")))
    for mounted, root, mount in _mounts(lines_of(proc / "mountinfo"), frozenset(controllers)):
        for controller in mounted & places.keys():
            place = places[controller]
            # In a container the file system may begin at its own group, whose full path is told all the same.
            inside = place.removeprefix(root.rstrip("/")).strip("/")
            folder = mount / inside if place.startswith(root) else mount
            while folder != mount and mount in folder.parents:
                yield folder
                folder = folder.parent
            yield mount


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file; none where there is no such file, or it is not shown to this container."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _places(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (controller, path of the group); the controller is empty for version 2."""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        for controller in controllers.split(","):
            yield controller, place


def _mounts(lines: Iterable[str], wanted: frozenset[str]) -> Iterator[tuple[set[str], str, Path]]:
    """Yield (controllers, root of the mount, where it is); the controller is empty for version 2."""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind:
            continue
        if kind[0] == "cgroup2":
            yield {""}, fields[3], Path(fields[4])
        elif kind[0] == "cgroup":
            yield set(kind[-1].split(",")) & wanted, fields[3], Path(fields[4])
