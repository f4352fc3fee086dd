"""Embeddings of any kind, read as one table of floating-point rows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from titan_nb.chat.device import own_rules
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    import torch

    Numbers: TypeAlias = np.ndarray | torch.Tensor

__all__ = ["is_tensor", "read_row", "read_rows", "read_table"]

_KINDS = "a torch tensor, a NumPy array or a list of floating-point numbers"
_FLOATS = "float16, bfloat16, float32 or float64"


def is_tensor(value: Any) -> bool:
    """Return whether ``value`` is a torch tensor; where nobody has imported torch, nothing can be one."""
    # While another thread is still importing torch, it has no such class yet.
    known = getattr(sys.modules.get("torch"), "Tensor", None)
    return known is not None and isinstance(value, known)


def read_table(embeddings: Any, noun: str = "row") -> Numbers:
    """Read ``embeddings`` as a table of shape (n, d), which may share memory with it.

    Torch is not imported for anything but its own tensors.

    Args:
        embeddings: A tensor of float16, bfloat16, float32 or float64 on any device, in any memory order, an
            array or data frame of such numbers, or a list with one list, 1-D tensor or 1-D array per row.
        noun: What a row is called in an error.

    Returns:
        A tensor for tensors and lists that hold one, an array for all else.

    Raises:
        ChatError: If it is anything else; the values themselves are not looked at.
    """
    if isinstance(embeddings, (list, tuple)):
        return _stack(embeddings, noun)
    table = _read_dense(embeddings, f"{noun} 0, like every {noun},")
    shape = tuple(table.shape)
    if len(shape) == 2 and shape[1] > 0:
        return table
    if len(shape) < 2:
        raise ChatError(
            f"{noun} 0 is not a row but a number: the embeddings have shape {shape} and need "
            "(rows, dimension); for a single row x pass x[None, :]"
        )
    if len(shape) > 2:
        raise ChatError(
            f"{noun} 0 has shape {shape[1:]}, not (dimension,): the embeddings have shape {shape} "
            "and need (rows, dimension); for a batch x pass x.reshape(-1, x.shape[-1])"
        )
    raise ChatError(f"{noun} 0, like every {noun}, is empty: the embeddings have shape {shape}")


def read_rows(embeddings: Any) -> torch.Tensor:
    """Read ``embeddings`` as a tensor of shape (n, d), which may share memory with it; see `read_table`."""
    return _as_tensor(read_table(embeddings))


def read_row(item: Any, subject: str) -> Numbers:
    """Read ``item`` as one row of shape (d,), which may share memory with it.

    Args:
        item: A 1-D tensor or array, or a list of plain numbers.
        subject: What it is called in an error, such as ``the query``.

    Raises:
        ChatError: If it is not one row of floating-point numbers.
    """
    row = _read_numbers(item, subject) if isinstance(item, (list, tuple)) else _read_dense(item, subject)
    shape = tuple(row.shape)
    if len(shape) == 1 and shape[0] > 0:
        return row
    remedy = "; for the first row of a table x pass x[0]" if len(shape) == 2 else ""
    raise ChatError(f"{subject} has shape {shape} and needs (dimension,){remedy}")


def _stack(items: Sequence[Any], noun: str) -> Numbers:
    import numpy as np

    if not items:
        raise ChatError("the embeddings are an empty list: pass at least one row")
    if isinstance(items[0], (int, float)):
        raise ChatError(f"{noun} 0 is not a row but a number: for a single row x pass [x], or x[None, :]")
    rows = [read_row(item, f"{noun} {number}") for number, item in enumerate(items)]
    first = len(rows[0])
    for number, row in enumerate(rows):
        if len(row) != first:
            raise ChatError(
                f"{noun} {number} has {len(row)} numbers, {noun} 0 has {first}: all must be equal"
            )
    if any(map(is_tensor, rows)):
        return _stack_tensors(rows)
    return np.array(rows, dtype=np.result_type(np.float32, *{row.dtype for row in rows}))


def _stack_tensors(rows: Sequence[Numbers]) -> torch.Tensor:
    import torch

    tensors = [_as_tensor(row) for row in rows]
    double = any(row.dtype == torch.float64 for row in tensors)
    dtype, device = torch.float64 if double else torch.float32, tensors[0].device
    with own_rules(device):
        return torch.stack([row.to(device=device, dtype=dtype) for row in tensors])


def _read_numbers(numbers: Sequence[Any], subject: str) -> np.ndarray:
    import numpy as np

    for kind in set(map(type, numbers)):
        if kind is bool or not issubclass(kind, (int, float, np.floating, np.integer)):
            raise ChatError(f"{subject} holds a {kind.__name__}: a list must hold plain numbers")
    try:
        return np.array(numbers, dtype=np.float64)
    except OverflowError as error:
        raise ChatError(f"{subject} holds a number too large for float64") from error


def _as_tensor(numbers: Numbers) -> torch.Tensor:
    import numpy as np
    import torch

    if is_tensor(numbers):
        return numbers
    array: np.ndarray = numbers
    # torch takes only arrays in native byte order, without negative strides, and warns about read-only ones.
    if array.flags.carray and array.dtype.isnative:
        return torch.from_numpy(array)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _read_dense(value: Any, subject: str) -> Numbers:
    return _read_tensor(value, subject) if is_tensor(value) else _read_array(value, subject)


def _read_tensor(value: torch.Tensor, subject: str) -> torch.Tensor:
    import torch

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


def _read_array(value: Any, subject: str) -> np.ndarray:
    import numpy as np

    array: np.ndarray = value
    if type(value) is not np.ndarray:
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
    return array
