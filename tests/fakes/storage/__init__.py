"""A disk for tests: what a process wrote and synced is recorded, and played back up to any moment."""

from __future__ import annotations

from tests.fakes.storage.build import library
from tests.fakes.storage.recording import Operation, read_recording
from tests.fakes.storage.replay import Disk, coin

__all__ = ["Disk", "Operation", "coin", "library", "read_recording"]
