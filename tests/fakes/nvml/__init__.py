"""A fake NVIDIA driver library whose true energy is known, for the real, unmodified ``pynvml``.

The library is C, built once by the system's compiler; a test drives it, while it runs, through a
memory-mapped file. All times are seconds on ``time.monotonic`` (on Linux the clock of ``perf_counter``)::

    fake = FakeNvml(tmp_path, [FakeGpu(idle_watts=70, tick_seconds=0.1)])
    with fake.in_process():               # pynvml in this process sees the fake; undone afterwards
        with fake.load(0, watts=700):     # the device draws 700 W
            time.sleep(0.1)
    fake.true_joules(0, begin, end)

In the present process use ``in_process()``. For a child use ``fake.environment()`` as its environment: it
finds the library by ``LD_LIBRARY_PATH``, as does every peer tool. A child drives the same fake with
``FakeNvml.attach()``; one process at a time may write. Nothing here needs more than the standard library.
"""

from __future__ import annotations

from .fake_nvml import NOT_AVAILABLE, FakeNvml
from .gpu import FakeGpu

__all__ = ["NOT_AVAILABLE", "FakeGpu", "FakeNvml"]
