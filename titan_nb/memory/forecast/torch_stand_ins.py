"""What stands in the child for what in torch reaches past its operations: driver, files and processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Any, NoReturn

__all__ = [
    "keep_from_driver",
    "keep_from_files",
    "keep_from_workers",
    "let_modules_move",
    "let_optimizers_choose",
]

_DOES_NOTHING = (
    "_lazy_init",
    "init",
    "synchronize",
    "empty_cache",
    "ipc_collect",
    "reset_peak_memory_stats",
    "reset_accumulated_memory_stats",
)


def keep_from_driver(devices: Collection[str], current_index: int = 0) -> None:
    """Let torch say of the GPUs what it said before the fork, and never ask their driver.

    The driver's state does not survive a fork. Without this, CUDA would say in the child that there is no
    GPU, and the cell would be followed on the host.

    Args:
        devices: The devices that the parent uses, such as ``cuda:0``.
        current_index: On which of them new tensors are made.
    """
    import torch
    from torch._subclasses import fake_tensor

    for name in ("init_gpu_context", "init_cuda_context"):
        if hasattr(fake_tensor, name):
            setattr(fake_tensor, name, lambda *_: None)
    for kind in {device.partition(":")[0] for device in devices}:
        module = sys.modules[f"torch.{kind}"]
        count = sum(device.startswith(f"{kind}:") for device in devices)
        answers: dict[str, Any] = {
            "is_available": True,
            "is_initialized": True,
            "device_count": count,
            **dict.fromkeys(_DOES_NOTHING),
        }
        current = [current_index]
        stand_ins: dict[str, Callable[..., Any]] = {
            **{name: _always(answer) for name, answer in answers.items()},
            "current_device": lambda current=current: current[-1],
            "set_device": lambda device, current=current: current.append(torch.device(device).index or 0),
        }
        for name, stand_in in stand_ins.items():
            if hasattr(module, name):
                setattr(module, name, stand_in)


def keep_from_files(refuse: Callable[[str], NoReturn]) -> None:
    """Refuse to save to a file: torch opens it in C++, which no hook of Python's sees."""
    import torch

    write = torch._C.PyTorchFileWriter

    def writer(target: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(target, str):
            refuse(f"write to {target!r}")
        return write(target, *arguments, **named)

    torch._C.PyTorchFileWriter = writer


def keep_from_workers() -> None:
    """Let data loaders do by themselves what they have workers for: a dry run starts no process."""
    from torch.utils.data import DataLoader, dataloader

    def iterator(loader: Any) -> Any:
        loader.num_workers, loader.timeout = 0, 0
        return dataloader._SingleProcessDataLoaderIter(loader)

    setattr(DataLoader, "_get_iterator", iterator)  # noqa: B010 - for mypy


def let_modules_move() -> None:
    """Let ``module.to()`` swap parameters in spite of weak references, which the fake mode has to them."""
    import types

    import torch

    torch.utils.weakref = types.SimpleNamespace(getweakrefs=lambda _: [])


def let_optimizers_choose() -> None:
    """Let optimizers treat parameters that are made in the cell as they treat real ones.

    They go by the type, and would else fall back from one operation for all to one for each, which takes
    other memory.
    """
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.optim import optimizer

    getattr(optimizer, "_foreach_supported_types", []).append(FakeTensor)


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer
