"""Rows for the files of segments."""

from __future__ import annotations

import numpy as np

__all__ = ["DIMENSION", "table"]

DIMENSION = 12


def table(count: int, seed: int = 0) -> np.ndarray:
    """Return rows as a segment holds them, float32."""
    return np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
