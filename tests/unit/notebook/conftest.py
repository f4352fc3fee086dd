from __future__ import annotations

import string
from collections.abc import Iterator

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

from titan_nb import chat, tracker
from titan_nb.chat import ChatMemory
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


def letters(texts: list[str]) -> np.ndarray:
    """An encoder that counts letters: texts of the same letters are near each other."""
    return np.array(
        [[text.lower().count(letter) for letter in string.ascii_lowercase] for text in texts], dtype=float
    )


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatMemory]:
    """The kernel's own chat memory in this test, empty, with the encoder `letters`."""
    mine = ChatMemory(encoder=letters)
    monkeypatch.setattr(chat, "_default", mine)
    yield mine
    chat.default().close()
