"""A device's random numbers."""

from __future__ import annotations

import torch

from .runtime import Device, device_count, index_of, library

__all__ = ["get_rng_state", "initial_seed", "manual_seed", "manual_seed_all", "set_rng_state"]


def manual_seed(seed: int) -> None:
    library.fakegpu_seed(index_of(), seed)


def manual_seed_all(seed: int) -> None:
    for index in range(device_count()):
        library.fakegpu_seed(index, seed)


def initial_seed() -> int:
    return int(library.fakegpu_initial_seed(index_of()))


def get_rng_state(device: Device = None) -> torch.Tensor:
    index = index_of(device)
    state = torch.empty(library.fakegpu_get_rng_state(index, None, 0), dtype=torch.uint8, device="cpu")
    library.fakegpu_get_rng_state(index, state.data_ptr(), state.nbytes)
    return state


def set_rng_state(new_state: torch.Tensor, device: Device = None) -> None:
    index = index_of(device)
    size = library.fakegpu_get_rng_state(index, None, 0)
    state = new_state.cpu().contiguous()
    if state.dtype != torch.uint8 or state.nbytes != size:
        raise TypeError(f"the RNG state of a fakegpu device is a ByteTensor of {size} bytes")
    library.fakegpu_set_rng_state(index, state.data_ptr())
