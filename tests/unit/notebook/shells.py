"""Running cells in a shell of this process, and seeing what titan displays."""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import RichOutput, capture_output


def run(shell: InteractiveShell, cell: str) -> None:
    shell.run_cell(cell, store_history=True).raise_error()


def shown(shell: InteractiveShell, cell: str) -> list[RichOutput]:
    """Run ``cell`` and return what it displays."""
    with capture_output(stdout=False, stderr=False) as captured:
        session_publisher = _presenter(shell)
        previous, session_publisher._publisher = session_publisher._publisher, shell.display_pub
        try:
            run(shell, cell)
        finally:
            session_publisher._publisher = previous
    return list(captured.outputs)


def _presenter(shell: InteractiveShell) -> Any:
    return shell.magics_manager.registry["TitanMagics"]._session.presenter
