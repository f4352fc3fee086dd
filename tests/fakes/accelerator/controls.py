"""The C functions of the library: what a test sets, and what torch has no call for."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_size_t, c_uint64, c_void_p

from .build import library

__all__ = ["load"]

_FUNCTIONS = {
    "fakegpu_set_device_count": (None, [c_int]),
    "fakegpu_max_devices": (c_int, []),
    "fakegpu_join_autograd": (None, []),
    "fakegpu_stop": (None, []),
    "fakegpu_started": (c_int, []),
    "fakegpu_forked": (c_int, []),
    "fakegpu_current_device": (c_int, []),
    "fakegpu_break": (None, [c_char_p]),
    "fakegpu_set_capacity": (None, [c_int, c_size_t]),
    "fakegpu_capacity": (c_size_t, [c_int]),
    "fakegpu_set_others": (None, [c_int, c_size_t]),
    "fakegpu_set_fraction": (None, [c_int, c_double]),
    "fakegpu_fraction": (c_double, [c_int]),
    "fakegpu_take": (c_void_p, [c_int, c_size_t, c_char_p, c_size_t]),
    "fakegpu_give_back": (None, [c_void_p]),
    "fakegpu_seed": (None, [c_int, c_uint64]),
    "fakegpu_initial_seed": (c_uint64, [c_int]),
    "fakegpu_get_rng_state": (c_size_t, [c_int, c_void_p, c_size_t]),
    "fakegpu_set_rng_state": (None, [c_int, c_void_p]),
    "fakegpu_blocks": (c_size_t, [POINTER(c_uint64), c_size_t]),
}


def load() -> ctypes.CDLL:
    """Return the library, which registers the backend with torch when it is first loaded."""
    loaded = ctypes.CDLL(str(library()))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded
