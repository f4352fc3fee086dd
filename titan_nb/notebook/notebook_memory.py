"""`%titan on --remember`: the cells of the notebook as a chat that can be searched."""

from __future__ import annotations

import atexit
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import titan_nb
from titan_nb.errors import ChatError
from titan_nb.notebook.cells import Ended, Frame
from titan_nb.notebook.hits import NOTEBOOK

if TYPE_CHECKING:
    from titan_nb.chat import ChatMemory

__all__ = ["NotebookMemory"]

SOURCE_LETTERS = 4000
OUTPUT_LETTERS = 1000
OUTPUT_BELOW = "\n\n---\n"
"""Between source and output; no word, for it must not count in a search."""

WAITING_CELLS = 10_000
_OWN_LINES = re.compile(r"^[ \t]*%%?titan\b.*\n?", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Cell:
    number: int
    text: str
    error: str | None
    time: float

    @property
    def metadata(self) -> dict[str, Any]:
        return {"cell": self.number} | ({} if self.error is None else {"error": self.error})


class NotebookMemory:
    """Keeps what cells say, as texts, until the chat memory is next asked; only then are they encoded.

    An encoder may be slow, use a GPU, or be the user's own: it has no place at the end of a cell. A cell that
    runs again takes the place of its earlier run.

    Attributes:
        on: Whether cells are kept.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.on = False
        self._process = os.getpid()
        self._waiting: dict[str, _Cell] = {}
        self._ids: dict[str, int] = {}
        self._memory: ChatMemory | None = None
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many cells are not in the chat memory yet."""
        return len(self._waiting)

    def start(self) -> str | None:
        """Keep the cells from now on; return what is missing for that, if anything is."""
        from titan_nb.chat.encoder import as_encoder

        try:
            as_encoder(titan_nb.chat_memory().encoder)
        except ChatError as error:
            return f"cells are not remembered: {error}"
        if not self.on:
            self.on, self._process = True, os.getpid()
            atexit.register(self.close)
        return None

    def stop(self) -> None:
        """Keep no further cells; those that were kept stay."""
        self.on = False

    def after_cell(self, frame: Frame, ended: Ended) -> None:
        """Take note of a cell that has ended."""
        number, info = frame.cell.execution_count, frame.info
        if not self.on or not ended.ran or number is None or not getattr(info, "store_history", False):
            return
        source = _cut(_OWN_LINES.sub("", info.raw_cell[: 2 * SOURCE_LETTERS]).strip(), SOURCE_LETTERS)
        if not source:
            return
        output = _cut(_output(self._shell, number).strip(), OUTPUT_LETTERS)
        text = f"{source}{OUTPUT_BELOW}{output}" if output else source
        with self._lock:
            self._waiting.pop(source, None)
            self._waiting[source] = _Cell(number, text, ended.error, time.time())
            if len(self._waiting) > WAITING_CELLS:
                del self._waiting[next(iter(self._waiting))]

    def taken_in(self, memory: ChatMemory) -> list[str]:
        """Put the cells that wait into the chat memory; return what there is to say about that.

        Raises:
            ResourceError: If memory or disk is short; the cells wait on.
        """
        with self._lock:
            cells, self._waiting = self._waiting, {}
        if not cells:
            return []
        if memory is not self._memory:
            self._memory, self._ids = memory, {}
        try:
            return self._add(memory, cells)
        except BaseException:
            with self._lock:
                self._waiting = cells | self._waiting
            raise

    def drop(self) -> int:
        """Let go of the cells that wait; return how many there were."""
        with self._lock:
            cells, self._waiting = self._waiting, {}
        return len(cells)

    def close(self) -> None:
        """Take in what waits, where it outlives the kernel, and keep no further cells."""
        self.stop()
        atexit.unregister(self.close)
        if not self._waiting or self._process != os.getpid():  # a forked child has copies only
            return
        memory = titan_nb.chat_memory()
        if memory.stats().location != "memory":
            self.taken_in(memory)

    def _add(self, memory: ChatMemory, cells: dict[str, _Cell]) -> list[str]:
        try:
            self._put(memory, cells)
        except ChatError:
            refused = {}
            for source, cell in cells.items():
                try:
                    self._put(memory, {source: cell})
                except ChatError as error:  # noqa: PERF203 - one cell must not keep the others out
                    refused[cell.number] = error
            if refused:
                numbers = ", ".join(map(str, [*refused][:8]))
                return [f"not remembered: cell {numbers} ({next(iter(refused.values()))})"]
        return []

    def _put(self, memory: ChatMemory, cells: dict[str, _Cell]) -> None:
        ids: Sequence[int | None] = memory.add(
            NOTEBOOK,
            [cell.text for cell in cells.values()],
            metadata=[cell.metadata for cell in cells.values()],
            times=[cell.time for cell in cells.values()],
        )
        earlier = {self._ids[source] for source in cells if source in self._ids}.difference(ids)
        self._ids.update((source, new) for source, new in zip(cells, ids, strict=True) if new is not None)
        if earlier:
            memory.forget(ids=sorted(earlier))


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _output(shell: Any, number: int) -> str:
    """Return the beginning of what a cell printed, and of the text of its result.

    What was printed is kept by IPython 9 and later; older ones keep the result only.
    """
    history = shell.history_manager
    kept = getattr(history, "outputs", None)
    if kept is None:
        return str(history.output_hist_reprs.get(number, ""))[: 2 * OUTPUT_LETTERS]
    parts: list[str] = []
    left = 2 * OUTPUT_LETTERS
    for output in kept.get(number, ()):
        if output.output_type == "out_stream":
            chunks = output.bundle["stream"]
        elif output.output_type == "execute_result":
            chunks = [output.bundle.get("text/plain", "")]
        else:
            continue
        for chunk in chunks:
            if left <= 0:
                break
            parts.append(str(chunk)[:left])
            left -= len(parts[-1])
        parts.append("\n")
    return "".join(parts)
