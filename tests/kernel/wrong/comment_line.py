"""A wrong way: turn our line into a comment, and measure between IPython's two events."""

from __future__ import annotations

REPORTS: list[str] = []


def load_ipython_extension(shell):
    def comment(lines):
        return ["# " + lines[0], *lines[1:]] if lines and lines[0].startswith("%%titan") else lines

    def begin(info):
        if info.raw_cell.startswith("%%titan"):
            REPORTS.append(info.raw_cell)

    shell.input_transformers_cleanup.insert(0, comment)
    shell.events.register("pre_run_cell", begin)
