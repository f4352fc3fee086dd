"""The one thread on which everything runs that may block."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from titan_nb.errors import SensorError

__all__ = ["Sampler", "Ticket"]

Job = Callable[[], Any]


class Ticket:
    """What a job will have said.

    Attributes:
        value: What the job returned; None until then, and when it failed.
        error: What it raised, or why it was not run to its end; None until then, and when it went well.
        stuck: Whether the job was given up because it did not come back.
    """

    __slots__ = ("_done", "_job", "_open", "_then", "error", "stuck", "value")

    def __init__(self, job: Job, then: Callable[[Ticket], None] | None) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.stuck = False
        self._done = threading.Event()
        self._open = [True]
        self._job = job
        self._then = then

    @property
    def done(self) -> bool:
        """Whether the job has come back, well or not."""
        return self._done.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds; return whether the job has come back."""
        return self._done.wait(timeout)

    def run(self) -> None:
        """Run the job; what it raises is kept, not raised."""
        value, error = None, None
        try:
            value = self._job()
        except BaseException as raised:
            error = raised
        self.finish(value, error)

    def finish(self, value: Any = None, error: BaseException | None = None, *, stuck: bool = False) -> bool:
        """Set the outcome; return whether this was the first one, as a job given up may still come back."""
        try:
            self._open.pop()  # The one step that two threads cannot both take.
        except IndexError:
            return False
        self.value, self.error, self.stuck = value, error, stuck
        self._done.set()
        return True

    def follow(self) -> None:
        """Run what was to follow the job, once; what it raises becomes the ticket's error."""
        then, self._then = self._then, None
        if then is not None:
            try:
                then(self)
            except BaseException as error:
                self.error = error


