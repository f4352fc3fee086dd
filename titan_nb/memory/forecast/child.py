"""What the forked child does: run the cell statement by statement under the counting mode, and tell."""

from __future__ import annotations
import __future__

import ast
import asyncio
import builtins
import contextlib
import functools
import gc
import inspect
import json
import operator
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any, NoReturn

from titan_nb.memory.forecast.reasons import reason_of
from titan_nb.memory.forecast.refusals import Refusals
from titan_nb.memory.forecast.sandbox import cut_off

__all__ = ["TIME_OVER", "StandIn", "run_in_child"]

TIME_OVER = "the time limit of the dry run had passed"

StandIn = tuple[object, str, Callable[[Callable[[str], NoReturn]], object]]
"""An object, the name of its attribute, and what makes the stand-in for it out of ``refuse``."""

_CELL = "<dry run>"
_AWAITS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FEATURES = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


class _TimeOver(BaseException):
    """The time limit has passed. No `Exception`: a cell's own ``except`` must not swallow it."""


def run_in_child(
    source: str,
    namespace: dict[str, Any],
    *,
    channel: int,
    first_line: int,
    limit_seconds: float,
    resident_bytes: Mapping[str, int],
    current_index: int,
    stand_ins: Sequence[StandIn],
) -> None:
    """Run ``source`` in this process, which is lost by it, and write what happens to ``channel``.

    Each message is a line of JSON. ``{"line": n}`` tells that a statement begins; ``"now"`` and ``"peak"``
    are bytes by device; ``"reason"`` is there when the cell did not run to its end.
    """
    cell = _Cell(source, namespace, channel, first_line, resident_bytes, current_index)
    cut_off(channel)
    _silence()
    refusals = cell.refusals
    for owner, name, make in stand_ins:
        setattr(owner, name, make(refusals.refuse))
    builtins.input = lambda *_: refusals.refuse("ask a question")
    signal.signal(signal.SIGALRM, _time_is_over)
    signal.setitimer(signal.ITIMER_REAL, limit_seconds)
    cell.run()


class _Cell:
    def __init__(
        self,
        source: str,
        namespace: dict[str, Any],
        channel: int,
        first_line: int,
        resident_bytes: Mapping[str, int],
        current_index: int,
    ) -> None:
        self._source = source
        self._namespace = namespace
        self._channel = channel
        self._first_line = first_line
        self._resident_bytes = resident_bytes
        self._current_index = current_index
        self._storages: Any = None
        self._loop: Any = None
        self._statements = 0
        self._flags = _AWAITS
        self.refusals = Refusals(lambda: _line_of_frames(sys._getframe()))

    def run(self) -> None:
        stopped: dict[str, Any] = {}
        try:
            self._count()
        except _TimeOver as error:
            stopped = {"line": self._line_of(error), "reason": TIME_OVER}
        except BaseException as error:
            stopped = {"line": self._line_of(error), "reason": reason_of(error)}
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._tell(end=True, **stopped)

    def _count(self) -> None:
        import torch

        from titan_nb.memory.forecast.engine import Engine
        from titan_nb.memory.forecast.fake import count_resident, counting_mode
        from titan_nb.memory.forecast.storages import Storages
        from titan_nb.memory.forecast.torch_stand_ins import (
            keep_from_driver,
            keep_from_files,
            keep_from_workers,
            let_modules_move,
            let_optimizers_choose,
        )

        # The threads of OpenMP did not come along with the fork: a kernel that waits for them never ends.
        torch.set_num_threads(1)
        self._storages = Storages()
        found = count_resident(self._storages)
        gc.freeze()  # what the parent left to be collected is not ours to finalize; it hides from the count
        self._storages.start({**found, **self._resident_bytes})
        self._tell(resident=self._storages.now_bytes)
        tree = ast.parse(self._source, _CELL)
        ast.increment_lineno(tree, self._first_line - 1)
        with contextlib.ExitStack() as stack:
            stack.enter_context(counting_mode(self._storages, self._resident_bytes))
            stack.enter_context(Engine())
            keep_from_driver(self._resident_bytes, self._current_index)
            keep_from_files(self.refusals.refuse)
            keep_from_workers()
            let_modules_move()
            let_optimizers_choose()
            self.refusals.begin()
            for statement in tree.body:
                self._tell(line=statement.lineno)
                self._execute(statement)
                self._statements += 1

    def _execute(self, statement: ast.stmt) -> None:
        module = ast.Module([statement], [])
        code: CodeType = compile(module, _CELL, "exec", self._flags, dont_inherit=True)
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            self._flags |= code.co_flags & _FEATURES
        if code.co_flags & inspect.CO_COROUTINE:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
            self._loop.run_until_complete(eval(code, self._namespace))  # noqa: S307 - the user's own cell
        else:
            exec(code, self._namespace)  # noqa: S102 - the user's own cell

    def _line_of(self, error: BaseException) -> int | None:
        """Return the line of the cell in which ``error`` came up, the innermost one."""
        if isinstance(error, SyntaxError) and error.filename == _CELL and error.lineno is not None:
            return error.lineno + self._first_line - 1
        line, entry = None, error.__traceback__
        while entry is not None:
            if entry.tb_frame.f_code.co_filename == _CELL:
                line = entry.tb_lineno
            entry = entry.tb_next
        return line

    def _tell(self, **message: Any) -> None:
        if self._storages is not None:
            message["peak"] = self._storages.peak_bytes
        message["statements"] = self._statements
        message["refused"] = self.refusals.seen
        os.write(self._channel, json.dumps(message).encode() + b"\n")


def _silence() -> None:
    nothing = open(os.devnull, "w")  # noqa: SIM115, PTH123 - open as long as the process lives
    sys.stdout = sys.stderr = nothing
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    sys.displayhook = lambda value: None
    sys.unraisablehook = lambda problem: None
    # Found without trying to write there: some libraries ask for it when they are imported.
    tempfile.tempdir = tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - nothing is written


def _time_is_over(number: int, frame: FrameType | None) -> None:
    raise _TimeOver


def _line_of_frames(frame: FrameType | None) -> int | None:
    while frame is not None:
        if frame.f_code.co_filename == _CELL:
            return frame.f_lineno
        frame = frame.f_back
    return None
