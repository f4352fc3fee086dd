"""How much memory a cell would take: by running it on tensors without data, and by what it took last time."""

from __future__ import annotations

from titan_nb.memory.forecast.fork import LIMIT_SECONDS, forecast
from titan_nb.memory.forecast.history import History
from titan_nb.memory.forecast.prediction import Forecast

__all__ = ["LIMIT_SECONDS", "Forecast", "History", "forecast"]
