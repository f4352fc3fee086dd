"""Torch's backward pass in Python: the same graph in the same order, for tensors without data.

There are two reasons. Once a process has used a GPU, torch's own engine runs threads that a fork does not
copy, and raises in the child. And under a fake mode every tensor has an owner in Python, so that torch never
finds a gradient that nobody else uses and adds none in place: the count comes out too high. This engine gives
saved tensors free after each node, and adds in place what torch would. It calls no hooks of tensors or
modules, save those that run after a gradient is accumulated.
"""

from __future__ import annotations

import contextlib
import heapq
import sys
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["Engine"]


class _Saved:
    """A tensor that was saved for the backward pass."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


class Engine:
    """Stands in for ``Variable._execution_engine`` while it is entered."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._found: list[_Saved] | None = None
        self._hooks = torch.autograd.graph.saved_tensors_hooks(_Saved, self._unpack)
        self._own = torch.autograd.Variable._execution_engine
        self._own_task = getattr(torch._C, "_current_graph_task_id", None)
        self._tasks = 0
        self._task = -1

    def __enter__(self) -> Engine:
        self._torch.autograd.Variable._execution_engine = self
        if self._own_task is not None:  # by which a checkpoint knows whether it has recomputed already
            self._torch._C._current_graph_task_id = lambda: self._task
        self._hooks.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.__exit__()
        self._torch.autograd.Variable._execution_engine = self._own
        if self._own_task is not None:
            self._torch._C._current_graph_task_id = self._own_task

    def is_checkpoint_valid(self) -> bool:
        """Answer what `torch.utils.checkpoint` asks."""
        return True

    def run_backward(
        self,
        tensors: Sequence[Any],
        grad_tensors: Sequence[Any],
        keep_graph: bool,
        create_graph: bool,
        inputs: Sequence[Any] = (),
        allow_unreachable: bool = False,
        accumulate_grad: bool = False,
    ) -> tuple[Any, ...] | None:
        """Do what torch's engine of that name does."""
        outer, self._task, self._tasks = self._task, self._tasks, self._tasks + 1
        try:
            return self._run(tensors, grad_tensors, keep_graph, create_graph, inputs, accumulate_grad)
        finally:
            self._task = outer

    def _run(
        self,
        tensors: Sequence[Any],
        grad_tensors: Sequence[Any],
        keep_graph: bool,
        create_graph: bool,
        inputs: Sequence[Any],
        accumulate_grad: bool,
    ) -> tuple[Any, ...] | None:
        buffers: dict[Any, dict[int, Any]] = {}
        ready: list[tuple[int, int, Any]] = []
        wanted = [_edge(one) for one in inputs]
        captured: dict[int, Any] = {}
        roots = [_edge(one) for one in tensors]
        waits_for = _dependencies([node for node, _ in roots])
        with self._torch.set_grad_enabled(create_graph):
            for (node, slot), grad in zip(roots, grad_tensors, strict=True):
                self._add(buffers.setdefault(node, {}), slot, grad)
            for node in list(buffers):
                if not waits_for.get(node):
                    _push(ready, node)
            del grad, grad_tensors
            while ready:
                node = heapq.heappop(ready)[2]
                grads = buffers.pop(node, {})
                for position, (one, slot) in enumerate(wanted):
                    if one is node and slot in grads:
                        captured[position] = grads[slot]
                if hasattr(node, "variable"):
                    if accumulate_grad and (not wanted or any(one is node for one, _ in wanted)):
                        self._accumulate(node.variable, grads.pop(0, None), create_graph)
                    continue
                for (following, slot), grad in self._outputs(node, grads, keep_graph):
                    if grad is not None:
                        self._add(buffers.setdefault(following, {}), slot, grad)
                    waits_for[following] -= 1
                    if not waits_for[following]:
                        _push(ready, following)
                    del grad
        return tuple(captured.get(position) for position in range(len(wanted))) if wanted else None

    def _unpack(self, saved: _Saved) -> Any:
        if saved.tensor is None:
            raise RuntimeError("Trying to backward through the graph a second time")
        if self._found is not None:
            self._found.append(saved)
        return saved.tensor

    def _outputs(self, node: Any, grads: dict[int, Any], keep_graph: bool) -> Iterator[tuple[Any, Any]]:
        """Run one node and yield each edge that leaves it, with its gradient or None."""
        known = [grads.pop(slot, None) for slot in range(_width(node, grads))]
        result: list[Any] = []
        if any(grad is not None for grad in known):
            # By a list that is emptied, so that the last reference to a gradient is in nobody's frame.
            outcome = node.apply(*known) if hasattr(node, "needs_input_grad") else node(*known)
            result = list(outcome) if isinstance(outcome, tuple) else [outcome]
            del outcome
        known.clear()
        if not keep_graph:
            self._give_free(node)
        edges = node.next_functions
        if len(result) > len(edges):  # a function of the user's, with arguments that are no tensors
            needed = [index for index, need in enumerate(node.needs_input_grad) if need]
            result = [result[index] for index in needed]
            edges = [edge for edge in edges if edge[0] is not None]
        result += [None] * (len(edges) - len(result))
        for index, (following, slot) in enumerate(edges):
            if following is None:
                result[index] = None
            elif result[index] is not None:
                result[index] = self._fitted(following, slot, result[index])
        for edge in edges:
            if edge[0] is not None:
                yield edge, result.pop(0)
            else:
                result.pop(0)

    def _give_free(self, node: Any) -> None:
        """Give free what a node saved. It is found by reading it; torch has no other way to ask."""
        self._found = []
        for name in dir(node):
            if name.startswith("_saved_") or name == "saved_tensors":
                # Given free before, or recomputed by a checkpoint, which keeps its own books.
                with contextlib.suppress(RuntimeError):
                    getattr(node, name)
        for saved in self._found:
            saved.tensor = None
        self._found = None

    def _fitted(self, node: Any, slot: int, grad: Any) -> Any:
        """Return ``grad`` in the shape and type of what it belongs to: broadcasting is undone here."""
        metadata = getattr(node, "_input_metadata", ())
        if slot >= len(metadata) or grad.layout is not self._torch.strided:
            return grad
        target = metadata[slot]
        if tuple(grad.shape) != tuple(target.shape):
            grad = grad.sum_to_size(tuple(target.shape))
        return grad if grad.dtype == target.dtype else grad.to(target.dtype)

    def _add(self, buffer: dict[int, Any], slot: int, grad: Any) -> None:
        held = buffer.pop(slot, None)
        if held is None:
            buffer[slot] = grad
        elif not self._torch.is_grad_enabled() and sys.getrefcount(held) <= 2 and self._alone(held):
            buffer[slot] = held.add_(grad)
        else:
            buffer[slot] = held + grad

    def _alone(self, tensor: Any) -> bool:
        """Say whether nothing but this one tensor uses its storage."""
        if tensor.layout is not self._torch.strided or not tensor.is_contiguous():
            return False
        count = getattr(self._torch._C, "_storage_Use_Count", None)
        return count is None or bool(count(tensor.untyped_storage()._cdata) <= 2)

    def _accumulate(self, variable: Any, grad: Any, create_graph: bool) -> None:
        if grad is None:
            return
        if variable.grad is None:
            # torch keeps a gradient that nobody else holds, be it a view, and copies the others.
            sole = sys.getrefcount(grad) <= 2 and _fits(grad, variable)
            variable.grad = grad if create_graph else grad.detach() if sole else grad.clone()
        elif create_graph:
            variable.grad = variable.grad + grad
        else:
            variable.grad += grad
        for hook in list((getattr(variable, "_post_accumulate_grad_hooks", None) or {}).values()):
            hook(variable)


