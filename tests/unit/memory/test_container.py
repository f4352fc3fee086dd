from __future__ import annotations

from pathlib import Path

import pytest

from titan_nb.memory.container import Container, ContainerWatch, container

GB = 1 << 30
V2 = "30 23 0:26 / FS rw,nosuid shared:4 - cgroup2 cgroup2 rw"
V1 = "33 25 0:29 {root} FS/memory rw shared:9 - cgroup cgroup rw,memory"
ENDLESS = 9223372036854771712


class Tree:
    """A made-up /proc/self with the file systems that it names."""

    def __init__(self, folder: Path, groups: str, *mounts: str) -> None:
        self.proc, self.fs = folder / "proc", folder / "fs"
        self._write(self.proc / "cgroup", groups)
        self._write(self.proc / "mountinfo", "\n".join(mounts).replace("FS", str(self.fs)))

    def v2(self, place: str, limit: object, used: int, cache: int = 0, kills: int = 0) -> None:
        folder = self.fs / place
        self._write(folder / "memory.max", str(limit))
        self._write(folder / "memory.current", str(used))
        self._write(folder / "memory.stat", f"anon 1\nactive_file 7\ninactive_file {cache}")
        self._write(
            folder / "memory.events", f"low 0\nhigh 3\nmax 9\noom 2\noom_kill {kills}\noom_group_kill 0"
        )

    def v1(self, place: str, limit: int, used: int, cache: int = 0) -> None:
        folder = self.fs / place
        self._write(folder / "memory.limit_in_bytes", str(limit))
        self._write(folder / "memory.usage_in_bytes", str(used))
        self._write(folder / "memory.stat", f"cache 5\ninactive_file 1\ntotal_inactive_file {cache}")
        self._write(folder / "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4")

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")


def test_version_2(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/user.slice/job", V2)
    tree.v2("user.slice/job", 8 * GB, 7 * GB, cache=GB, kills=2)
    assert container(tree.proc) == Container(8 * GB, 6 * GB, 2, str(tree.fs / "user.slice/job/memory.max"))


def test_the_group_with_the_least_room_counts(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/slice/job", V2)
    tree.v2("slice/job", 8 * GB, 2 * GB)
    tree.v2("slice", 16 * GB, 15 * GB)
    assert container(tree.proc) == Container(16 * GB, 15 * GB, 0, str(tree.fs / "slice/memory.max"))
    tree.v2("slice/job", 3 * GB, 5 * GB // 2)
    found = container(tree.proc)
    assert found is not None
    assert found.limit_bytes == 3 * GB


def test_without_a_limit(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/job", V2)
    assert container(tree.proc) is None
    tree.v2("job", "max", GB)
    assert container(tree.proc) is None
    assert container(tmp_path / "nowhere") is None
    assert ContainerWatch(tree.proc).warning() is None


@pytest.mark.parametrize("root", ["/", "/docker/1a2b", "/elsewhere"])
def test_version_1_whatever_the_mount_shows(tmp_path: Path, root: str) -> None:
    tree = Tree(tmp_path, "5:cpuset:/\n4:memory:/docker/1a2b\n0::/", V1.format(root=root))
    place = "memory/docker/1a2b" if root == "/" else "memory"
    tree.v1(place, 4 * GB, 3 * GB, cache=GB)
    if root == "/":
        tree.v1("memory", ENDLESS, 60 * GB)
    assert container(tree.proc) == Container(
        4 * GB, 2 * GB, 4, str(tree.fs / place / "memory.limit_in_bytes")
    )


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "4:memory:/", V1.format(root="/"))
    tree.v1("memory", ENDLESS, GB)
    assert container(tree.proc) is None


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/job", V2)
    tree.v2("job", 8 * GB, GB)
    for name in ("memory.stat", "memory.events"):
        (tree.fs / "job" / name).write_text("inactive_file much\noom_kill\n\noom_killer 3")
    assert container(tree.proc) == Container(8 * GB, GB, None, str(tree.fs / "job/memory.max"))
    (tree.fs / "job/memory.current").write_text("")
    assert container(tree.proc) is None


def test_this_machine() -> None:
    found = container()
    assert found is None or 0 <= found.used_bytes <= found.limit_bytes


def test_one_warning_for_each_rise(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/job", V2)
    watch = ContainerWatch(tree.proc)
    told = []
    for tenths_of_gb in (10, 73, 79, 71, 73, 60, 74, 74):
        tree.v2("job", 8 * GB, tenths_of_gb * GB // 10)
        told.append(watch.warning())
    line = "container limit 8.0 GiB, {} GiB used: the kernel is killed when it is passed"
    assert told == [None, line.format("7.3"), *[None] * 4, line.format("7.4"), None]
    tree.v2("job", 8 * GB, 5 * GB)
    assert ContainerWatch(tree.proc).warning(0.6) == line.format("5.0")


def test_killed_processes_are_told_once(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/job", V2)
    watch = ContainerWatch(tree.proc)
    told = []
    for kills in (3, 3, 4, 4, 6, 0):
        tree.v2("job", 8 * GB, GB, kills=kills)
        told.append(watch.warning())
    line = "container limit 8.0 GiB: the system has killed {} for it"
    assert told == [None, None, line.format("1 process"), None, line.format("2 processes"), None]


def test_a_kill_does_not_hide_the_rise(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "0::/job", V2)
    watch = ContainerWatch(tree.proc)
    tree.v2("job", 8 * GB, GB)
    watch.warning()
    tree.v2("job", 8 * GB, 15 * GB // 2, kills=1)
    told = watch.warning()
    assert told is not None
    assert "has killed 1 process for it" in told
    assert "7.5 GiB used" in told
