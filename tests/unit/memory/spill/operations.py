"""Run torch's own list of operations on spilled tensors; one line of JSON for each operation.

Usage: python operations.py FIRST STEP [DEVICE]: every STEP-th operation from FIRST on. A line that says what
comes next is written before each, so that a crash is seen as whose it is.
"""

from __future__ import annotations

import json
import sys
import types
import unittest
import warnings
from collections.abc import Callable, Iterator
from typing import Any

# torch's list imports it for a base class of tests that are not run here.
sys.modules.setdefault("expecttest", types.ModuleType("expecttest"))
sys.modules["expecttest"].TestCase = unittest.TestCase  # type: ignore[attr-defined]
warnings.simplefilter("ignore")

import torch  # noqa: E402
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.utils._pytree import tree_leaves, tree_map  # noqa: E402

from titan_nb.memory.spill import SpillError, holders, spill  # noqa: E402

DTYPES = (torch.float32, torch.complex64, torch.int64, torch.bool)
SAMPLES = 3
UNSET = ("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided")
"""What these return is whatever the memory held: only its kind can be compared."""


def main(first: int, step: int, device: str) -> None:
    if device != "cpu":
        from tests.fakes.accelerator import install

        install(256 << 20)
    # It looks at every object of the process for each tensor; it has tests of its own.
    holders.held_out_of_sight = lambda things: [False] * len(things)
    for op in op_db[first::step]:
        name = f"{op.name}.{op.variant_test_name}" if op.variant_test_name else op.name
        print(json.dumps({"begin": name}), flush=True)
        print(json.dumps({"name": name, **_verdict(op, name, device)}), flush=True)


def _verdict(op: Any, name: str, device: str) -> dict[str, Any]:
    done = {"same": 0, "refused": 0, "failed": []}
    dtype = next((one for one in DTYPES if one in op.supported_dtypes("cpu")), None)
    for sample in _samples(op, dtype) if dtype is not None else ():
        for kind, call in _variants(op):
            for with_gradient in (False, True) if op.supports_autograd and kind == "function" else (False,):
                outcome = _compared(call, sample, with_gradient, name, device)
                if outcome in ("same", "refused"):
                    done[outcome] += 1
                elif outcome is not None:
                    done["failed"].append(f"{kind}: {outcome}")
    return done


def _samples(op: Any, dtype: torch.dtype) -> Iterator[Any]:
    torch.manual_seed(0)
    samples = op.sample_inputs("cpu", dtype)
    for _, sample in zip(range(SAMPLES), samples, strict=False):
        yield sample


def _variants(op: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    yield "function", op.op
    if op.method_variant is not None:
        yield "method", op.method_variant
    if op.inplace_variant is not None:
        yield "in place", op.inplace_variant


def _compared(
    call: Callable[..., Any], sample: Any, with_gradient: bool, name: str, device: str
) -> str | None:
    """Return *same*, *refused*, None if there was nothing to spill, or what was different."""

    def prepared(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
            return value
        made = value.detach().clone().to(device)
        return made.requires_grad_(with_gradient and made.is_floating_point())

    inputs = (sample.input, sample.args, sample.kwargs)
    plain, other = tree_map(prepared, inputs), tree_map(prepared, inputs)
    expected = _called(call, plain, with_gradient)
    done = spill(tree_leaves(other), disk=device == "cpu")
    if not done.moved:
        return "refused" if done.refused else None
    actual = _called(call, other, with_gradient)
    if isinstance(actual, SpillError):
        return "refused"
    if isinstance(expected, BaseException) or isinstance(actual, BaseException):
        alike = type(expected) is type(actual) and not isinstance(expected, SpillError)
        return "same" if alike else f"{expected!r} became {actual!r}"[:500]
    return _difference((expected, plain), (actual, other), name.split(".")[0] in UNSET) or "same"


def _called(call: Callable[..., Any], inputs: Any, with_gradient: bool) -> Any:
    value, args, kwargs = inputs
    torch.manual_seed(1)
    try:
        result = call(value, *args, **kwargs)
        if with_gradient:
            parts = [
                one for one in tree_leaves(result) if isinstance(one, torch.Tensor) and one.requires_grad
            ]
            torch.autograd.backward([one.abs().sum() for one in parts])
            tensors = [one for one in tree_leaves(inputs) if isinstance(one, torch.Tensor)]
            return result, [one.grad for one in tensors if one.is_leaf]
    except Exception as error:
        return error
    return result


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(tree) if isinstance(one, torch.Tensor)]


def _difference(expected: Any, actual: Any, unset: bool) -> str | None:
    pairs = zip(tree_leaves(expected), tree_leaves(actual), strict=True)
    for index, (want, got) in enumerate(pairs):
        if not isinstance(want, torch.Tensor):
            if type(want) is not type(got) or (want != got and want == want):
                return f"{want!r} became {got!r}"
            continue
        if not isinstance(got, type(want)):
            return f"part {index} is a {type(got).__name__}"
        try:
            for one in ("shape", "dtype", "device", "layout", "requires_grad"):
                if getattr(want, one) != getattr(got, one):
                    return f"{one} of part {index} is {getattr(got, one)}, not {getattr(want, one)}"
            if not unset:
                torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
        except AssertionError as error:
            return f"part {index}: {error}"[:500]
    return None


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "cpu")
