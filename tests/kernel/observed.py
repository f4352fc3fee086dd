"""What a cell made the kernel say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["REPORT_TYPE", "Late", "Observed"]

REPORT_TYPE = "application/vnd.titan.report+json"


@dataclass
class Observed:
    """What one cell made the kernel say.

    Attributes:
        status: ``ok``, ``error`` or ``aborted``, from the reply.
        outputs: Content of every output message in order, with its type under ``type``.
        reports: The displays that hold a report of titan; they are not among ``outputs``.
        reply: Content of the execute reply.
        prompts: What ``input`` asked for.
        message_id: Id of the request.
    """

    status: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    message_id: str = ""

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The reports in titan's displays, as their JSON."""
        return [display["data"][REPORT_TYPE] for display in self.reports]

    @property
    def text(self) -> str:
        """All that was printed, on either stream."""
        return "".join(part["text"] for part in self.outputs if part["type"] == "stream")

    @property
    def result(self) -> str | None:
        """Plain text of the value in ``Out``, or None."""
        values = [part["data"]["text/plain"] for part in self.outputs if part["type"] == "execute_result"]
        return values[-1] if values else None

    def add(self, kind: str, content: dict[str, Any]) -> None:
        """Take up one output message; consecutive texts of one stream are joined."""
        data = content.get("data", {})
        if any(key.startswith("application/vnd.titan.") for key in data):
            self.reports.append({"type": kind, **content})
            return
        last = self.outputs[-1] if self.outputs else None
        if kind == "stream" and last and last["type"] == "stream" and last["name"] == content["name"]:
            last["text"] += content["text"]
        else:
            self.outputs.append({"type": kind, **content})


@dataclass(frozen=True)
class Late:
    """An output message of a cell that had ended.

    Attributes:
        kind: Its type.
        content: Its content.
        message_id: Id of the request whose output it is.
    """

    kind: str
    content: dict[str, Any]
    message_id: str
