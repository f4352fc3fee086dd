"""A table of numbers that is a part of a file, mapped and not read."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from titan_nb.errors import ChatError, ResourceError
from titan_nb.units import byte_size

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MappedRows"]


class MappedRows:
    """Rows of a file in the address space of this process; they leave it with the last array on them.

    Pages are private: writing to them changes no file. `mmap.mmap` would do, but it keeps a descriptor for
    each mapping, and a memory of a thousand chats has as many files.

    Args:
        path: The file.
        offset: Where in it the first row begins, a multiple of 4.
        dimension: Numbers per row, float32.
        held: Rows that the file must hold.
        count: Rows to map; those that the file does not hold yet can be read as soon as it does.

    Raises:
        ChatError: If the file cannot be opened or is too short: reading beyond its end kills a process.
        ResourceError: If there is no address space.
    """

    def __init__(self, path: Path, offset: int, dimension: int, *, held: int, count: int) -> None:
        import numpy as np

        self.count = count
        length = offset + count * 4 * dimension
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ChatError(f"{path} cannot be opened ({os.strerror(error.errno or 0)})") from error
        try:
            if os.fstat(descriptor).st_size < offset + held * 4 * dimension:
                raise ChatError(f"{path} is shorter than the {held} rows that it held: something else cut it")
            pages = _Pages(descriptor, length)
        except OSError as error:
            raise ResourceError(
                f"{path} cannot be mapped ({byte_size(length)}: {os.strerror(error.errno or 0)}): forget "
                "chats that are no longer needed, or open the memory in a process of its own",
                requested_bytes=length,
                available_bytes=None,
                device="cpu",
            ) from error
        finally:
            os.close(descriptor)
        table: np.ndarray = np.asarray(pages)[offset:].view("<f4").reshape(count, dimension)
        self.rows = table


class _Pages:
    _address: int | None = None

    def __init__(self, descriptor: int, length: int) -> None:
        self._length = length
        self._unmap = _libc().munmap
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self._address = _libc().mmap(None, length, protection, mmap.MAP_PRIVATE, descriptor, 0)
        if self._address == ctypes.c_void_p(-1).value:
            self._address = None
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "shape": (self._length,), "typestr": "|u1", "data": (self._address, False)}

    def __del__(self) -> None:
        if self._address is not None:
            self._unmap(self._address, self._length)


@functools.lru_cache(maxsize=1)
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
        ctypes.c_long,
    )
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc
