from __future__ import annotations

import numpy as np
import pytest
import torch

from titan_nb.memory.forecast import History
from titan_nb.records import DeviceMemory, MemoryUse

SOURCE = "y = model(x)\nloss = (y - target).sum()\n"


def use(peak_bytes: int) -> MemoryUse:
    memory = DeviceMemory(1 << 20, peak_bytes, 1 << 20, "exact", "test")
    return MemoryUse({"gpu:GPU-a": memory, "ram:x": memory})


def test_the_last_peak_of_the_same_source_and_shapes() -> None:
    history = History()
    namespace = {"x": torch.ones(3, 4), "target": np.ones(5), "model": object()}
    key = history.key(SOURCE, namespace)
    assert history.expect(key) is None
    history.remember(key, use(3 << 20))
    history.remember(key, use(5 << 20))
    assert history.expect(history.key(SOURCE, {**namespace, "x": torch.zeros(3, 4)})) == (
        "with inputs of these shapes this cell last took a peak of "
        "5.0 MiB on gpu:GPU-a (+4.0 MiB), 5.0 MiB on this host (+4.0 MiB)"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"x": torch.ones(3, 5)},
        {"x": torch.ones(3, 4, dtype=torch.float64)},
        {"x": torch.ones(3, 4, device="meta")},
        {"x": torch.nn.Parameter(torch.ones(4, 3))},
        {"x": 3},
        {"target": np.ones(6)},
    ],
)
def test_other_shapes_are_another_run(changed: dict[str, object]) -> None:
    history = History()
    namespace: dict[str, object] = {"x": torch.ones(3, 4), "target": np.ones(5)}
    history.remember(history.key(SOURCE, namespace), use(1))
    assert history.expect(history.key(SOURCE, {**namespace, **changed})) is None


def test_names_that_the_cell_binds_itself_do_not_count() -> None:
    history = History()
    namespace: dict[str, object] = {"x": torch.ones(3, 4), "target": np.ones(5)}
    key = history.key(SOURCE, namespace)
    assert history.key(SOURCE, {**namespace, "y": torch.ones(9), "loss": torch.ones(())}) == key
    assert history.key("x = x + 1", {"x": torch.ones(2)}) != history.key("x = x + 1", {"x": torch.ones(3)})


def test_objects_of_the_user_are_not_touched() -> None:
    class Hostile(torch.Tensor):
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(name)

        @property
        def __class__(self) -> type:  # type: ignore[override]
            raise AssertionError

    history = History()
    hostile = torch.Tensor._make_subclass(Hostile, torch.ones(3))
    assert history.key(SOURCE, {"x": hostile}) == history.key(SOURCE, {})


def test_it_keeps_no_objects() -> None:
    import gc
    import weakref

    history = History()
    x = torch.ones(3)
    gone = weakref.ref(x)
    history.remember(history.key("x + 1", {"x": x}), use(1))
    del x
    gc.collect()
    assert gone() is None


def test_it_is_bounded() -> None:
    history = History(limit=3)
    keys = [history.key(f"x + {number}", {"x": torch.ones(3)}) for number in range(5)]
    for key in keys[:3]:
        history.remember(key, use(1))
    assert history.expect(keys[0]) is not None, "asked for, and so the youngest"
    history.remember(keys[3], use(1))
    assert history.expect(keys[1]) is None
    assert history.expect(keys[0]) is not None
    assert len(history) == 3


@pytest.mark.parametrize("source", ["x = (", "\0", "%time x", "\ud800"])
def test_what_is_no_python_is_known_by_its_text_alone(source: str) -> None:
    history = History()
    key = history.key(source, {"x": torch.ones(3)})
    history.remember(key, use(1))
    assert history.expect(history.key(source, {})) is not None


def test_top_level_await() -> None:
    history = History()
    assert history.key("await x", {"x": torch.ones(3)}) != history.key("await x", {})
