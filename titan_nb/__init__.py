"""Run notebook cells as they are and learn what each one cost: energy, carbon, memory and time.

In a notebook: ``%load_ext titan_nb``, then ``%%titan`` above a cell, or ``%titan on`` once. In a program:
``with titan_nb.track() as run: ...`` and ``run.report``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from titan_nb._version import __version__

# Not lazily, like the others: importing the module later would hide the function of the same name.
from titan_nb.ledger import Ledger

if TYPE_CHECKING:
    import pandas as pd

    from titan_nb.carbon import zones
    from titan_nb.chat import ChatMemory, process_embeddings
    from titan_nb.comparison import Compared, compare
    from titan_nb.errors import (
        BudgetExceeded,
        ChatError,
        ResourceError,
        SensorError,
        SettingsError,
        SpillError,
        TitanError,
    )
    from titan_nb.memory.batching import fit_batch
    from titan_nb.memory.chunks import chunks
    from titan_nb.memory.device import device
    from titan_nb.memory.owners import owners
    from titan_nb.memory.stats import memory_stats
    from titan_nb.records import Carbon, CellRef, Cost, DeviceMemory, Energy, Gap, Kept, MemoryUse, Report
    from titan_nb.repeat import Repeated, measure
    from titan_nb.settings import CarbonConfig, Settings
    from titan_nb.tracker import track
    from titan_nb.views.text import describe

__all__ = [
    "BudgetExceeded",
    "Carbon",
    "CarbonConfig",
    "CellRef",
    "ChatError",
    "ChatMemory",
    "Compared",
    "Cost",
    "DeviceMemory",
    "Energy",
    "Gap",
    "Kept",
    "Ledger",
    "MemoryUse",
    "Repeated",
    "Report",
    "ResourceError",
    "SensorError",
    "Settings",
    "SettingsError",
    "SpillError",
    "TitanError",
    "__version__",
    "chat_memory",
    "chunks",
    "compare",
    "describe",
    "device",
    "fit_batch",
    "history",
    "ledger",
    "load_ipython_extension",
    "measure",
    "memory_stats",
    "owners",
    "process_embeddings",
    "track",
    "unload_ipython_extension",
    "zones",
]

# Public names and where they live; each room is imported when its name is first used.
_HOMES = {
    "BudgetExceeded": "errors",
    "Carbon": "records",
    "CarbonConfig": "settings",
    "CellRef": "records",
    "ChatError": "errors",
    "ChatMemory": "chat",
    "Compared": "comparison",
    "Cost": "records",
    "DeviceMemory": "records",
    "Energy": "records",
    "Gap": "records",
    "Kept": "records",
    "MemoryUse": "records",
    "Repeated": "repeat",
    "Report": "records",
    "ResourceError": "errors",
    "SensorError": "errors",
    "Settings": "settings",
    "SettingsError": "errors",
    "SpillError": "errors",
    "TitanError": "errors",
    "chunks": "memory.chunks",
    "compare": "comparison",
    "describe": "views.text",
    "device": "memory.device",
    "fit_batch": "memory.batching",
    "measure": "repeat",
    "memory_stats": "memory.stats",
    "owners": "memory.owners",
    "process_embeddings": "chat",
    "track": "tracker",
    "zones": "carbon",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def ledger() -> Ledger:
    """Return the session of this process: its reports, gaps and totals."""
    from titan_nb.tracker import default

    return default().ledger


def history() -> pd.DataFrame:
    """Return the session as a pandas DataFrame, one row a report, with the unit in each column's name."""
    return ledger().to_frame()


def chat_memory() -> ChatMemory:
    """Return the kernel's own chat memory: what ``--chat`` fills and ``%titan recall`` searches."""
    from titan_nb.chat import default

    return default()


def load_ipython_extension(shell: Any) -> None:
    """Load titan into an IPython shell; what ``%load_ext titan_nb`` calls."""
    from titan_nb.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take titan out of an IPython shell; what ``%unload_ext titan_nb`` calls."""
    from titan_nb.notebook.extension import unload

    unload(shell)
