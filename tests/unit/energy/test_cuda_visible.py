from __future__ import annotations

import pytest

from titan_nb.energy.cuda_visible import Visible, visible_devices

UUIDS = ["GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3"]
ALL = (0, 1, 2)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        (None, ALL),
        ("", ()),
        ("-1", ()),
        ("0,-1,1", (0,)),
        ("2,0", (2, 0)),
        (" 1 , 2 ", (1, 2)),
        ("0,7,1", (0,)),
        ("0,one,1", (0,)),
        ("0,,1", (0,)),
        ("1,1", ()),
        ("GPU-cccc-3", (2,)),
        ("GPU-c,0", (2, 0)),
        ("GPU-aa", ()),
        ("GPU-zz,0", ()),
        ("NoDevFiles", ()),
    ],
)
def test_full_devices(setting: str | None, shown: tuple[int, ...]) -> None:
    assert visible_devices(setting, UUIDS, lambda _: None) == tuple(Visible(index) for index in shown)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("MIG-x", (Visible(1, True),)),
        ("MIG-x,MIG-y", (Visible(1, True),)),
        ("MIG-x,MIG-z", (Visible(1, True), Visible(2, True))),
        ("MIG-GPU-cccc-3/1/0", (Visible(2, True),)),
        ("MIG-none", ()),
        ("MIG-x,1", ()),
        ("1,MIG-x", ()),
    ],
)
def test_mig_instances_stand_for_the_device_they_are_part_of(
    setting: str, shown: tuple[Visible, ...]
) -> None:
    parents = {"MIG-x": UUIDS[1], "MIG-y": UUIDS[1], "MIG-z": UUIDS[2]}
    assert visible_devices(setting, UUIDS, parents.get) == shown
