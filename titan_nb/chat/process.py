"""Embeddings in, normalised embeddings out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from titan_nb.chat.device import own_rules, resolve
from titan_nb.chat.normalise import normalise
from titan_nb.chat.rows import read_rows
from titan_nb.errors import SettingsError
from titan_nb.memory.accelerator import accelerator

if TYPE_CHECKING:
    import torch

__all__ = ["process_embeddings"]

_OPTIONS = ("batch_size", "device")


def process_embeddings(embeddings: Any, options: Mapping[str, Any] | None = None) -> torch.Tensor:
    """Normalise each row of ``embeddings`` to length one.

    The work is done on the GPU when the embeddings are there, or when this process uses one already; titan
    never starts a GPU by itself. A batch that does not fit into memory is halved, down to one row.

    Args:
        embeddings: Tensor, array or list of lists of shape (n, d); not modified.
        options: ``batch_size``, the rows per batch, and ``device``, such as ``"cpu"`` or ``"cuda:0"``.

    Returns:
        A new float32 tensor of shape (n, d) whose rows have Euclidean length 1 +- 1e-6.

    Raises:
        ChatError: If the shape or dtype is wrong, or a row holds NaN, infinity or only zeros.
        ResourceError: If memory is short even for a batch of one row; it says how many bytes were requested
            and how many are available.
        SettingsError: If an option is unknown or has a value that cannot be used.
    """
    batch_size, device = _read_options(options)
    where = None if device is None else resolve(device)
    with own_rules(where or resolve("cpu")):
        rows = read_rows(embeddings)
    return normalise(rows, where or _nearest_device(rows), batch_size)


def _read_options(options: Mapping[str, Any] | None) -> tuple[int | None, Any]:
    if options is None:
        return None, None
    if not isinstance(options, Mapping):
        raise SettingsError(
            f"options is a {type(options).__name__}: pass a dict, such as {{'batch_size': 256}}"
        )
    for name in options:
        if name not in _OPTIONS:
            nearest = difflib.get_close_matches(str(name), _OPTIONS, n=1, cutoff=0.0)[0]
            raise SettingsError(f"unknown option {name!r}; did you mean {nearest!r}?")
    batch_size = options.get("batch_size")
    wrong_kind = isinstance(batch_size, bool) or not isinstance(batch_size, int)
    if batch_size is not None and (wrong_kind or batch_size < 1):
        raise SettingsError(f"batch_size is {batch_size!r}: give a whole number of rows, 1 or more")
    return batch_size, options.get("device")


def _nearest_device(rows: torch.Tensor) -> torch.device:
    import torch

    gpu = accelerator()
    # The work is in float64, which Apple's GPU has not.
    if rows.device.type != "cpu" or gpu is None or gpu.kind == "mps":
        return rows.device
    return torch.device(gpu.kind, gpu.current_index())
