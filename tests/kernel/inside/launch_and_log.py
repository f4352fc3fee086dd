"""ipykernel's launcher, which also logs where an interrupt met the event loop before the kernel leaves it."""

from __future__ import annotations

import sys
import traceback
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from tornado.ioloop import IOLoop

MARK = sys.argv.pop(1)


def start_and_log(loop: Any) -> None:
    try:
        type(loop).start(loop)
    except KeyboardInterrupt:
        print(MARK, traceback.format_exc(), sep="\n", file=sys.__stderr__, flush=True)
        raise


class LoggedApp(IPKernelApp):
    def start(self) -> None:
        loop = IOLoop.current()
        loop.start = lambda: start_and_log(loop)  # type: ignore[method-assign]
        super().start()


LoggedApp.launch_instance()
