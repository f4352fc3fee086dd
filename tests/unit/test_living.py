from __future__ import annotations

import gc

from titan_nb.living import Living


class Thing:
    pass


def test_members_stay_as_long_as_they_live() -> None:
    living: Living[Thing] = Living()
    one, two = Thing(), Thing()
    living.add(one)
    living.add(two)
    living.add(one)
    assert sorted(map(id, living)) == sorted((id(one), id(two)))
    assert one in living
    del two
    gc.collect()
    assert list(living) == [one]
    living.discard(Thing())
    living.discard(one)
    assert not living
    living.discard(one)


def test_cleared_it_is_empty() -> None:
    living: Living[Thing] = Living()
    thing = Thing()
    living.add(thing)
    assert living
    living.clear()
    assert not living
