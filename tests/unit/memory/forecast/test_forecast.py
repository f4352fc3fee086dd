"""The whole of it: a forked child follows a cell, and nothing of this process changes."""

from __future__ import annotations

import functools
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn

from titan_nb.errors import ResourceError
from titan_nb.memory.forecast import Forecast, forecast, fork

STEP = """
for _ in range(2):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
"""


# Adam's own temporary memory is the peak; with SGD it is in the backward pass.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": functools.partial(torch.optim.SGD, lr=0.1),
}


def mlp(optimizer: str = "adam") -> dict[str, Any]:
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return _training(model, torch.randn(64, 256), optimizer)


def transformer(optimizer: str) -> dict[str, Any]:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(32 * 64, 10))
    return _training(model, torch.randn(8, 32, 64), optimizer)


def _training(model: nn.Module, x: torch.Tensor, optimizer: str) -> dict[str, Any]:
    return {
        "torch": torch,
        "nn": nn,
        "model": model,
        "x": x,
        "y": torch.randint(0, 10, (len(x),)),
        "optimizer": OPTIMIZERS[optimizer](model.parameters()),
    }


def predicted(source: str, namespace: dict[str, Any] | None = None, **options: Any) -> Forecast:
    return forecast(source, {"torch": torch, "nn": nn} if namespace is None else namespace, **options)


def real_extra_bytes(make: Callable[[str], dict[str, Any]], optimizer: str, steps_before: int) -> int:
    """Run a step, and return what the host's allocator says of its peak, temporary memory included."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        namespace = make(optimizer)
        for _ in range(steps_before):
            exec(STEP, namespace)
        with torch.profiler.record_function("the step"):
            exec(STEP, namespace)
    events = profile.profiler.kineto_results.events()
    start = next(one.start_ns() for one in events if one.name() == "the step")
    now = peak = before = 0
    for event in sorted(events, key=lambda one: one.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            if event.start_ns() < start:
                before = peak = now
            peak = max(peak, now)
    return peak - before


@pytest.mark.parametrize("make", [mlp, transformer])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps_before", [0, 1])
def test_a_training_step_takes_what_was_predicted(
    make: Callable[[str], dict[str, Any]], optimizer: str, steps_before: int
) -> None:
    namespace = make(optimizer)
    for _ in range(steps_before):
        exec(STEP, namespace)
    found = predicted(STEP, namespace)
    assert found.complete, found.describe()
    real = real_extra_bytes(make, optimizer, steps_before)
    assert found.additional_bytes["cpu"] == pytest.approx(real, rel=0.02)


def test_nothing_of_this_process_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = mlp()
    exec(STEP, namespace)
    kept = tmp_path / "kept.txt"
    kept.write_text("kept")
    namespace["log"] = log = kept.open("a")
    shared = torch.zeros(1000, dtype=torch.int64).share_memory_()
    namespace.update(shared=shared, labels=torch.arange(5))
    before = _state(namespace)
    found = predicted(
        STEP + "x.add_(1)\nlabels.add_(1)\nmodel[0].weight.data.zero_()\ntorch.rand(3)\nnew = 1\n"
        "import os, sys, decimal, this\nos.chdir('/')\nprint('out'); log.write('more'); log.flush()",
        namespace,
    )
    assert (found.stopped_line, found.reason) == (14, "OSError: [Errno 9] Bad file descriptor"), "the log"
    assert found.statements == 10
    assert predicted("shared.add_(1)", namespace).reason == "the dry run's process died (Segmentation fault)"
    assert _state(namespace) == before
    assert "new" not in namespace
    assert kept.read_text() == "kept"
    assert log.tell() == len("kept")
    log.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]


def _state(namespace: dict[str, Any]) -> object:
    tensors = {id(one): one for one in gc.get_objects() if type(one) in (torch.Tensor, nn.Parameter)}
    parameters = list(namespace["model"].parameters())
    return (
        [namespace[name].tolist() for name in ("x", "y", "shared", "labels")],
        [(one.tolist(), one.grad.tolist(), type(one.grad), one._version) for one in parameters],
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        len(tensors),
        sorted(namespace),
        Path.cwd(),
        sorted(sys.modules),
        sorted(entry.name for entry in Path("/proc/self/fd").iterdir()),
        gc.get_freeze_count(),
        signal.getsignal(signal.SIGINT),
    )


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("b.item()", "data-dependent: .item() or a condition"),
        ("if b > 0: pass", "data-dependent: .item() or a condition"),
        ("a.tolist()", "data-dependent: .item() or a condition"),
        ("f'{b:.2f}'", "data-dependent: a formatted number"),
        ("a.numpy()", "data-dependent: .numpy()"),
        ("a[a > 0]", "data-dependent: nonzero() or a boolean mask"),
        ("a.nonzero()", "data-dependent: nonzero() or a boolean mask"),
        ("a.unique()", "data-dependent: unique()"),
        ("torch.equal(a, a + 1)", "data-dependent: torch.equal()"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit", "SystemExit"),
        ("torch.zeros(3, device='cuda')", "RuntimeError: there is no cuda device here"),
        ("x = (", "SyntaxError: '(' was never closed"),
    ],
)
def test_it_says_where_and_why_it_stopped(last: str, reason: str) -> None:
    found = predicted(f"a = torch.ones(1000)\nb = a.sum()\n\n{last}", first_line=2)
    assert (found.stopped_line, found.reason) == (5, reason)
    if "never closed" not in reason:
        assert found.additional_bytes["cpu"] >= 4004, "what was followed until then"
        assert found.describe().startswith("predicted peak at least ")
        assert f"; up to line 5, then {reason}" in found.describe()


def test_values_that_stay_known() -> None:
    """Without shuffled indices, labels and an optimizer's step there is no training loop."""
    namespace = {"torch": torch, "x": torch.randn(100, 10), "y": torch.arange(100) % 7}
    found = predicted(
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "classes = int(y.max()) + 1\n"
        "assert classes == 7 and len(y.unique()) == 7\n"
        "seen = 0\n"
        "for a, b in DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True):\n"
        "    seen += len(a)\n"
        "assert seen == 100\n"
        "big = torch.zeros(classes, 1000)",
        namespace,
    )
    assert found.complete, found.describe()
    assert found.statements == 7


