"""What runs the cells: a shell in this process, or a real kernel; both count their CPU time."""

from __future__ import annotations

import io
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from ipykernel.zmqshell import ZMQDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.session import Session
from traitlets import Type
from traitlets.config import Config

__all__ = ["Cpu", "KernelTarget", "ShellTarget", "Target"]

Cpu = tuple[float, "float | None"]
"""CPU seconds of the process with its finished children; and of the thread that runs cells, if known."""

_CELL_SECONDS = 120


class Target(Protocol):
    """Something that runs cells.

    Attributes:
        displays: How many rich displays the cells have sent.
    """

    displays: int

    def run(self, cell: str) -> None:
        """Run one cell to its end.

        Raises:
            RuntimeError: If the cell fails.
        """
        ...

    def cpu(self) -> Cpu:
        """Return what has been used so far."""
        ...


class _NullSocket:
    """Where the messages go: signed and serialised as for a front end, then dropped."""

    def send_multipart(self, parts: list[bytes], copy: bool = True) -> None:
        del parts, copy


class _Stream(io.TextIOBase):
    """Standard output as a kernel has it: what a cell prints becomes one message."""

    def __init__(self, session: Session, socket: _NullSocket) -> None:
        self._session, self._socket = session, socket
        self._parts: list[str] = []

    def write(self, text: str) -> int:
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        if self._parts:
            content = {"name": "stdout", "text": "".join(self._parts)}
            self._parts.clear()
            self._session.send(self._socket, "stream", content)  # type: ignore[arg-type]


class _Shell(InteractiveShell):
    display_pub_class = Type(ZMQDisplayPublisher)


class ShellTarget:
    """An IPython shell in this process, whose outputs go the way of a kernel's, into a null socket."""

    def __init__(self) -> None:
        self.displays = 0
        config = Config()
        config.HistoryManager.hist_file = ":memory:"
        session, socket = Session(), _NullSocket()
        self._stream = _Stream(session, socket)
        self._real = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self._stream
        self._shell = _Shell.instance(config=config)
        publisher = self._shell.display_pub
        publisher.session, publisher.pub_socket = session, socket
        publisher.register_hook(self._count)

    def __enter__(self) -> ShellTarget:
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout, sys.stderr = self._real

    def _count(self, message: dict[str, Any]) -> dict[str, Any]:
        self.displays += message["header"]["msg_type"] == "display_data"
        return message

    def run(self, cell: str) -> None:
        """Run one cell, and send what it printed."""
        result = self._shell.run_cell(cell, store_history=True)
        self._stream.flush()
        if not result.success:
            raise RuntimeError(f"{cell!r} failed: {result.error_before_exec or result.error_in_exec!r}")

    def define(self, name: str, value: object) -> None:
        """Give the cells a variable."""
        self._shell.user_ns[name] = value

    def cpu(self) -> Cpu:
        """Return the CPU time of this process with its finished children, and of this thread."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime, time.thread_time()


class KernelTarget:
    """A real ipykernel, driven as a notebook front end drives it."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import start_new_kernel

        self.displays = 0
        self._manager, self._client = start_new_kernel(
            kernel_name="python3", cwd=str(folder), env=os.environ | {"IPYTHONDIR": str(folder)}
        )
        self._pid = self._manager.provisioner.pid

    def run(self, cell: str) -> None:
        """Run one cell and wait for its reply and for idle."""
        content = self._execute(cell)
        if content["status"] != "ok":
            raise RuntimeError(f"{cell!r} failed: {content.get('ename')}: {content.get('evalue')}")

    def cpu(self) -> Cpu:
        """Return the CPU time of the kernel's process.

        The clock id is that of clock_getcpuclockid(3); /proc/<pid>/stat counts in ticks of 10 ms only.
        """
        return time.clock_gettime((~self._pid << 3) | 2), None

    def __enter__(self) -> KernelTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def _execute(self, code: str) -> dict[str, Any]:
        client = self._client
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        # As JupyterLab and VS Code send it: a cell with an id may get an update of its display.
        request = client.session.msg("execute_request", content, metadata={"cellId": "benchmark"})
        client.shell_channel.send(request)
        number = request["header"]["msg_id"]
        while True:
            message = client.get_iopub_msg(timeout=_CELL_SECONDS)
            if message["parent_header"].get("msg_id") != number:
                continue
            kind = message["header"]["msg_type"]
            self.displays += kind == "display_data"
            if kind == "status" and message["content"]["execution_state"] == "idle":
                break
        while True:
            reply = client.get_shell_msg(timeout=_CELL_SECONDS)
            if reply["parent_header"].get("msg_id") == number:
                return dict(reply["content"])
