/* What the test writes and the library reads: one memory-mapped file, laid out as in control.py.
 *
 * There is one writer (the test) and any number of readers (processes and threads that loaded the library).
 * A list grows by writing the entry first and its count afterwards. All times are nanoseconds on
 * CLOCK_MONOTONIC. */
#ifndef FAKE_NVML_CONTROL_H
#define FAKE_NVML_CONTROL_H

#include <stdint.h>

#define MAX_DEVICES 8
#define MAX_INSTANCES 7
#define MAX_PROCESSES 64
#define MAX_FAULTS 32
#define MAX_SPANS 65536
#define MAGIC 0x314c4d564e4b4146ull
#define FOREVER INT64_MAX
#define EVERY_DEVICE (-1)

/* The device draws `watts` from begin to end; `above_joules` is what all spans before added to idle. */
struct span {
    int64_t begin_ns, end_ns;
    double watts, above_joules;
};

struct process {
    int64_t begin_ns, end_ns;
    uint64_t memory_bytes;
    uint32_t pid, sm_percent, instance, padding; /* instance: 0 is the whole device, 1.. a MIG instance */
};

/* A call of `function` on `device` sleeps, then returns `code`; after `skip` calls, for `times` calls. */
struct fault {
    int32_t active, code, device, padding;
    int64_t sleep_ns, skip, times;
    char function[64];
};

struct device {
    char uuid[96], name[96], pci_bus_id[32];
    char mig_uuids[MAX_INSTANCES][96];
    uint32_t architecture, compute_major, compute_minor;
    uint32_t mig_mode, mig_supported, mig_count;
    uint32_t has_counter, stamps_ticks, utilization_ring;
    uint32_t lost, lost_epoch, healed_epoch;
    uint32_t past_revision, process_count, span_count, padding;
    uint64_t memory_bytes, seed;
    double limit_watts, idle_watts, duty, offset_joules;
    int64_t epoch_ns, tick_ns, phase_ns, jitter_ns;
    int64_t instant_ns, average_ns, sample_ns, utilization_ns;
    uint64_t energy_reads;
    struct process processes[MAX_PROCESSES];
};

struct control {
    uint64_t magic, size;
    int64_t wall_offset_ns; /* CLOCK_REALTIME minus CLOCK_MONOTONIC */
    uint64_t calls;
    uint32_t device_count, fault_count;
    struct fault faults[MAX_FAULTS];
    struct device devices[MAX_DEVICES];
    struct span spans[MAX_DEVICES][MAX_SPANS];
};

#endif
