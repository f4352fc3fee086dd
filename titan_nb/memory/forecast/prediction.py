"""What a forecast says: how much memory a cell would take, and how far that was followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from titan_nb import units

__all__ = ["Forecast"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the tensors of a cell would take at most, by device.

    It counts torch's tensors, storage by storage, on an accelerator in blocks of 512 bytes. What a kernel
    needs while it works (cuBLAS workspaces, a convolution's scratch) and what the caching allocator keeps
    beyond it are not in it. Which kernel an operation uses is what torch chooses for the tensor's device.

    Attributes:
        resident_bytes: What each device held before the cell, such as ``{"cpu": 84000000}``.
        peak_bytes: The most that each device would hold while the cell runs, the resident part included.
        stopped_line: The line of the cell at which the forecast ended early; None if it ran to the end, or
            if the line is not known.
        reason: Why it ended early; None if it ran to the end.
        refused: What the forecast did not do, with the line, such as ``line 3: write to 'model.pt'``.
        statements: How many statements of the cell were followed to their end.
        seconds: How long the forecast took.
    """

    resident_bytes: Mapping[str, int]
    peak_bytes: Mapping[str, int]
    stopped_line: int | None
    reason: str | None
    refused: tuple[str, ...]
    statements: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether the cell was followed to its end."""
        return self.reason is None

    @property
    def additional_bytes(self) -> dict[str, int]:
        """What each device would hold at most on top of what it held before the cell."""
        return {device: peak - self.resident_bytes.get(device, 0) for device, peak in self.peak_bytes.items()}

    def describe(self) -> str:
        """Return the forecast as text: one line, and one more for each thing that was refused."""
        lines = [f"{self._amount()}; {self._end()}"]
        lines += [f"not done: {one}" for one in self.refused if not self._ended_with(one)]
        return "\n".join(lines)

    def _ended_with(self, refused: str) -> bool:
        """Say whether what was refused is what ended the forecast, and so has been said."""
        where, _, what = refused.partition(": ")
        return where == f"line {self.stopped_line}" and (self.reason or "").endswith(what)

    def _amount(self) -> str:
        extras = self.additional_bytes
        # A loss on the host beside gigabytes on the GPU is not worth a reader's time.
        least = max(extras.values(), default=0) / 1000
        more = {device: extra for device, extra in extras.items() if extra > least}
        if not more:
            return "predicted: no tensor memory beyond what is held now"
        partly = "" if self.complete else "at least "
        parts = [
            f"{partly}{units.byte_size(self.peak_bytes[device])} on {device} "
            f"({units.byte_size(extra)} more than now)"
            for device, extra in sorted(more.items())
        ]
        return f"predicted peak {', '.join(parts)}"

    def _end(self) -> str:
        if self.complete:
            return f"ran to the end in {units.seconds(self.seconds)}"
        where = "" if self.stopped_line is None else f"up to line {self.stopped_line}, then "
        return f"{where}{self.reason}"
