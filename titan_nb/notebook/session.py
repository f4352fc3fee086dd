"""One shell under titan: which cells are measured, and what is shown of them."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

from IPython.core.error import UsageError

from titan_nb.errors import SettingsError, TitanError
from titan_nb.memory import autocast
from titan_nb.notebook import remember
from titan_nb.notebook.alarm import ContainerAlarm
from titan_nb.notebook.budgets import Budgets
from titan_nb.notebook.cells import Cells, Ended, Frame
from titan_nb.notebook.ctrl_c import CtrlC
from titan_nb.notebook.expect import Expectations
from titan_nb.notebook.interrupts import InterruptedCell, Shield
from titan_nb.notebook.left_behind import LeftBehind
from titan_nb.notebook.notebook_memory import NotebookMemory
from titan_nb.notebook.present import Presenter
from titan_nb.notebook.relief import Relief
from titan_nb.settings import Settings
from titan_nb.tracker import Interrupt, Run, Tracker

if TYPE_CHECKING:
    from titan_nb.audit import Audit
    from titan_nb.ledger import Ledger
    from titan_nb.notebook.magics import TitanMagics

__all__ = ["Session"]

LOST_END = "an interrupt took away the end of this cell: its figures go up to the start of the next one"


class Session:
    """The state of one shell.

    Attributes:
        always: Whether every cell is measured (`%titan on`).
        budgets: What may be spent, by a cell and by all of them.
        relief: What is done about memory when a cell has ended.
        expectations: What long cells took the last time.
        notebook: The notebook's own cells as texts, for the chat memory.
        audit: eco2ai at work beside titan, while it is asked for.
        magics: The options; set by the extension once both exist.
    """

    def __init__(self, shell: Any, tracker: Tracker) -> None:
        self.shell = shell
        self.tracker = tracker
        self.cells = Cells(shell)
        self.presenter = Presenter(shell)
        self.always = False
        self.budgets = Budgets(
            shell, tracker, self.cells.current, self.presenter.say, always=lambda: self.always
        )
        self.relief = Relief(shell)
        self.expectations = Expectations(shell)
        self.notebook = NotebookMemory(shell)
        self._left_behind = LeftBehind(shell)
        self._alarm = ContainerAlarm(tracker.meter.sampler.every, self.presenter.say)
        self.audit: Audit | None = None
        self.magics: TitanMagics
        self._loading = True
        self._interrupted = InterruptedCell()
        self._warned: set[str] = set()

    @property
    def ledger(self) -> Ledger:
        """The reports of this process."""
        return self.tracker.ledger

    def pre_run_cell(self, info: Any) -> None:
        """Begin a cell; IPython's event of that name."""
        with Shield() as shield:
            try:
                self._loading = False
                self._recover()
                frame = self.cells.enter(info)
                if frame is not None:
                    self.presenter.listen()
                    self._spill_idle(frame)
                    if self.always:
                        self._begin(frame, self.magics.settings())
                        self.budgets.watch(frame)
            except BaseException as error:
                self.warn("this cell is not measured", error)
        try:
            shield.deliver()
        except KeyboardInterrupt:
            self.shell.ast_transformers.append(self._interrupted)

    def post_run_cell(self, result: Any = None) -> None:
        """End a cell; IPython's event of that name."""
        # An interrupt that comes now is over with the cell, as it is between two cells of a plain kernel.
        with Shield():
            self._loading = False
            if self._interrupted in self.shell.ast_transformers:
                self.shell.ast_transformers.remove(self._interrupted)
            left = closed = None
            try:
                left = self.cells.leave(result)
                if left is not None:
                    closed = self._close(*left, result)
            except BaseException as error:
                self.warn("the report of this cell is lost", error)
        if left is None:
            return
        if closed is not None and closed[0].settings.chat is not None:
            # Outside the shield: the encoder is the user's code, and may be interrupted.
            closed[0].chat = remember.store(self, *closed)
        with Shield():
            try:
                if closed is not None:
                    self._finish(*closed)
            except BaseException as error:
                self.warn("the report of this cell is lost", error)
            try:
                self.notebook.after_cell(*left)
            except BaseException as error:
                self.warn("this cell is not remembered", error)
            try:
                self.relief.between_cells(self.magics.cache_threshold)
            except BaseException as error:
                self.warn("the GPU's cache is not emptied", error)

    def track(self, settings: Settings, output: str | None, column: str | None = None) -> None:
        """Measure the running cell from here to its end, or change how it is measured.

        Raises:
            UsageError: If the settings cannot be used; the cell stops with it.
        """
        frame = self.cells.current()
        if frame is None:
            if self._loading:
                raise UsageError("titan sees the cells after the one that loads it: track in the next cell")
            return  # a silent execution: nobody would see a report
        shield = Shield()
        with shield:
            try:
                self._autocast(frame, settings.autocast)
                if frame.run is None:
                    self.budgets.check()
                    self._begin(frame, settings, asked=True)
                else:
                    self._look_before(frame, asked=True)
                    frame.run.change(settings, self._interrupt(settings))
                self.budgets.watch(frame)
            except TitanError as error:
                raise UsageError(str(error)) from None
            except BaseException as error:
                self.warn("this cell is not measured", error)
            frame.explicit = True
            frame.column = column or frame.column
            if output is not None and output not in frame.outputs:
                frame.outputs.append(output)
        shield.deliver()  # we stand in the user's cell: this is its interrupt

    def switch(self, on: bool) -> None:
        """Measure every cell from now on, beginning with this one, or none, ending with this one."""
        frame = self.cells.current()
        if on and frame is not None:
            # First, so that settings that cannot be used are an error here and not a warning at every cell.
            settings = self.magics.settings()
            if frame.run is None:
                self._begin(frame, settings, asked=True)
                self.budgets.watch(frame)
            elif not frame.explicit:
                frame.run.change(settings, self._interrupt(settings))
        self.always = on
        if frame is None:
            return
        if not on and frame.run is not None and not frame.explicit:
            self.budgets.leave(frame)
            frame.run.drop()
            frame.run = None

    def close(self) -> None:
        """End without a report what is still open, and stop listening."""
        self.switch(on=False)
        try:
            self.notebook.close()
        except Exception as error:
            self.warn("the last cells are not remembered", error)
        self.budgets.close()
        running, self.audit = self.audit, None
        if running is not None:
            with contextlib.suppress(TitanError):  # its threads end; nobody asked for its figures
                running.stop()
        frame = self.cells.current()
        if frame is not None:
            self._undo(frame)
            if frame.run is not None:
                frame.run.drop()
        self.presenter.close()

    def warn(self, what: str, error: BaseException) -> None:
        """Say once per kind, in one line, that titan itself failed."""
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._warned:
            self._warned.add(kind)
            # The user may have closed or replaced stderr, and an error's own text may fail.
            with contextlib.suppress(Exception):
                sys.stderr.write(f"titan: {kind}: {error}; the cell itself is not affected\n")

    def _begin(self, frame: Frame, settings: Settings, *, asked: bool = False) -> None:
        """Open the window of a cell, whether or not the user ``asked`` for it in the cell itself."""
        self._look_before(frame, asked)
        try:
            frame.run = self.tracker.begin(frame.cell, settings, self._interrupt(settings))
        except SettingsError as error:
            if asked:
                raise
            # Refused, a session's limit would also keep out the cell that is to free memory.
            unlimited = settings.replace(gpu_limit_bytes=None, ram_limit_bytes=None)
            if unlimited == settings:
                raise
            frame.run = self.tracker.begin(frame.cell, unlimited)
            frame.run.shortage = f"{error}; this cell ran without the limit"
        self._alarm.watch(frame)

    def _look_before(self, frame: Frame, asked: bool) -> None:
        """Take note of the memory before a cell, and say what it took the last time to who wants to know."""
        try:
            if self.magics.forecast and frame.forecast_key is None:
                self.expectations.before_cell(frame)
            self._left_behind.before_cell(asked)
        except Exception as error:
            self.warn("the memory before this cell is not looked at", error)

    def _interrupt(self, settings: Settings) -> Interrupt | None:
        """Return what stops the running cell when it takes more RAM than it may, in small steps."""
        if settings.ram_limit_bytes is None:
            return None
        ctrl_c = CtrlC(self.shell, threading.get_ident())
        return ctrl_c.send if ctrl_c.possible else None

    def _autocast(self, frame: Frame, kind: str) -> None:
        """Enter mixed precision until the cell ends, if that is asked for."""
        if kind == "off":
            return
        raw = getattr(frame.info, "raw_cell", "")
        awaits = self.shell.should_run_async(raw, transformed_cell=self.shell.transform_cell(raw))
        entered = autocast.enter(cast("autocast.Kind", kind), awaits)
        frame.at_end.append(entered.leave)
        frame.notes.append(entered.text)

    def _spill_idle(self, frame: Frame) -> None:
        """Move idle tensors off a GPU that is short of memory, for who asked."""
        try:
            moved = self.relief.spill_idle(frame, self.magics.spill_idle_cells)
        except Exception as error:
            self.warn("idle tensors are not moved", error)
        else:
            frame.notes += [] if moved is None else [moved]

    def _recover(self) -> None:
        """Write the report of an earlier cell whose end an interrupt has taken away."""
        lost = self.cells.lost()
        closed = None if lost is None else self._close(*lost, None)
        if closed is not None:
            closed[0].notes.append(LOST_END)
            self._report(*closed)

    def _close(self, frame: Frame, ended: Ended, result: Any) -> tuple[Run, Frame, Ended] | None:
        """Close the window of a cell that has ended, if it has one and began to run."""
        self._undo(frame)
        run = frame.run
        if run is None:
            self._relieve(result, None, self.magics.reclaim)
            return None
        self.budgets.leave(frame)  # first: from here on an interrupt of ours would meet IPython
        if not ended.ran:
            run.drop()
            return None
        run.stop()
        self._relieve(result, run, run.settings.reclaim)
        run.close()
        try:
            self._left_behind.after_cell(run)
        except Exception as error:
            self.warn("what this cell left behind is not named", error)
        run.cell = frame.cell
        run.notes += frame.notes
        return run, frame, ended

    def _undo(self, frame: Frame) -> None:
        """Put back what was set for a cell beside its window; a failure must not keep the rest as it is."""
        while frame.at_end:
            try:
                frame.at_end.pop()()
            except Exception as error:  # noqa: PERF203 - there are two at most
                self.warn("what was set for this cell is not put back", error)

    def _relieve(self, result: Any, run: Run | None, policy: str) -> None:
        """Give memory back after a failed cell, and say so in its report, or without one on stderr."""
        try:
            line = self.relief.after_cell(result, run, policy)
        except BaseException as error:
            self.warn("the memory of a failed cell is not given back", error)
            return
        if line is not None and run is not None:
            run.shortage = line if run.shortage is None else f"{run.shortage}; {line}"
        elif line is not None:
            sys.stderr.write(f"titan: {line}\n")

    def _finish(self, run: Run, frame: Frame, ended: Ended) -> None:
        self._report(run, frame, ended)
        try:
            self.presenter.show(frame, ended, self.magics)
        except BaseException as error:
            self.warn("the report of this cell is not shown", error)

    def _report(self, run: Run, frame: Frame, ended: Ended) -> None:
        """Write the report of a cell whose window is closed, for the ledger and for the user's names."""
        try:
            run.budget = self.budgets.verdict(frame, ended.outcome)
            fault = self.budgets.fault
        except BaseException as error:
            fault = error
        if fault is not None:
            self.warn("a budget is not checked", fault)
        report = run.finish(ended.outcome, ended.error)
        self.expectations.after_cell(frame, report, self.magics.min_seconds)
        for name in frame.outputs:
            self.shell.user_ns[name] = report
