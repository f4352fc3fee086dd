"""Embeddings of any kind, read as one table of floating-point rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["read_query", "read_rows"]

_KINDS = "a torch tensor, a NumPy array or a list of floating-point numbers"
_FLOATS = "float16, bfloat16, float32 or float64"


def read_rows(embeddings: Any) -> torch.Tensor:
    """Read ``embeddings`` as a tensor of shape (n, d), which may share memory with it.

    Args:
        embeddings: A tensor of float16, bfloat16, float32 or float64 on any device, in any memory order, an
            array or data frame of such numbers, or a list with one list, 1-D tensor or 1-D array per row.

    Raises:
        ChatError: If it is anything else; the values themselves are not looked at.
    """
    if isinstance(embeddings, (list, tuple)):
        return _stack(embeddings)
    table = _read_tensor(embeddings, "row 0, like every row,")
    shape = tuple(table.shape)
    if len(shape) < 2:
        raise ChatError(
            f"row 0 is not a row but a number: the embeddings have shape {shape} and need (rows, dimension); "
            "for a single row x pass x[None, :]"
        )
    if len(shape) > 2:
        raise ChatError(
            f"row 0 has shape {shape[1:]}, not (dimension,): the embeddings have shape {shape} "
            "and need (rows, dimension); for a batch x pass x.reshape(-1, x.shape[-1])"
        )
    if shape[1] == 0:
        raise ChatError(f"row 0, like every row, is empty: the embeddings have shape {shape}")
    return table


def read_query(query: Any) -> torch.Tensor:
    """Read ``query`` as a tensor of shape (d,), which may share memory with it.

    Raises:
        ChatError: If it is not one row of floating-point numbers.
    """
    return _read_row(query, "the query")


def _stack(items: Sequence[Any]) -> torch.Tensor:
    import torch

    if not items:
        raise ChatError("the embeddings are an empty list: pass at least one row")
    if isinstance(items[0], (int, float)):
        raise ChatError("row 0 is not a row but a number: for a single row x pass [x], or x[None, :]")
    rows = [_read_row(item, f"row {number}") for number, item in enumerate(items)]
    first = rows[0]
    for number, row in enumerate(rows):
        if len(row) != len(first):
            raise ChatError(f"row {number} has {len(row)} numbers, row 0 has {len(first)}: all must be equal")
    double = any(row.dtype == torch.float64 for row in rows)
    dtype = torch.float64 if double else torch.float32
    return torch.stack([row.to(device=first.device, dtype=dtype) for row in rows])


def _read_row(item: Any, subject: str) -> torch.Tensor:
    row = _read_numbers(item, subject) if isinstance(item, (list, tuple)) else _read_tensor(item, subject)
    shape = tuple(row.shape)
    if len(shape) == 1 and shape[0] > 0:
        return row
    remedy = "; for the first row of a table x pass x[0]" if len(shape) == 2 else ""
    raise ChatError(f"{subject} has shape {shape} and needs (dimension,){remedy}")


def _read_numbers(numbers: Sequence[Any], subject: str) -> torch.Tensor:
    import numpy as np
    import torch

    for kind in set(map(type, numbers)):
        if kind is bool or not issubclass(kind, (int, float, np.floating, np.integer)):
            raise ChatError(f"{subject} holds a {kind.__name__}: a list must hold plain numbers")
    try:
        return torch.from_numpy(np.array(numbers, dtype=np.float64))
    except OverflowError as error:
        raise ChatError(f"{subject} holds a number too large for float64") from error


def _read_tensor(value: Any, subject: str) -> torch.Tensor:
    import torch

    if not isinstance(value, torch.Tensor):
        return torch.from_numpy(_read_array(value, subject))
    if value.is_nested or value.layout != torch.strided:
        raise ChatError(f"{subject} is in a sparse or nested tensor: pass a dense one, such as x.to_dense()")
    if value.is_quantized:
        raise ChatError(f"{subject} is quantised: pass x.dequantize()")
    if value.is_meta:
        raise ChatError(f"{subject} is on the meta device, which holds no numbers: pass a real tensor")
    if value.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        name = str(value.dtype).removeprefix("torch.")
        raise ChatError(f"{subject} has dtype {name} and needs {_FLOATS}: pass x.float() if that is meant")
    return value


def _read_array(value: Any, subject: str) -> np.ndarray[Any, Any]:
    import numpy as np

    if not hasattr(value, "__array__"):
        raise ChatError(f"{subject} comes as {type(value).__name__}, not as numbers: pass {_KINDS}")
    if np.ma.is_masked(value):
        raise ChatError(f"{subject} is in an array with masked numbers: fill them, or drop their rows")
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a foreign __array__ raises
        raise ChatError(
            f"{subject} comes as {type(value).__name__}, which NumPy cannot read ({error}): pass {_KINDS}"
        ) from error
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ChatError(
            f"{subject} has dtype {array.dtype} and needs float16, float32 or float64: "
            "pass x.astype('float32') if that is meant"
        )
    # torch takes only arrays in native byte order, without negative strides, and warns about read-only ones.
    if array.flags.carray and array.dtype.isnative:
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
