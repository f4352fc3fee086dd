"""A notebook session on a machine that gives nothing; run as a program, it prints what it saw as JSON.

Usage: ``python bare.py CASE HOME FOLDER``, as root or as the user who shall find both folders closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

NOBODY = 65_534
PR_SET_KEEPCAPS, PR_SET_DUMPABLE = 8, 4
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_READ_SEARCH = 1 << 2
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OWN_PROC = ("/proc/self/clear_refs",)  # titan's reset of this process's own high-water mark: no file
CHANGES = (
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
)
STARTS = ("subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.system", "os.spawn")


def become_nobody() -> None:
    """Give up root for good; keep only the right to read, for Python itself may lie in root's home."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(CAP_DAC_READ_SEARCH, CAP_DAC_READ_SEARCH, 0, 0, 0, 0)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")
    # As after a normal login: else /proc/self would belong to root.
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def remover(folder: str) -> Callable[[bool], None]:
    """Return what deletes ``folder``, or lets it be, through a process that may still do so afterwards."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.read(reader, 1) == b"y":
            Path(folder).rmdir()
        os._exit(0)

    def delete(really: bool) -> None:
        os.write(writer, b"y" if really else b"n")
        if os.waitpid(child, 0)[1]:
            raise OSError(f"{folder} could not be deleted")

    return delete


class Guard:
    """Takes down every file that is opened for writing, every change of a folder, socket and new process."""

    def __init__(self) -> None:
        self.on = False
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = args
            writes = (isinstance(flags, int) and flags & WRITING) or any(c in str(mode or "") for c in "wax+")
            if writes and path not in OWN_PROC:
                self.events.append(f"open {path!r} {mode!r} {flags!r}")
        elif event.startswith("socket.") or event in CHANGES or event in STARTS:
            self.events.append(f"{event} {args!r:.200}")


def refused(folder: str) -> bool:
    """Return whether a plain write into ``folder`` fails."""
    try:
        (Path(folder) / "probe").write_text("probe")
    except OSError:
        return True
    return False


def without_rapl(folder: Path) -> None:
    """Have titan look for RAPL counters where there are none, should this machine have them."""
    from titan_nb.energy import discover
    from titan_nb.energy.sensors.rapl import rapl_sensors

    discover.rapl_sensors = lambda: rapl_sensors(root=folder)


def main(case: str, home: str, folder: str) -> dict[str, Any]:
    """Run the session; return what it saw."""
    os.chdir(folder)
    delete = remover(folder)
    if os.getuid() == 0:
        become_nobody()
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(colors="NoColor")
    ran = {"plain": shell.run_cell("kept = [1]\nkept").success}
    without_rapl(Path(home))
    delete(case == "deleted folder")
    refusals = {"home": refused(home), "cwd": refused("."), "uid": os.getuid()}
    guard = Guard()
    with contextlib.suppress(OSError), socket.socket() as probe:
        guard.on = True
        probe.connect(("127.0.0.1", 1))
    seen, guard.events = len(guard.events), []
    printed = {}
    for name, cell in {
        "load": "%load_ext titan_nb",
        "tracked": "%%titan -o r\ntotal = sum(range(100_000))\ntotal",
        "line": "%titan track\nkept.append(2)",
        "on": "%titan on",
        "always": "kept.append(3)",
        "status": "%titan status",
        "report": "%titan report",
        "zone": "%%titan --zone DE\n1 + 1",
    }.items():
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
        ):
            ran[name] = shell.run_cell(cell).success
        printed[name] = out.getvalue() + err.getvalue()
    shell.user_ns["r"].to_dict()
    guard.on = False
    report = shell.user_ns["r"]
    return {
        "refusals": refusals,
        "guard_saw": seen,
        "events": guard.events,
        "ran": ran,
        "printed": printed,
        "kept": shell.user_ns["kept"],
        "total": shell.user_ns["total"],
        "energy": {key.split(":")[0]: (part.joules, part.grade) for key, part in report.energy.items()},
        "carbon": report.carbon,
        "notes": report.notes,
    }


if __name__ == "__main__":
    print("\n" + json.dumps(main(*sys.argv[1:])))
