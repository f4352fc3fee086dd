"""Who holds what in a real kernel: variables, outputs, and the frames of a failed cell."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.kernel.kernel import Kernel

LOOK = """
def who():
    from titan_nb.memory.owners import owners
    from titan_nb.notebook.roots import roots_of
    shell = get_ipython()
    return owners(shell.user_ns, roots=roots_of(shell), seconds=20.0)
"""


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with Kernel(sys.executable) as kernel:
        assert kernel.run(f"import torch\n%load_ext titan_nb\n{LOOK}").status == "ok"
        yield kernel


def _rows(kernel: Kernel) -> dict[str, tuple[str, int, int, tuple[str, ...]]]:
    """Return kind, size, what deletion frees and partners, by name."""
    found = kernel.evaluate(
        "{r.name: (r.kind, r.size_bytes, r.frees_bytes, r.shared_with) for r in who().rows}"
    )
    return dict(found)


def test_a_failed_cell_is_named_with_its_function_and_variable(kernel: Kernel) -> None:
    kernel.run("def forward():\n    attn = torch.zeros(1 << 18)\n    raise ValueError('on purpose')")
    assert kernel.run("forward()").status == "error"
    number = kernel.evaluate("max(n for n, _ in enumerate(In) if In[n].startswith('forward'))")
    for _ in range(2):  # looking keeps nothing alive and takes nothing away
        rows = _rows(kernel)
        assert rows[f"failed cell {number} -> forward() -> attn"] == ("failed cell", 1 << 20, 1 << 20, ())
    assert not [name for name in rows if "run_code" in name or "shell" in name or "titan" in name]
    assert "attn = torch.zeros" in str(kernel.run("%tb").outputs)
    assert kernel.run("1 / 0").status == "error"
    kernel.run("import gc; gc.collect()")
    assert not [name for name in _rows(kernel) if "attn" in name]


def test_an_output_is_one_owner_whatever_slots_hold_it(kernel: Kernel) -> None:
    shown = kernel.run("torch.zeros(1 << 18)")
    assert shown.status == "ok"
    number = shown.reply["execution_count"]
    assert _rows(kernel)[f"Out[{number}]"] == ("Out", 1 << 20, 1 << 20, ())
    kernel.run("mine = _")
    rows = _rows(kernel)
    assert rows["mine"] == ("variable", 1 << 20, 0, (f"Out[{number}]",))
    kernel.run("del mine")
    kernel.run("Out.clear()")
    assert _rows(kernel)[f"_{number}"][1] == 1 << 20


def test_what_reset_out_leaves_behind_has_a_name(kernel: Kernel) -> None:
    kernel.run("torch.zeros(1 << 18)")
    kernel.run("%reset -f out")
    names = [name for name, row in _rows(kernel).items() if row[1] == 1 << 20]
    assert names == ["_"]


def test_the_shell_as_a_variable_owns_nothing(kernel: Kernel) -> None:
    kernel.run("ip = get_ipython(); x = torch.zeros(1 << 18)")
    kernel.run("torch.ones(1 << 18)")
    rows = _rows(kernel)
    assert rows["x"] == ("variable", 1 << 20, 1 << 20, ())
    assert not [name for name, row in rows.items() if name.startswith("ip") or "ip" in row[3]]
