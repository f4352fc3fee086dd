"""`%titan free`: what goes, what stays, and what is said of it."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from tests.unit.memory.blocks import Block, Device
from tests.unit.notebook.gpus import counting_gpu
from titan_nb.notebook import free as module
from titan_nb.notebook.free import free
from titan_nb.notebook.reclaim import FailedCells

MIB = 1 << 20


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return counting_gpu(monkeypatch)


@pytest.fixture
def session(shell: InteractiveShell, device: Device) -> Any:
    shell.user_ns.update(Block=Block, device=device)
    for body in ("a = Block(device, 10 << 20)", "b = Block(device, 20 << 20)\nb", "Block(device, 5 << 20)"):
        assert shell.run_cell(body, store_history=True).success
    return SimpleNamespace(shell=shell, relief=SimpleNamespace(failed_cells=FailedCells(shell)))


def options(*names: str, **flags: bool) -> Any:
    return SimpleNamespace(
        names=list(names), **{"out": False, "failed": False, "cache": False, "all": False, **flags}
    )


def test_variables_and_the_outputs_that_are_the_same_object(
    session: Any, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    free(session, options("b", "a", "b"))
    assert device.used[0] == 5 * MIB
    assert device.reserved[0] == 35 * MIB
    assert not {"a", "b"} & session.shell.user_ns.keys()
    assert capsys.readouterr().out == "freed 30.0 MiB on GPU 0; still in use: 5.0 MiB on GPU 0\n"


def test_a_variable_that_has_another_name(
    session: Any, device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    session.shell.run_cell("other = a")
    free(session, options("a"), lambda: [("b", 20 * MIB), ("other", 10 * MIB)])
    assert device.used[0] == 35 * MIB
    assert capsys.readouterr().out == (
        "nothing was freed; still in use: 35.0 MiB on GPU 0 (`b` 20.0 MiB, `other` 10.0 MiB); "
        "`other` is the same object, and stays\n"
    )


def test_small_values_that_many_names_share_are_not_talked_of(
    session: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    session.shell.run_cell("one = two = None\nthree = four = ''")
    free(session, options("one", "three"))
    assert capsys.readouterr().out == "nothing was freed; still in use: 35.0 MiB on GPU 0\n"
    assert {"two", "four"} <= session.shell.user_ns.keys()


def test_outputs(session: Any, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    free(session, options(out=True))
    assert device.used[0] == 30 * MIB
    assert not session.shell.user_ns["Out"]
    assert capsys.readouterr().out.startswith("freed 5.0 MiB on GPU 0; still in use: 30.0 MiB")


def test_failed_cells(session: Any, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    session.shell.run_cell("def fail():\n    held = Block(device, 7 << 20)\n    1 / 0\nfail()")
    assert device.used[0] == 42 * MIB
    capsys.readouterr()
    free(session, options(failed=True))
    assert device.used[0] == 35 * MIB
    assert device.reserved[0] == 42 * MIB
    assert capsys.readouterr().out.startswith("freed 7.0 MiB on GPU 0; ")


def test_caches(session: Any, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    device.reserved[0] = 100 * MIB
    free(session, options(cache=True))
    assert device.reserved[0] == device.used[0] == 35 * MIB
    line = "gave 65.0 MiB of GPU 0 back to the driver; still in use: 35.0 MiB on GPU 0\n"
    assert capsys.readouterr().out == line


def test_all_of_it_but_no_variables(session: Any, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    session.shell.run_cell("def fail():\n    held = Block(device, 7 << 20)\n    1 / 0\nfail()")
    capsys.readouterr()
    free(session, options(all=True))
    assert device.used[0] == device.reserved[0] == 30 * MIB
    assert {"a", "b"} <= session.shell.user_ns.keys()
    assert capsys.readouterr().out == (
        "freed 12.0 MiB on GPU 0; gave 12.0 MiB of GPU 0 back to the driver; "
        "still in use: 30.0 MiB on GPU 0\n"
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "bb"), "there is no variable bb .did you mean b.*nothing was freed"),
        (("a", "weights"), "there is no variable weights; nothing was freed"),
        (("a", "In"), "In is IPython's own"),
        (("a", "_"), "_ is an output"),
        (("a", "_2"), "_2 is an output"),
        (("a", "Out"), "Out is an output"),
        (("a", "Out[2]"), r"Out\[2\] is an output.*free --out"),
        ((), "say what to free"),
    ],
)
def test_what_cannot_be_freed_frees_nothing(
    session: Any, device: Device, names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        free(session, options(*names))
    assert device.used[0] == 35 * MIB
    assert "a" in session.shell.user_ns


def test_the_traceback_of_a_refusal_keeps_no_variable_alive(session: Any, device: Device) -> None:
    with pytest.raises(UsageError) as kept:
        free(session, options("nobody"))
    free(session, options("a"))
    assert device.used[0] == 25 * MIB
    assert kept.value.__traceback__ is not None


def test_an_underscore_of_the_users_own_is_a_variable(session: Any, device: Device) -> None:
    session.shell.run_cell("_ = Block(device, 3 << 20)")
    free(session, options("_"))
    assert device.used[0] == 35 * MIB
    assert "_" not in session.shell.user_ns


def test_an_interrupt_comes_when_all_is_done(
    session: Any, device: Device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        forget(*args)

    forget = module.forget_outputs
    monkeypatch.setattr(module, "forget_outputs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        free(session, options("b", out=True))
    assert device.used[0] == 10 * MIB
    assert "freed 25.0 MiB" in capsys.readouterr().out
