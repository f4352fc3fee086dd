from __future__ import annotations

import os
from pathlib import Path

import pytest

from titan_nb.energy.cgroup import CpuLimits, cpu_limits


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="ascii")


class Groups:
    """A made-up /proc/self with the file systems that it names."""

    def __init__(self, folder: Path, groups: str, *mounts: str) -> None:
        self.proc, self.fs = folder / "proc", folder / "fs"
        write(self.proc / "cgroup", groups)
        write(self.proc / "mountinfo", "\n".join(mounts).replace("FS", str(self.fs)))

    def put(self, path: str, text: str) -> None:
        write(self.fs / path, text)

    def limits(self) -> CpuLimits:
        return cpu_limits(self.proc, cpus=64)


V2 = "30 23 0:26 / FS rw,nosuid shared:4 - cgroup2 cgroup2 rw"
V1_CPU = "33 25 0:29 {root} FS/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct"
V1_SET = "34 25 0:30 {root} FS/cpuset rw shared:9 - cgroup cgroup rw,cpuset"


def test_version_2(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/user.slice/job", V2)
    groups.put("user.slice/job/cpu.max", "150000 100000")
    groups.put("user.slice/job/cpuset.cpus.effective", "0-1,8,10-12")
    assert groups.limits() == CpuLimits(64, 6, 1.5)


def test_a_group_is_bound_by_those_above_it(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/slice/job", V2)
    groups.put("slice/job/cpu.max", "max 100000")
    groups.put("slice/cpu.max", "400000 100000")
    groups.put("cpuset.cpus.effective", "0-15")
    groups.put("slice/job/cpuset.cpus.effective", "")
    assert groups.limits() == CpuLimits(64, 16, 4.0)


def test_inside_a_container_of_its_own_the_group_is_the_root(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "0::/", V2)
    groups.put("cpu.max", "50000 100000")
    assert groups.limits() == CpuLimits(64, 64, 0.5)


@pytest.mark.parametrize("root", ["/", "/docker/1a2b", "/elsewhere"])
def test_version_1_whatever_the_mount_shows(tmp_path: Path, root: str) -> None:
    lines = (V1_CPU.format(root=root), V1_SET.format(root=root))
    groups = Groups(tmp_path, "5:cpuset:/docker/1a2b\n4:cpu,cpuacct:/docker/1a2b\n0::/", *lines)
    place = "/docker/1a2b" if root == "/" else ""
    groups.put(f"cpu{place}/cpu.cfs_quota_us", "200000")
    groups.put(f"cpu{place}/cpu.cfs_period_us", "100000")
    groups.put(f"cpuset{place}/cpuset.cpus", "4-7")
    assert groups.limits() == CpuLimits(64, 4, 2.0)


def test_no_quota_is_minus_one_in_version_1(tmp_path: Path) -> None:
    groups = Groups(tmp_path, "4:cpu,cpuacct:/", V1_CPU.format(root="/"))
    groups.put("cpu/cpu.cfs_quota_us", "-1")
    groups.put("cpu/cpu.cfs_period_us", "100000")
    assert groups.limits() == CpuLimits(64, 64, None)


@pytest.mark.parametrize("text", ["", "max", "garbage 7", "100000 0", "1"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    groups = Groups(tmp_path, "0::/", V2, "short line", "1 2 3 4 5 rw -")
    groups.put("cpu.max", text)
    groups.put("cpuset.cpus.effective", "0-x")
    assert groups.limits() == CpuLimits(64, 64, None)


def test_without_control_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    assert cpu_limits(tmp_path / "none") == CpuLimits(os.cpu_count() or 1, os.cpu_count() or 1, None)


def test_this_process_may_use_at_least_one_cpu_of_the_machine() -> None:
    limits = cpu_limits()
    assert 1 <= limits.allowed_cpus <= limits.machine_cpus


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (CpuLimits(8, 8), ""),
        (CpuLimits(8, 8, 8.0), ""),
        (CpuLimits(64, 4), "limited to 4 of 64 CPUs"),
        (CpuLimits(64, 64, 1.5), "limited to the time of 1.5 CPUs"),
        (CpuLimits(64, 4, 1.5), "limited to 4 of 64 CPUs and the time of 1.5 CPUs"),
    ],
)
def test_in_words(limits: CpuLimits, text: str) -> None:
    assert str(limits) == text
