from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.accelerator import build

ROOT = Path(__file__).parents[3]


def compiler(path: Path, body: str) -> str:
    """Make a compiler that notes each call in ``calls`` beside it."""
    path.write_text(f'#!/bin/sh\necho "$*" >> {path.parent / "calls"}\n{body}\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "built"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_two_at_once_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = 'sleep 0.1\nfor last; do :; done\necho built > "$last"'
    monkeypatch.setenv("CXX", compiler(tmp_path / "g++", touch))
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(lambda _: build.library.__wrapped__(), range(3))
    assert others == [first, first]
    assert first.read_text() == "built\n"
    sources = list(build.SOURCES.glob("*.cpp"))
    assert len((tmp_path / "calls").read_text().splitlines()) == len(sources) + 1
    assert sorted(path.name for path in first.parent.iterdir()) == [build.NAME, "lock"]


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="there is no 'no-such-compiler': install g"):
        build.library.__wrapped__()


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> None:
    monkeypatch.setenv("CXX", compiler(tmp_path / "g++", "echo it is broken >&2\nexit 1"))
    with pytest.raises(RuntimeError, match="cannot be built:\nit is broken"):
        build.library.__wrapped__()
    assert not list(elsewhere.rglob("*.so"))


def test_another_backend_is_there_already() -> None:
    code = (
        "import torch\n"
        "torch.utils.rename_privateuse1_backend('other')\n"
        "from tests.fakes.accelerator import install\n"
        "install()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    assert "RuntimeError: torch.register_privateuse1_backend() has already been set" in done.stderr


def test_it_may_come_after_a_backward_pass_on_the_host() -> None:
    code = (
        "import torch\n"
        "torch.ones(2, requires_grad=True).sum().backward()\n"
        "from tests.fakes.accelerator import install\n"
        "install(devices=2)\n"
        "x = torch.ones(2, requires_grad=True, device='fakegpu:1')\n"
        "(x * 3).sum().backward()\n"
        "print(x.grad.tolist())\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert (done.stdout, done.stderr) == ("[3.0, 3.0]\n", "")
