"""One shell under titan: which cells are measured, and what is shown of them."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from titan_nb.errors import TitanError
from titan_nb.notebook import remember
from titan_nb.notebook.budgets import Budgets
from titan_nb.notebook.cells import Cells, Ended, Frame
from titan_nb.notebook.interrupts import InterruptedCell, Shield
from titan_nb.notebook.present import Presenter
from titan_nb.settings import Settings
from titan_nb.tracker import Run, Tracker

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
                    if self.always:
                        frame.run = self.tracker.begin(frame.cell, self.magics.settings())
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
            try:
                left = self._close(self.cells.leave(result))
            except BaseException as error:
                left = None
                self.warn("the report of this cell is lost", error)
        if left is None:
            return
        run, frame, ended = left
        if run.settings.chat is not None:
            # Outside the shield: the encoder is the user's code, and may be interrupted.
            run.chat = remember.store(run, ended, self.warn)
        with Shield():
            try:
                self._finish(run, frame, ended)
            except BaseException as error:
                self.warn("the report of this cell is lost", error)

    def track(self, settings: Settings, output: str | None) -> None:
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
                if frame.run is None:
                    self.budgets.check()
                    frame.run = self.tracker.begin(frame.cell, settings)
                else:
                    frame.run.change(settings)
                self.budgets.watch(frame)
            except TitanError as error:
                raise UsageError(str(error)) from None
            except BaseException as error:
                self.warn("this cell is not measured", error)
            frame.explicit = True
            if output is not None and output not in frame.outputs:
                frame.outputs.append(output)
        shield.deliver()  # we stand in the user's cell: this is its interrupt

    def switch(self, on: bool) -> None:
        """Measure every cell from now on, beginning with this one, or none, ending with this one."""
        frame = self.cells.current()
        if on and frame is not None and frame.run is None:
            # First, so that settings that cannot be used are an error here and not a warning at every cell.
            frame.run = self.tracker.begin(frame.cell, self.magics.settings())
            self.budgets.watch(frame)
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
        self.budgets.close()
        running, self.audit = self.audit, None
        if running is not None:
            with contextlib.suppress(TitanError):  # its threads end; nobody asked for its figures
                running.stop()
        frame = self.cells.current()
        if frame is not None and frame.run is not None:
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

    def _recover(self) -> None:
        """Write the report of an earlier cell whose end an interrupt has taken away."""
        closed = self._close(self.cells.lost())
        if closed is not None:
            closed[0].notes.append(LOST_END)
            self._report(*closed)

    def _close(self, left: tuple[Frame, Ended] | None) -> tuple[Run, Frame, Ended] | None:
        """Close the window of a cell that has ended, if it has one and began to run."""
        if left is None or left[0].run is None:
            return None
        frame, ended = left
        run = left[0].run
        self.budgets.leave(frame)  # first: from here on an interrupt of ours would meet IPython
        if not ended.ran:
            run.drop()
            return None
        run.close()
        run.cell = frame.cell
        return run, frame, ended

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
        for name in frame.outputs:
            self.shell.user_ns[name] = report
