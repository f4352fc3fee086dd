"""Starts processes that write to a memory, and listens to what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.storage.writer import State, change_state

__all__ = ["FOR_EVER", "Said", "Writers"]

ROOT = Path(__file__).parents[3]
FOR_EVER = 100_000
"""More changes than anybody waits for."""


@dataclass
class Said:
    """What a writer has said.

    Attributes:
        state: What is there if it did what it has done.
        intended: The change that it may have been in the middle of.
        changes: How many it has done.
        ended: Its exit status.
    """

    state: State
    intended: dict[str, Any] | None = None
    changes: int = 0
    ended: int | None = None
    opened: bool = False
    words: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        word, *rest = json.loads(line)
        self.words.append(word)
        if word == "intends":
            self.intended = rest[0]
        elif word == "done":
            assert self.intended is not None
            self.state = change_state(self.state, self.intended)
            self.intended = None
            self.changes += 1
        elif word == "ended":
            self.ended = rest[0]

    def possible(self) -> list[State]:
        """Return what may be there now: all that is done, with or without what was being done."""
        return [self.state] + ([] if self.intended is None else [change_state(self.state, self.intended)])


class Writers:
    """Starts writing processes, one after the other."""

    def __init__(self, **environment: str) -> None:
        command = [sys.executable, "-u", "-m", "tests.fakes.storage.writer"]
        self._child: int | None = None
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def start(self, folder: Path, seed: int, steps: int) -> int:
        """Start one and return its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(folder), seed, steps]) + "\n")
        self._process.stdin.flush()
        word, process = json.loads(self.line())
        assert word == "child"
        self._child = int(process)
        return self._child

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def close(self) -> None:
        """End whatever still runs; a child that has ended is nobody's any more."""
        if self._child is not None and self._is_ours(self._child):
            os.kill(self._child, 9)
        self._process.communicate(timeout=60)

    def _is_ours(self, child: int) -> bool:
        try:
            status = Path(f"/proc/{child}/stat").read_text()
        except OSError:
            return False
        return int(status.rpartition(")")[2].split()[1]) == self._process.pid