class Sampler:
    """Runs jobs in order on one daemon thread, which sleeps without waking up when there is nothing to do.

    A job that has not come back ``stuck_after`` seconds after it was first found to take longer than that is
    given up: its ticket fails, its thread is abandoned, and one successor goes on with the next job. That
    happens once. While the successor is stuck as well, every job fails at once; when it comes back, it goes
    on. A forked child runs no jobs.

    Args:
        stuck_after: How long a job may take, in seconds.
    """

    def __init__(self, stuck_after: float = 2.0) -> None:
        self._stuck_after = stuck_after
        self._pid = os.getpid()
        self._wake = threading.Condition()
        self._queue: deque[Ticket] = deque()
        # When, in order, how often in seconds (0: once), what; and the numbers of those that go on.
        self._later: list[tuple[float, int, float, Job | Ticket]] = []
        self._going: set[int] = set()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._current: Ticket | None = None
        self._since = 0.0
        self._overdue: Ticket | None = None
        self._overdue_since = 0.0
        self._running: int | None = None
        self._abandoned = False
        self._stalled = False

    def submit(
        self, job: Job, then: Callable[[Ticket], None] | None = None, delay_seconds: float = 0.0
    ) -> Ticket:
        """Queue ``job``; return its ticket at once.

        Args:
            job: What to run. It is never run on the caller's thread.
            then: Called with the ticket on the sampler's thread when the job has come back or was given up;
                not called where there is no such thread, and the ticket comes back failed.
            delay_seconds: How long to wait before it is run.
        """
        ticket = Ticket(job, then)
        if os.getpid() != self._pid:
            ticket.finish(error=SensorError("a forked child does not measure"))
            return ticket
        with self._wake:
            self._give_up_if_stuck()
            why = self._cannot_run()
            if why:
                ticket.finish(error=SensorError(why))
            elif delay_seconds > 0:
                due = time.monotonic() + delay_seconds
                heapq.heappush(self._later, (due, next(self._numbers), 0.0, ticket))
                # Awake, it looks by itself for what to do next; only a sleeper must be told.
                if threading.current_thread() is not self._thread:
                    self._wake.notify()
            else:
                self._queue.append(ticket)
                self._wake.notify()
        return ticket

    def every(self, seconds: float, job: Job) -> Callable[[], None]:
        """Run ``job`` every ``seconds`` seconds; return what ends that.

        A run that comes late, or takes long, delays the next one: runs never overlap and are never made up
        for. A job that raises goes on.
        """
        number = next(self._numbers)

        def cancel() -> None:
            if os.getpid() == self._pid:
                with self._wake:
                    self._going.discard(number)

        if os.getpid() == self._pid:
            with self._wake:
                if not self._cannot_run():
                    self._going.add(number)
                    heapq.heappush(self._later, (time.monotonic() + seconds, number, seconds, job))
                    self._wake.notify()
        return cancel

    def busy_seconds(self) -> float:
        """Return how long the present job has been running, in seconds; 0 when there is none."""
        current, since = self._current, self._since
        return time.monotonic() - since if current is not None else 0.0

    def check(self) -> None:
        """Give up the present job if it is stuck; every `submit` does so as well."""
        if os.getpid() == self._pid:
            with self._wake:
                self._give_up_if_stuck()

    def stop(self, timeout: float = 1.0) -> None:
        """End the thread; wait for it at most ``timeout`` seconds. A later `submit` starts another one."""
        if os.getpid() != self._pid:
            return
        with self._wake:
            thread, self._thread = self._thread, None
            self._current = None
            self._fail_queue("the sampler was stopped")
            self._later.clear()
            self._going.clear()
            self._abandoned = self._stalled = False
            self._wake.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _cannot_run(self) -> str:
        """Start the thread if there is none; return why jobs cannot run, or nothing."""
        if self._stalled:
            return "the sampler is stuck"
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="titan-sampler", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError as error:  # too many threads, or the interpreter is ending
                self._thread = None
                return f"the sampler's thread cannot be started: {error}"
        return ""

    def _give_up_if_stuck(self) -> None:
        current = self._current
        if current is None or self._stalled or self.busy_seconds() <= self._stuck_after:
            return
        now = time.monotonic()
        if self._overdue is not current:
            # The user's code may have held the interpreter's lock all the while, as `import torch` does for
            # seconds: from now on the job has its chance.
            self._overdue, self._overdue_since = current, now
        if now - self._overdue_since <= self._stuck_after:
            return
        error = SensorError(f"did not answer within {self._stuck_after:g} s")
        first = current.finish(error=error, stuck=True)
        if self._running is not None:
            self._going.discard(self._running)
        if self._abandoned:
            self._stalled = True
            self._fail_queue("the sampler is stuck")
            return
        self._abandoned = True
        self._thread = self._current = None
        if first:
            self._queue.appendleft(Ticket(current.follow, None))
        self._cannot_run()

    def _fail_queue(self, why: str) -> None:
        while self._queue:
            self._queue.popleft().finish(error=SensorError(why))

    def _run(self) -> None:
        me = threading.current_thread()
        while (ticket := self._next(me)) is not None:
            ticket.run()
            # A successor, if there is one, has already done what was to follow a job that was given up.
            if self._thread is me or not ticket.stuck:
                ticket.follow()

    def _next(self, me: threading.Thread) -> Ticket | None:
        """Wait for the next job; return None when this thread is no longer wanted."""
        with self._wake:
            if self._thread is me:
                self._current, self._stalled = None, False
            while self._thread is me:
                ticket, wait = self._due()
                if ticket is not None:
                    self._since = time.monotonic()
                    self._current = ticket
                    return ticket
                self._wake.wait(wait)
            return None

    def _due(self) -> tuple[Ticket | None, float | None]:
        """Return the job to run now, or else how long to sleep: for ever when nothing is to come."""
        self._running = None
        if self._queue:
            return self._queue.popleft(), None
        while self._later:
            due, number, seconds, job = self._later[0]
            if job.done if isinstance(job, Ticket) else number not in self._going:
                heapq.heappop(self._later)
                continue
            now = time.monotonic()
            if due > now:
                return None, due - now
            if isinstance(job, Ticket):
                heapq.heappop(self._later)
                return job, None
            heapq.heapreplace(self._later, (now + seconds, number, seconds, job))
            self._running = number
            return Ticket(job, None), None
        return None, None
