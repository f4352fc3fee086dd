"""A wrong way: run the cell in a second ``run_cell`` inside the first."""

from __future__ import annotations

REPORTS: list[str] = []


def load_ipython_extension(shell):
    def titan(line, cell):
        REPORTS.append(cell)
        shell.run_cell(cell)

    shell.register_magic_function(titan, "cell")
