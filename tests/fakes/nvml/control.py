"""The layout of the file that the test writes and the library reads; the same as in control.h."""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_double, c_int32, c_int64, c_uint32, c_uint64
from typing import Any, ClassVar

__all__ = [
    "EVERY_DEVICE",
    "FOREVER",
    "MAGIC",
    "MAX_DEVICES",
    "MAX_FAULTS",
    "MAX_INSTANCES",
    "MAX_PROCESSES",
    "MAX_SPANS",
    "Control",
]

MAX_DEVICES = 8
MAX_INSTANCES = 7
MAX_PROCESSES = 64
MAX_FAULTS = 32
MAX_SPANS = 65536
MAGIC = 0x314C4D564E4B4146
FOREVER = 2**63 - 1
EVERY_DEVICE = -1


class Span(ctypes.Structure):
    _fields_: ClassVar[list[Any]] = [
        ("begin_ns", c_int64),
        ("end_ns", c_int64),
        ("watts", c_double),
        ("above_joules", c_double),
    ]


class Process(ctypes.Structure):
    _fields_: ClassVar[list[Any]] = [
        ("begin_ns", c_int64),
        ("end_ns", c_int64),
        ("memory_bytes", c_uint64),
        ("pid", c_uint32),
        ("sm_percent", c_uint32),
        ("instance", c_uint32),
        ("padding", c_uint32),
    ]


class Fault(ctypes.Structure):
    _fields_: ClassVar[list[Any]] = [
        ("active", c_int32),
        ("code", c_int32),
        ("device", c_int32),
        ("padding", c_int32),
        ("sleep_ns", c_int64),
        ("skip", c_int64),
        ("times", c_int64),
        ("function", c_char * 64),
    ]


class Device(ctypes.Structure):
    _fields_: ClassVar[list[Any]] = [
        ("uuid", c_char * 96),
        ("name", c_char * 96),
        ("pci_bus_id", c_char * 32),
        ("mig_uuids", (c_char * 96) * MAX_INSTANCES),
        ("architecture", c_uint32),
        ("compute_major", c_uint32),
        ("compute_minor", c_uint32),
        ("mig_mode", c_uint32),
        ("mig_supported", c_uint32),
        ("mig_count", c_uint32),
        ("has_counter", c_uint32),
        ("stamps_ticks", c_uint32),
        ("utilization_ring", c_uint32),
        ("lost", c_uint32),
        ("lost_epoch", c_uint32),
        ("healed_epoch", c_uint32),
        ("past_revision", c_uint32),
        ("process_count", c_uint32),
        ("span_count", c_uint32),
        ("padding", c_uint32),
        ("memory_bytes", c_uint64),
        ("seed", c_uint64),
        ("limit_watts", c_double),
        ("idle_watts", c_double),
        ("duty", c_double),
        ("offset_joules", c_double),
        ("epoch_ns", c_int64),
        ("tick_ns", c_int64),
        ("phase_ns", c_int64),
        ("jitter_ns", c_int64),
        ("instant_ns", c_int64),
        ("average_ns", c_int64),
        ("sample_ns", c_int64),
        ("utilization_ns", c_int64),
        ("energy_reads", c_uint64),
        ("processes", Process * MAX_PROCESSES),
    ]


class Control(ctypes.Structure):
    _fields_: ClassVar[list[Any]] = [
        ("magic", c_uint64),
        ("size", c_uint64),
        ("wall_offset_ns", c_int64),
        ("calls", c_uint64),
        ("device_count", c_uint32),
        ("fault_count", c_uint32),
        ("faults", Fault * MAX_FAULTS),
        ("devices", Device * MAX_DEVICES),
        ("spans", (Span * MAX_SPANS) * MAX_DEVICES),
    ]
