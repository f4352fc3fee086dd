from __future__ import annotations

from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell

from titan_nb import tracker
from titan_nb.notebook import extension


def make_shell() -> InteractiveShell:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    return shell


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A fresh shell without titan, in this process."""
    shell = make_shell()
    tracker.default().ledger.reset()
    yield shell
    extension.unload(shell)
    InteractiveShell.clear_instance()


@pytest.fixture
def titan(shell: InteractiveShell) -> InteractiveShell:
    """A fresh shell with titan loaded."""
    shell.run_cell("%load_ext titan_nb", store_history=True).raise_error()
    return shell
