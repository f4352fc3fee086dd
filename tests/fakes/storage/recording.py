"""What a process did to files, as the recorder wrote it down."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Kind", "Operation", "read_recording"]

Kind = Literal["create", "write", "truncate", "rename", "unlink", "mkdir", "sync", "say"]
KINDS: tuple[Kind, ...] = ("create", "write", "truncate", "rename", "unlink", "mkdir", "sync", "say")
HEADER = struct.Struct("=3IQ")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that succeeded.

    Attributes:
        kind: What it did.
        path: To which file or folder, relative to the recorded one, which is ``""``.
        data: What was written, or said.
        number: Where it was written, or the size that was cut to.
        target: The new name of a renamed file.
    """

    kind: Kind
    path: str
    data: bytes = b""
    number: int = 0
    target: str = ""


def read_recording(log: Path, root: Path) -> list[Operation]:
    """Return the operations in order."""
    data, operations, at = log.read_bytes(), [], 0
    while at < len(data):
        kind, path_length, length, number = HEADER.unpack_from(data, at)
        at += HEADER.size
        path = data[at : at + path_length].decode()
        at += path_length
        content = data[at : at + length]
        at += length
        target = relative(content.decode(), root) if KINDS[kind - 1] == "rename" else ""
        kept = b"" if target else content
        operations.append(Operation(KINDS[kind - 1], relative(path, root), kept, number, target))
    return operations


def relative(path: str, root: Path) -> str:
    return path.removeprefix(str(root)).removeprefix("/")