def test_what_was_only_pretended_to_be_written_is_not_known_any_more() -> None:
    namespace = {"torch": torch, "count": torch.tensor(0), "x": torch.randn(5)}
    found = predicted("count += (x > 0).sum()\nint(count)", namespace)
    assert (found.stopped_line, found.reason) == (2, "data-dependent: .item() or a condition")
    assert predicted("count += 1\nassert int(count) == 1", namespace).complete


def test_memory_given_back_in_the_cell_counts_for_the_rest_of_it() -> None:
    namespace: dict[str, Any] = {"torch": torch, "old": torch.zeros(1 << 18)}
    kept = predicted("new = torch.zeros(1 << 18)", namespace)
    given = predicted("del old\nnew = torch.zeros(1 << 18)", namespace)
    viewed = predicted("view = old[0]\ndel old\nnew = torch.zeros(1 << 18)", namespace)
    assert kept.additional_bytes["cpu"] == 1 << 20
    assert given.additional_bytes["cpu"] == 0
    assert viewed.additional_bytes["cpu"] == 1 << 20, "its view holds it"
    assert "no tensor memory beyond" in given.describe()


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("open('new.txt', 'w')", "write to 'new.txt'"),
        ("open(b'new.txt', 'ab')", "write to 'new.txt'"),
        ("torch.save(1, 'new.pt')", "write to 'new.pt'"),
        ("torch.save(torch.zeros(3), 'new.pt')", "write to 'new.pt'"),
        ("os.remove('kept.txt')", "delete 'kept.txt'"),
        ("shutil.rmtree('.')", "delete"),
        ("os.makedirs('new')", "make the folder 'new'"),
        ("socket.create_connection(('127.0.0.1', 9))", "use the network"),
        ("urllib.request.urlopen('http://127.0.0.1:9')", "use the network"),
        ("subprocess.run(['touch', 'new'])", "start a program or another process"),
        ("os.system('touch new')", "start a program or another process"),
        ("os.fork()", "start a program or another process"),
        ("os.kill(os.getppid(), 9)", "send a signal to another process"),
        ("threading.Thread(target=print).start()", "start a thread"),
        ("input('?')", "ask a question"),
    ],
)
def test_it_refuses(cell: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept.txt").write_text("kept")
    imports = "import os, shutil, socket, subprocess, threading, urllib.request\n"
    found = predicted(f"{imports}x = torch.zeros(256)\n{cell}\n", first_line=2)
    assert found.stopped_line == 4, found
    assert found.refused[0].startswith(f"line 4: {what}"), found
    assert found.statements == 2
    assert found.additional_bytes["cpu"] >= 1024
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]


def test_what_the_cell_gets_over_is_told_beside_the_forecast() -> None:
    found = predicted(
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', 9))\nexcept OSError:\n    pass\n"
        "x = torch.zeros(256)"
    )
    assert found.complete
    assert found.describe().endswith("\nnot done: line 3: use the network")


