from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.unit.notebook.shells import run, shown
from titan_nb.energy.sensors.nvml_neighbours import Neighbour
from titan_nb.errors import SensorError
from titan_nb.memory import owners as room
from titan_nb.memory.owners import DeviceTotal, Owners, Row
from titan_nb.notebook import who as module

MIB = 1 << 20
GPU = "gpu:GPU-8f3a1c2d-1111-2222-3333-444455556666"
RAM = "ram:boot:4242:99"
ROWS = (
    Row("model", "parameter", GPU, 240 * MIB, 200 * MIB, ("opt",)),
    Row("df", "variable", RAM, 300 * MIB, 300 * MIB),
    Row("tiny", "variable", RAM, 10, 10),
)
REST = Row("no Python name", "no name", GPU, 5 * MIB, 0)


def found(names: tuple[Row, ...] = ROWS, stopped_at: str = "") -> Owners:
    totals = {GPU: DeviceTotal(240 * MIB, 245 * MIB), RAM: DeviceTotal(300 * MIB)}
    return Owners(names, (*ROWS, REST), totals, stopped_at)


def test_a_variable_of_the_notebook_is_named(titan: InteractiveShell) -> None:
    run(titan, "import numpy\nbig = numpy.ones(1 << 20)\nview = big[10:]")
    (display,) = shown(titan, "%titan who")
    text = display.data["text/plain"]
    assert text.startswith("Memory by name: RAM (this process) ")
    (line,) = [line for line in text.splitlines() if line.startswith("big ")]
    assert line.split("  ")[-1].strip() == "view"
    assert "8.0 MiB" in line
    run(titan, "%titan who -o table")
    table = titan.user_ns["table"]
    assert table.loc[table["name"] == "big", "size_bytes"].tolist() == [8 * MIB]


def test_the_table_says_what_has_no_name_and_what_was_left_out(
    titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = tuple(Row(f"x{i}", "variable", RAM, (50 - i) * MIB, MIB) for i in range(30))
    monkeypatch.setattr(
        module, "owners", lambda **_: found(ROWS + many, "stopped after 250 ms: not to the end of huge")
    )
    (display,) = shown(titan, "%titan who")
    lines = display.data["text/plain"].splitlines()
    assert lines[0] == "Memory by name: GPU 8f3a1c2d 240 MiB of 245 MiB allocated, RAM (this process) 300 MiB"
    assert [line.split()[0] for line in lines[4:6]] == ["df", "model"]
    assert "tiny" not in display.data["text/plain"]
    assert len([line for line in lines if line.startswith("x")]) == 18
    assert lines[-2:] == [
        "- 13 smaller ones are left out; -k 33 shows them",
        "- stopped after 250 ms: not to the end of huge",
    ]
    (display,) = shown(titan, "%titan who -k 33")
    assert "no Python name  no name" in display.data["text/plain"]


def test_the_holders_are_those_of_the_gpu_if_one_is_in_use(
    titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "owners", lambda **_: found())
    assert module.holders(titan) == [("model", 240 * MIB)]
    assert module.holders(titan, of_ram=True) == [("df", 300 * MIB)]
    monkeypatch.setattr(module, "owners", lambda **_: found(ROWS[1:]))
    assert module.holders(titan) == [("df", 300 * MIB)]
    optimizer = (
        Row("model", "parameter", GPU, 6 * MIB, 0, ("opt",)),
        Row("opt", "optimizer state", GPU, 5 * MIB, 5 * MIB),
        Row("opt", "parameter", GPU, 4 * MIB, 0, ("model",)),
    )
    monkeypatch.setattr(module, "owners", lambda **_: found(optimizer))
    assert module.holders(titan) == [("opt", 9 * MIB), ("model", 6 * MIB)], "each name stands there once"
    assert module.holders(titan, of_ram=True) == []


def test_a_failed_cell_is_named_with_the_variable_that_holds_the_most(
    titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(name: str, size_bytes: int) -> Row:
        return Row(name, "failed cell", GPU, size_bytes, size_bytes)

    blocks = tuple(failed(f"failed cell 12 -> forward() -> {name}", MIB) for name in ("attn", "mask"))
    blocks += (failed("failed cell 1 -> other", MIB),)
    names = (failed("failed cell 12", 2 * MIB), failed("failed cell 1", MIB), failed("failed cell 3", MIB))
    monkeypatch.setattr(module, "owners", lambda **_: Owners(names, blocks, {}))
    (display,) = shown(titan, "%titan who")
    lines = display.data["text/plain"].splitlines()[4:]
    assert [line.split("  ")[0] for line in lines] == [
        "failed cell 12 -> forward() -> attn and 1 more",
        "failed cell 1 -> other",
        "failed cell 3",
    ]


def test_a_gpu_of_this_process_has_the_number_that_code_gives_it(
    titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "owners", lambda **_: found())
    monkeypatch.setattr(module, "gpu_names", lambda: {GPU: "GPU 1"})
    monkeypatch.setattr(module, "neighbours", lambda: [Neighbour(GPU, 12, "python", 3 * MIB)])
    (display,) = shown(titan, "%titan who")
    text = display.data["text/plain"]
    assert text.startswith("Memory by name: GPU 1 240 MiB of 245 MiB allocated")
    assert "- GPU 1: 3.0 MiB is held by another process, python (pid 12)" in text
    assert text.count("GPU 1") == 4
    assert "8f3a1c2d" not in text
    assert room.owners is not module.owners


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (
            [Neighbour(GPU, 12, "python", 3 * MIB), Neighbour(GPU, 13, "", None)],
            [
                "- GPU 8f3a1c2d: 3.0 MiB is held by another process, python (pid 12)",
                "- GPU 8f3a1c2d: an unknown amount is held by another process, "
                "which cannot be seen from here (pid 13)",
            ],
        ),
        (SensorError("no driver"), []),
    ],
)
def test_other_processes_on_a_gpu_are_named(
    titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch, answer: object, lines: list[str]
) -> None:
    def neighbours() -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "owners", lambda **_: found())
    monkeypatch.setattr(module, "neighbours", neighbours)
    (display,) = shown(titan, "%titan who")
    assert [line for line in display.data["text/plain"].splitlines() if line.startswith("- ")] == lines
