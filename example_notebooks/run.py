"""Run a notebook without a browser, print what its cells cost, and write it as an HTML page.

python example_notebooks/run.py NOTEBOOK.ipynb --html PAGE.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from titan_nb import Report
from titan_nb.views.bundle import REPORT_MIME
from titan_nb.views.text import table


def execute(path: Path) -> nbformat.NotebookNode:
    """Execute the notebook in its own folder with this Python; an error in a cell is raised."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": path.parent}},
        extra_arguments=["--log-level=ERROR"],  # the kernel's advice on start-up is not for this reader
    )
    client.execute()
    return notebook


def reports(notebook: nbformat.NotebookNode) -> list[Report]:
    """Return the reports that stand under the cells."""
    return [
        Report.from_dict(output.data[REPORT_MIME])
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if REPORT_MIME in output.get("data", {})
    ]


def main() -> None:
    """Run the notebook that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--html", type=Path, required=True, help="where the page goes")
    arguments = parser.parse_args()

    notebook = execute(arguments.notebook)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    arguments.html.parent.mkdir(parents=True, exist_ok=True)
    arguments.html.write_text(page, encoding="utf-8")

    print(table(reports(notebook)))
    print(f"\nThe executed notebook: {arguments.html}")


if __name__ == "__main__":
    main()