def _fits(grad: Any, variable: Any) -> bool:
    """Say whether a gradient lies in memory as the tensor does that it belongs to, or needs no such order."""
    if grad.layout != variable.layout:
        return True
    sides = zip(grad.shape, grad.stride(), variable.stride(), strict=True)
    return all(one == other for size, one, other in sides if size != 1)


def _edge(tensor: Any) -> tuple[Any, int]:
    """Return the node of the graph that a tensor's gradient goes to, and which of its inputs it is."""
    if hasattr(tensor, "node"):  # a GradientEdge
        return tensor.node, tensor.output_nr
    if tensor.grad_fn is not None:
        return tensor.grad_fn, tensor.output_nr
    if not tensor.requires_grad:
        raise RuntimeError("element of tensors does not require grad and does not have a grad_fn")
    import torch

    with torch.enable_grad():
        return tensor.view_as(tensor).grad_fn.next_functions[0][0], 0


def _dependencies(roots: list[Any]) -> dict[Any, int]:
    """Return how many edges lead to each node that can be reached."""
    counts: dict[Any, int] = {}
    seen = set(roots)
    waiting = list(seen)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is None:
                continue
            counts[node] = counts.get(node, 0) + 1
            if node not in seen:
                seen.add(node)
                waiting.append(node)
    return counts


def _push(ready: list[tuple[int, int, Any]], node: Any) -> None:
    # The youngest first, but leaves at once: the order of torch's engine. The id settles ties.
    order = -sys.maxsize if hasattr(node, "variable") else -node._sequence_nr()
    heapq.heappush(ready, (order, id(node), node))


def _width(node: Any, grads: dict[int, Any]) -> int:
    return max(len(getattr(node, "_input_metadata", ())), max(grads, default=-1) + 1)
