"""Why a forecast ended early, in plain words."""

from __future__ import annotations

from titan_nb.memory.forecast.refusals import Refused

__all__ = ["reason_of"]

LONGEST = 200

_ASKS = {
    "_local_scalar_dense": ".item() or a condition",
    "is_nonzero": "a condition",
    "equal": "torch.equal()",
    "nonzero": "nonzero() or a boolean mask",
    "masked_select": "masked_select()",
    "_unique2": "unique()",
}
_NO_DATA = (".numpy()", ".tolist()", "data pointer", "DataPtr", "storage")


def reason_of(error: BaseException) -> str:
    """Return in one line why ``error`` ended a forecast."""
    if isinstance(error, Refused):
        return str(error)
    kind, text = type(error).__name__, _first_line(error)
    operation = getattr(getattr(error, "func", None), "_schema", None)
    name = getattr(operation, "name", "").rpartition("::")[2]
    if kind in ("DataDependentOutputException", "DynamicOutputShapeException"):
        return f"data-dependent: {_ASKS.get(name, f'{name}()')}"
    if kind == "UnsupportedOperatorException":
        return f"torch cannot tell the shape of what {name} returns"
    if isinstance(error, RuntimeError) and "ensor" in text:
        for sign in _NO_DATA:
            if sign in text:
                return f"data-dependent: {sign}" if sign[0] == "." else "data-dependent: the tensor's memory"
    if "FakeTensor.__format__" in text:
        return "data-dependent: a formatted number"
    return f"{kind}: {text}" if text else kind


def _first_line(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg  # without the name of a file that is none
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # an error of the user's whose own text fails
        return ""
    return lines[0][:LONGEST] if lines else ""