def test_code_in_c_cannot_write_either(tmp_path: Path) -> None:
    """By the operating system; Python's hooks see nothing of it."""
    target = tmp_path / "new"
    found = predicted(
        f"import ctypes\nresult = ctypes.CDLL(None).open({os.fsencode(target)!r}, 0o101, 0o644)\n"
        "raise ValueError(result)"
    )
    assert found.reason == "ValueError: -1", "a kernel without Landlock?"
    assert not target.exists()


def test_a_crash_of_the_child_is_a_plain_line() -> None:
    found = predicted("x = torch.zeros(256)\nimport ctypes\nctypes.string_at(0)")
    assert found.stopped_line == 3
    assert found.reason == "the dry run's process died (Segmentation fault)"
    assert found.additional_bytes == {"cpu": 1024}
    assert predicted("import os\nos._exit(3)").reason == "the dry run's process died (exit code 3)"


def test_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    found = predicted("x = torch.zeros(256)\nwhile True:\n    pass", limit_seconds=5)
    assert (found.stopped_line, found.reason) in {(2, fork.TIME_OVER), (3, fork.TIME_OVER)}
    assert found.additional_bytes == {"cpu": 1024}
    monkeypatch.setattr(fork, "GRACE_SECONDS", 0.5)
    stubborn = (
        "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass"
    )
    found = predicted(stubborn, limit_seconds=4)
    assert (found.stopped_line, found.reason) == (2, fork.TIME_OVER), "killed, and the statement is known"


def test_top_level_await_and_future_imports() -> None:
    found = predicted(
        "from __future__ import annotations\nimport asyncio\n"
        "def f(a: no_such_name): pass\n"
        "await asyncio.sleep(0)\nx = await asyncio.sleep(0, torch.zeros(256))"
    )
    assert found.complete, found.describe()
    assert found.additional_bytes == {"cpu": 1024}
    assert predicted("def f(a: no_such_name): pass").stopped_line == 1, "our own future is not the cell's"


def _children() -> set[int]:
    """Return the process ids of the children, of those that nobody has waited for too."""
    return {child.pid for child in psutil.Process().children()}


def test_it_works_from_any_thread_and_leaves_no_child() -> None:
    before = _children()
    found: list[Forecast] = []
    thread = threading.Thread(target=lambda: found.append(predicted("x = torch.zeros(256)")))
    thread.start()
    thread.join(60)
    assert found[0].additional_bytes == {"cpu": 1024}
    assert _children() == before


@pytest.fixture
def ignored_children() -> Iterator[None]:
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, previous)


def test_children_that_the_system_reaps(ignored_children: None) -> None:
    assert predicted("x = torch.zeros(256)").complete


def test_ctrl_c_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(entry.name for entry in Path("/proc/self/fd").iterdir())
    children = _children()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fork, "_listen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predicted("while True: pass")
    assert _children() == children
    assert sorted(entry.name for entry in Path("/proc/self/fd").iterdir()) == before


def test_ctrl_c_at_the_birth_of_the_child_stays_with_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook interrupts the whole group of processes; the child must not go on as a second kernel."""
    parent, fork_it = os.getpid(), os.fork

    def interrupted() -> int:
        pid = fork_it()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", interrupted)
    try:
        found = predicted("x = torch.ones(1000)")
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert found.complete, found.describe()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_loader_with_workers_loads_by_itself() -> None:
    source = (
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "loader = DataLoader(TensorDataset(torch.ones(100, 5)), 10, num_workers=2, persistent_workers=True)\n"
        "sizes = [len(batch) for _ in range(2) for batch, in loader]\n"
        "assert sizes == [10] * 20\n"
    )
    found = predicted(source)
    assert found.complete, found.describe()


def test_a_crash_leaves_no_core_file() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        found = predicted("import resource\nassert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert found.complete, found.describe()


def test_a_process_that_cannot_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(entry.name for entry in Path("/proc/self/fd").iterdir())

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", refuse)
        with pytest.raises(ResourceError, match="cannot be forked"):
            predicted("x = 1")
        patch.delattr(os, "fork")
        with pytest.raises(ResourceError, match="needs Linux or macOS"):
            predicted("x = 1")
    assert sorted(entry.name for entry in Path("/proc/self/fd").iterdir()) == before


def test_stand_ins_are_put_in_place_in_the_child_only() -> None:
    class Shell:
        def magic(self) -> str:
            return "done"

    shell = Shell()
    found = predicted(
        "x = 1\nshell.magic()",
        {"torch": torch, "shell": shell},
        stand_ins=[(shell, "magic", lambda refuse: lambda: refuse("run a magic"))],
    )
    assert (found.stopped_line, found.reason) == (2, "a dry run does not run a magic")
    assert shell.magic() == "done"
