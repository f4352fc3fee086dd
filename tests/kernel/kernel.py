"""A real ipykernel in its own process, spoken to as a front end does."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.connect import write_connection_file
from jupyter_client.session import Session

from tests.kernel.cell import Cell
from tests.kernel.observed import Late, Observed

__all__ = ["Kernel", "KernelDiedError", "Observed"]

CELL_SECONDS = 90
START_SECONDS = 90
SETTLE_SECONDS = 0.3
"""Between a cell's cue and the interrupt, so that the signal finds the statement after the cue."""


class KernelDiedError(Exception):
    """The kernel ended, or stopped answering, while a cell was running.

    Attributes:
        exit_code: What the process ended with; None if it has not ended.
    """

    def __init__(self, text: str, exit_code: int | None) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass
class _Open:
    cell: Cell
    observed: Observed
    answers: list[str] = field(default_factory=list)
    idle: bool = False
    interrupt_at: float | None = None


class Kernel:
    """A kernel process, spoken to in the Jupyter protocol over ipc sockets.

    Sockets in a private folder, because a client that is left over from a dead kernel would find
    the TCP port of a new one.

    Args:
        python: The interpreter that runs ipykernel.
        path: Folders that go in front of the kernel's ``sys.path``.
        environment: Changes to the environment; a value of None removes the name.

    Attributes:
        launcher: What the interpreter runs.
    """

    launcher: tuple[str, ...] = ("-m", "ipykernel_launcher")

    def __init__(
        self,
        python: str | Path,
        *,
        path: Sequence[str | Path] = (),
        environment: dict[str, str | None] | None = None,
    ) -> None:
        self._python = str(python)
        self._path = [str(folder) for folder in path]
        self._environment = environment or {}
        self._cleanup = contextlib.ExitStack()
        self._open: dict[str, _Open] = {}
        self.late: list[Late] = []

    def __enter__(self) -> Kernel:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start(self) -> None:
        folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="titan-")))
        self.folder = folder / "cwd"
        self.folder.mkdir()
        connection = folder / "kernel.json"
        _, info = write_connection_file(
            str(connection), ip=str(folder / "s"), transport="ipc", key=os.urandom(16).hex().encode()
        )
        environment = os.environ | {
            "IPYTHONDIR": str(folder / "ipython"),
            "JPY_PARENT_PID": str(os.getpid()),
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(self._path),
            **{key: value for key, value in self._environment.items() if value is not None},
        }
        for key in (
            "PYTHONWARNINGS",
            "TITAN_NB_DISPLAY",
            *(k for k, v in self._environment.items() if v is None),
        ):
            environment.pop(key, None)
        self._log = self._cleanup.enter_context((folder / "log").open("w+"))
        self._process = subprocess.Popen(
            [self._python, *self.launcher, "-f", str(connection)],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._cleanup.callback(self._kill)
        self._session = Session(key=info["key"].encode(), signature_scheme=info["signature_scheme"])
        context = zmq.Context()
        self._cleanup.callback(context.destroy, linger=0)
        self._shell, self._iopub, self._stdin, self._control = (
            self._connect(context, kind, f"ipc://{info['ip']}-{info[name + '_port']}")
            for kind, name in (
                (zmq.DEALER, "shell"),
                (zmq.SUB, "iopub"),
                (zmq.DEALER, "stdin"),
                (zmq.DEALER, "control"),
            )
        )
        self._poller = zmq.Poller()
        for socket in (self._shell, self._iopub, self._stdin):
            self._poller.register(socket, zmq.POLLIN)
        self._await_ready()
        self._cleanup.callback(self._shut_down)

    def _connect(self, context: zmq.Context[Any], kind: int, address: str) -> zmq.Socket[Any]:
        socket = context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        # The stdin requests are routed by this name, so it is the same on shell and stdin.
        socket.setsockopt(zmq.IDENTITY, self._session.bsession)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(address)
        return socket

    def _await_ready(self) -> None:
        """Ask until an answer also arrives on iopub, so that no output of the first cell is missed."""
        deadline = time.monotonic() + START_SECONDS
        heard: set[str] = set()
        while heard < {"shell", "iopub"}:
            self._check_alive(deadline)
            self._session.send(self._shell, "kernel_info_request", {})
            for socket, _ in self._poller.poll(500):
                self._receive(socket)
                heard.add("iopub" if socket is self._iopub else "shell")
        while self._poller.poll(200):
            for socket, _ in self._poller.poll(0):
                self._receive(socket)

    def _check_alive(self, deadline: float) -> None:
        if self._process.poll() is not None or time.monotonic() > deadline:
            waiting = "; ".join(repr(entry.cell.body) for entry in self._open.values())
            self._log.flush()
            exit_code = self._process.poll()
            raise KernelDiedError(
                f"{self._python}: exit code {exit_code}, waiting for {waiting or 'its start'}\n"
                + (Path(self._log.name)).read_text()[-8000:],
                exit_code,
            )

    def _receive(self, socket: zmq.Socket[Any]) -> dict[str, Any]:
        _, frames = self._session.feed_identities(socket.recv_multipart())
        message: dict[str, Any] = self._session.deserialize(frames)
        return message

    def _shut_down(self) -> None:
        self._session.send(self._control, "shutdown_request", {"restart": False})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    @property
    def pid(self) -> int:
        """Process id of the kernel."""
        return self._process.pid

    def ended_within(self, seconds: float) -> bool:
        """Return whether the process ends by itself in that time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def interrupt(self) -> None:
        """Do what the front end's stop button does: SIGINT to the kernel's process group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def send(self, cell: Cell | str) -> str:
        """Queue a cell and return its message id."""
        cell = Cell(cell) if isinstance(cell, str) else cell
        content = {
            "code": cell.body,
            "silent": cell.silent,
            "store_history": cell.store_history,
            "user_expressions": dict(cell.expressions),
            "allow_stdin": bool(cell.answers),
            "stop_on_error": True,
        }
        metadata = {} if cell.cell_id is None else {"cellId": cell.cell_id}
        message = self._session.msg("execute_request", content, metadata=metadata)
        message_id = str(message["header"]["msg_id"])
        entry = _Open(cell, Observed(message_id=message_id), list(cell.answers))
        if cell.interrupt_after_seconds is not None:
            entry.interrupt_at = time.monotonic() + cell.interrupt_after_seconds
        self._open[message_id] = entry
        self._session.send(self._shell, message)
        return message_id

    def collect(self, message_id: str) -> Observed:
        """Wait until a queued cell has ended, and return what it made the kernel say.

        Raises:
            KernelDiedError: If the kernel ended or did not answer in time.
        """
        entry = self._open[message_id]
        deadline = time.monotonic() + CELL_SECONDS
        while not (entry.observed.status and (entry.idle or entry.observed.status == "aborted")):
            for socket, _ in self._poller.poll(50):
                self._dispatch(socket)
            if entry.interrupt_at is not None and time.monotonic() >= entry.interrupt_at:
                entry.interrupt_at = None
                self.interrupt()
            if not self._poller.poll(0):
                self._check_alive(deadline)
        del self._open[message_id]
        return entry.observed

    def run(self, cell: Cell | str) -> Observed:
        """Run one cell to its end.

        It is sent again as long as it is aborted: ipykernel 6 goes on aborting what arrives within
        some milliseconds after the reply of a failed cell.
        """
        while True:
            observed = self.collect(self.send(cell))
            if observed.status != "aborted":
                return observed
            time.sleep(0.02)

    def run_all(self, cells: Iterable[Cell | str]) -> list[Observed]:
        """Queue all cells at once, as Run All does, and return what each made the kernel say."""
        return [self.collect(message_id) for message_id in [self.send(cell) for cell in cells]]

    def evaluate(self, expression: str) -> Any:
        """Return a literal from the kernel, by a silent request that is no cell."""
        reply = self.run(Cell("", silent=True, store_history=False, expressions={"x": expression})).reply
        answer = reply["user_expressions"]["x"]
        if answer["status"] != "ok":
            raise ValueError(f"{expression}: {answer['ename']}: {answer['evalue']}")
        return ast.literal_eval(answer["data"]["text/plain"])

    def listen(self, seconds: float) -> list[Late]:
        """Go on listening after a cell, and return what came too late for its cell since the last time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for socket, _ in self._poller.poll(int(left * 1000) + 1):
                self._dispatch(socket)
        late, self.late = self.late, []
        return late

    def _dispatch(self, socket: zmq.Socket[Any]) -> None:
        message = self._receive(socket)
        kind, content = message["msg_type"], message["content"]
        message_id = message["parent_header"].get("msg_id", "")
        entry = self._open.get(message_id)
        if entry is None:
            if socket is self._iopub and kind not in ("status", "execute_input"):
                self.late.append(Late(kind, content, message_id))
        elif kind == "execute_reply":
            entry.observed.status = content["status"]
            entry.observed.reply = content
        elif kind == "status":
            entry.idle = entry.idle or content["execution_state"] == "idle"
        elif kind == "input_request":
            entry.observed.prompts.append(content["prompt"])
            answer = entry.answers.pop(0) if entry.answers else ""
            self._session.send(self._stdin, "input_reply", {"value": answer}, parent=message)
        elif socket is self._iopub and kind != "execute_input":
            entry.observed.add(kind, content)
            cue = entry.cell.interrupt_on
            if cue and kind == "stream" and cue in content["text"]:
                entry.interrupt_at = time.monotonic() + SETTLE_SECONDS
