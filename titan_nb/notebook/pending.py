"""Whether the user's ``clear_output(wait=True)`` still waits for the next output.

Any display of ours would be that output and wipe what the user shows. ipykernel lets a listener see what is
sent; its hooks belong to one thread each, and streams are sent from its own output thread.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

__all__ = ["PendingClear"]


class PendingClear:
    """Listens to the outputs of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._waiting: set[str | None] = set()
        self._seen = threading.local()
        self._undo: list[tuple[Any, Any]] = []
        self._closed = False

    def listen(self) -> None:
        """Begin to listen in this thread; a second call does nothing."""
        if getattr(self._seen, "yes", False):
            return
        self._seen.yes = True
        for target in (self._shell.display_pub, self._shell.displayhook):
            self._hook(target)
        for stream in (sys.stdout, sys.stderr):
            thread = getattr(stream, "pub_thread", None)
            if thread is not None and hasattr(stream, "register_hook"):
                thread.schedule(lambda stream=stream: self._hook(stream))

    def waits(self, message_id: str | None) -> bool:
        """Say whether a clear of the request ``message_id`` still waits for an output."""
        if message_id not in self._waiting:
            return False
        # What was printed last may still be on its way through the output thread.
        sys.stdout.flush()
        sys.stderr.flush()
        return message_id in self._waiting

    def forget(self, message_id: str | None) -> None:
        """Drop what is known about a request that is over."""
        self._waiting.discard(message_id)

    def close(self) -> None:
        """Stop listening, in every thread."""
        self._closed = True
        for target, thread in self._undo:
            if thread is None:
                with contextlib.suppress(ValueError):
                    target.unregister_hook(self._message)
            else:
                thread.schedule(lambda target=target: target.unregister_hook(self._message))
        self._undo.clear()

    def _hook(self, target: Any) -> None:
        if hasattr(target, "register_hook"):
            target.register_hook(self._message)
            self._undo.append((target, getattr(target, "pub_thread", None)))

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        if not self._closed:
            request = (message.get("parent_header") or {}).get("msg_id")
            kind = message.get("msg_type")
            if kind == "clear_output" and message["content"].get("wait"):
                self._waiting.add(request)
            elif kind != "update_display_data":  # an update changes an old output and clears nothing
                self._waiting.discard(request)
        return message
