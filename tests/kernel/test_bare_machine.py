"""No GPU, no RAPL, no network, nothing that could be written: titan works, and says what it cannot know.

The session runs in a terminal shell of a process of its own, as an unprivileged user. It proves first that a
plain write fails in its home and in its folder, and that its guard sees a socket that is opened.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BARE = Path(__file__).parent / "inside" / "bare.py"
ROOT = Path(__file__).parents[2]
CASES = ("as it is", "CUDA_VISIBLE_DEVICES empty", "no HOME", "deleted folder")


def _session(case: str, place: Path) -> dict[str, Any]:
    home, folder = place / "home", place / "folder"
    for closed in (home, folder):
        closed.mkdir()
        closed.chmod(0o555)
    # pytest makes the folders above for its own user only.
    for above in (place, *place.parents):
        if above.stat().st_uid == os.getuid() and above != Path(above.anchor):
            above.chmod(above.stat().st_mode | 0o011)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT),
    }
    if case == "CUDA_VISIBLE_DEVICES empty" or Path("/dev/nvidiactl").exists():
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if case == "no HOME":
        del environment["HOME"]
    answer = subprocess.run(
        [sys.executable, BARE, case, home, folder],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    left = ["home"] if case == "deleted folder" else ["folder", "home"]
    assert sorted(path.name for path in place.rglob("*")) == left
    return found


@pytest.mark.parametrize("case", CASES)
def test_on_a_bare_machine(case: str, tmp_path: Path) -> None:
    found = _session(case, tmp_path)
    assert found["refusals"] == {"home": True, "cwd": True, "uid": os.getuid() or 65_534}
    assert found["guard_saw"] >= 1, "the guard is blind"

    assert all(found["ran"].values()), found["ran"]
    assert (found["total"], found["kept"]) == (sum(range(100_000)), [1, 2, 3])
    assert not found["events"], "written, sent or started:\n" + "\n".join(found["events"])

    printed = found["printed"]
    assert printed["load"] == printed["on"] == printed["always"] == ""
    print(f"{case}: uid {found['refusals']['uid']}, {len(found['events'])} files, sockets or processes")
    print(printed["tracked"].strip(), printed["status"].strip(), sep="\n")

    assert "gpu" not in found["energy"]
    assert all(grade in ("modelled", "unknown") for _, grade in found["energy"].values()), (
        "there is no counter"
    )
    assert "CO2e unknown" in printed["tracked"]
    assert found["carbon"] is None
    assert any("no zone" in note for note in found["notes"])
    assert "CPU package: not measured" in printed["status"]
    assert "NVIDIA GPU: not measured" in printed["status"]
    assert "DE" in printed["zone"], "a zone that the user gives is looked up in the tables that ship"
