"""The format of a memory's folder, and the steps that bring an older one up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

__all__ = ["FORMAT", "STEPS", "migrate"]

FORMAT = 1
"""The format that this version writes; kept as ``PRAGMA user_version``."""

STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {}
"""What brings a memory from the format that is the key to the next; none was on a disk before 1."""


def migrate(
    connection: sqlite3.Connection,
    steps: Mapping[int, Callable[[sqlite3.Connection], None]] = STEPS,
    target: int = FORMAT,
) -> int:
    """Bring a memory up to date, one step after the other, each as a whole or not at all.

    Args:
        connection: To its database, in autocommit.
        steps: What to do at which format; a step neither begins nor ends a transaction.
        target: The format to reach.

    Returns:
        How many steps were taken.

    Raises:
        KeyError: If there is no step from the format that it has.
    """
    begun = version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    while version < target:
        connection.execute("BEGIN IMMEDIATE")
        try:
            steps[version](connection)
            version += 1
            connection.execute(f"PRAGMA user_version={version}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    return version - begun
