"""The private folder of this process for spilled bytes, and those that killed processes left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from titan_nb import host

__all__ = ["private_folder"]

_PREFIX = "titan-spill-"
_IN_MEMORY = frozenset({"tmpfs", "ramfs", "hugetlbfs"})

_made: tuple[int, Path] | None = None


def private_folder() -> Path:
    """Return the folder, making it where needed; it and all in it go when this process ends.

    Raises:
        OSError: If there is no temporary folder on a disk, or it cannot be written.
    """
    global _made
    if _made is None or _made[0] != os.getpid() or not _made[1].is_dir():
        place = _place()
        _remove_abandoned(place)
        made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_owner()}-", dir=place))
        atexit.register(_remove, os.getpid(), made)
        _made = os.getpid(), made
    return _made[1]


def _place() -> Path:
    """Return the first temporary folder that is not itself in memory, where moving would gain nothing."""
    wanted = tempfile.gettempdir()
    for folder in (wanted, "/var/tmp"):  # noqa: S108 - the system's own place for large temporary files
        if os.access(folder, os.W_OK) and _file_system(folder) not in _IN_MEMORY:
            return Path(folder)
    raise OSError(f"the temporary folder {wanted} is itself in memory; set TMPDIR to a folder on a disk")


def _file_system(folder: str) -> str:
    import psutil

    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    path = Path(folder).resolve()
    return next((mounts[str(one)] for one in (path, *path.parents) if str(one) in mounts), "")


def _owner() -> str:
    """Name this process and the machine on which its number means something, for the name of a folder."""
    try:
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        numbers = 0
    boot, pid, start = host.process_id().split(":")
    return f"{boot}-{numbers}-{pid}-{start}"


def _remove_abandoned(place: Path) -> None:
    """Remove the folders of processes of this machine that were killed and could not do so themselves."""
    machine, _, _ = _owner().rsplit("-", 2)
    for folder in place.glob(f"{_PREFIX}{machine}-*"):
        with contextlib.suppress(OSError, ValueError):
            pid, start = folder.name[len(_PREFIX) + len(machine) + 1 :].split("-")[:2]
            if start != "0" and folder.stat().st_uid == os.getuid() and not _lives(int(pid), start):
                shutil.rmtree(folder)


def _lives(pid: int, start: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[19] == start


def _remove(pid: int, folder: Path) -> None:
    if os.getpid() == pid:  # a forked child ends too, and the folder is not its own
        shutil.rmtree(folder, ignore_errors=True)
