from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from titan_nb.errors import SettingsError
from titan_nb.memory import autocast
from titan_nb.memory.accelerator import Accelerator
from titan_nb.memory.autocast import enter


def state() -> tuple[object, ...]:
    nesting = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_autocast_cache_enabled(),
        nesting,
    )


@pytest.fixture(autouse=True)
def state_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(autocast, "accelerator", lambda: None)
    before = state()
    yield
    assert state() == before


def product() -> torch.dtype:
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(("kind", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_entered_and_left(kind: Any, dtype: torch.dtype) -> None:
    drawn = torch.get_rng_state()
    entered = enter(kind, awaits=False)
    assert entered.text == f"autocast to {kind} on cpu, as no GPU was in use when the cell began"
    assert product() == dtype
    entered.leave()
    assert product() == torch.float32
    entered.leave()
    assert torch.equal(torch.get_rng_state(), drawn)


def test_the_cells_own_autocast_inside() -> None:
    entered = enter("bf16", awaits=False)
    with torch.autocast("cpu", dtype=torch.float16):
        assert product() == torch.float16
    assert product() == torch.bfloat16
    entered.leave()


def test_an_autocast_that_the_cell_did_not_leave() -> None:
    entered = enter("bf16", awaits=False)
    own = torch.autocast("cpu", dtype=torch.float16, cache_enabled=False)
    own.__enter__()
    entered.leave()
    assert product() == torch.float32
    assert state()[:3] == (False, torch.bfloat16, True)
    torch.autocast_decrement_nesting()  # what a plain cell leaves behind as well


def test_a_cell_that_switched_it_off() -> None:
    entered = enter("bf16", awaits=False)
    torch.set_autocast_enabled("cpu", False)
    torch.set_autocast_cache_enabled(False)
    entered.leave()


def test_inside_an_autocast_of_an_earlier_cell() -> None:
    with torch.autocast("cpu", dtype=torch.float16):
        enter("bf16", awaits=False).leave()
        assert product() == torch.float16


def test_weights_that_were_cast_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cleared: list[int] = []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: cleared.append(1))
    with torch.autocast("cpu", dtype=torch.float16):
        entered = enter("bf16", awaits=False)
        assert cleared == []
        entered.leave()
        assert cleared == [1]


def test_another_thread_cannot_leave_it() -> None:
    entered = enter("bf16", awaits=False)
    thread = threading.Thread(target=entered.leave)
    thread.start()
    thread.join(60)
    assert product() == torch.bfloat16
    entered.leave()
    assert product() == torch.float32


def test_a_cell_that_awaits_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"a cell that awaits: other tasks.*use `with torch.autocast"):
        enter("bf16", awaits=True)


def test_no_such_kind() -> None:
    with pytest.raises(SettingsError, match="autocast is 'int8': give one of bf16, fp16"):
        enter("int8", awaits=False)  # type: ignore[arg-type]


def test_the_gpu_in_use_is_chosen_and_what_it_has_not_got_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []

    class Context:
        def __enter__(self) -> None:
            chosen.append("entered")

    def autocast_of(device: str, dtype: object) -> Context:
        chosen.append(device)
        if dtype == torch.bfloat16:
            raise RuntimeError("Current CUDA Device does not\nsupport bfloat16.")
        return Context()

    monkeypatch.setattr(autocast, "accelerator", lambda: Accelerator("cuda", None))
    monkeypatch.setattr(torch, "autocast", autocast_of)
    assert enter("fp16", awaits=False).text == "autocast to fp16 on cuda"
    assert chosen == ["cuda", "entered"]
    with pytest.raises(
        SettingsError, match=r"autocast to bf16 is not possible on cuda: Current CUDA Device does not support"
    ):
        enter("bf16", awaits=False)
    assert chosen == ["cuda", "entered", "cuda"]


def test_a_device_on_which_torch_would_only_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch warns and goes on in full precision, which is not what was asked for."""
    monkeypatch.setattr(autocast, "accelerator", lambda: Accelerator("cuda", None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="not possible on cuda: CUDA is not available"):
        enter("fp16", awaits=False)


def test_switched_off_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    class Off:
        _enabled = False

    monkeypatch.setattr(torch, "autocast", lambda *a, **k: Off())
    with pytest.raises(SettingsError, match="torch has switched it off"):
        enter("bf16", awaits=False)


def test_torch_is_imported_for_it_and_may_be_missing() -> None:
    code = """
import sys
from titan_nb.memory import autocast
assert "torch" not in sys.modules
sys.modules["torch"] = None
try:
    autocast.enter("bf16", awaits=False)
except autocast.SettingsError as error:
    print(str(error)[:46])
del sys.modules["torch"]
entered = autocast.enter("bf16", awaits=False)
print("torch" in sys.modules)
entered.leave()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "autocast needs torch, which cannot be imported\nTrue\n"
