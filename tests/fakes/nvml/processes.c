/* Who is on the device, how much of its memory they hold, and their part of its multiprocessors. */
#include "fake.h"

#define NO_INSTANCE 0xffffffffu

static int on(const struct process *process, const struct handle *handle, int64_t at_ns) {
    int ours = handle->instance == 0 || process->instance == (uint32_t)handle->instance;
    return ours && process->begin_ns <= at_ns && at_ns < LOAD(process->end_ns);
}

/* The oldest layout of an entry ends after the memory; the later two add the instances. */
static int running(const struct handle *handle, const char *function, int oldest, unsigned *count, void *out) {
    ON_DEVICE(function, ALSO_MIG, count);
    const unsigned room = *count;
    const int64_t now = now_ns();
    unsigned found = 0;
    for (uint32_t i = 0; i < LOAD(device->process_count); i++) {
        const struct process *process = &device->processes[i];
        if (!on(process, handle, now)) continue;
        nvml_process entry = {.pid = process->pid, .memory_bytes = process->memory_bytes};
        entry.gpu_instance = process->instance ? process->instance : NO_INSTANCE;
        entry.compute_instance = process->instance ? 0 : NO_INSTANCE;
        const unsigned size = oldest ? 16 : sizeof entry;
        if (out && found < room) memcpy((char *)out + (size_t)found * size, &entry, size);
        found++;
    }
    *count = found;
    return found > (out ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses(const struct handle *handle, unsigned *count, void *out) {
    return running(handle, "nvmlDeviceGetComputeRunningProcesses", 1, count, out);
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(const struct handle *handle, unsigned *count, void *out) {
    return running(handle, "nvmlDeviceGetComputeRunningProcesses", 0, count, out);
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(const struct handle *handle, unsigned *count, void *out) {
    return running(handle, "nvmlDeviceGetComputeRunningProcesses", 0, count, out);
}

/* No process of the fake draws. */
static int drawing(const struct handle *handle, unsigned *count) {
    ON_DEVICE("nvmlDeviceGetGraphicsRunningProcesses", ALSO_MIG, count);
    *count = 0;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses(const struct handle *handle, unsigned *count, void *out) {
    (void)out;
    return drawing(handle, count);
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v2(const struct handle *handle, unsigned *count, void *out) {
    (void)out;
    return drawing(handle, count);
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(const struct handle *handle, unsigned *count, void *out) {
    (void)out;
    return drawing(handle, count);
}

/* Per cent of the period before a sample that the process kept the multiprocessors busy. */
static unsigned sm_percent(const struct device *device, const struct process *process, int64_t sample_ns) {
    int64_t begin = sample_ns - device->utilization_ns, end = LOAD(process->end_ns);
    if (begin < process->begin_ns) begin = process->begin_ns;
    if (end > sample_ns) end = sample_ns;
    if (end <= begin) return 0;
    double part = (double)(end - begin) / (double)device->utilization_ns;
    return (unsigned)(process->sm_percent * part + 0.5);
}

EXPORT int nvmlDeviceGetProcessUtilization(const struct handle *handle, nvml_process_utilization *samples,
                                           unsigned *count, unsigned long long last_seen_us) {
    ON_DEVICE("nvmlDeviceGetProcessUtilization", WHOLE_ONLY, count);
    if (device->mig_mode) return NOT_SUPPORTED;
    const unsigned room = samples ? *count : 0;
    const int64_t newest = (now_ns() - device->epoch_ns) / device->utilization_ns;
    const int64_t ring = device->utilization_ring;
    unsigned found = 0;
    for (int64_t k = newest < ring ? 1 : newest - ring + 1; k <= newest; k++) {
        int64_t at = device->epoch_ns + k * device->utilization_ns;
        if (wall_us(at) <= last_seen_us) continue;
        for (uint32_t i = 0; i < LOAD(device->process_count); i++) {
            unsigned sm = sm_percent(device, &device->processes[i], at);
            if (!sm) continue;
            if (found < room)
                samples[found] = (nvml_process_utilization){
                    .pid = device->processes[i].pid, .timestamp_us = wall_us(at), .sm = sm};
            found++;
        }
    }
    if (samples && found > room) found = room; /* A sample came in since the caller asked for the size. */
    *count = found;
    if (!found) return NOT_FOUND;
    return samples ? SUCCESS : INSUFFICIENT_SIZE;
}

static uint64_t memory_held(const struct device *device, const struct handle *handle) {
    const int64_t now = now_ns();
    uint64_t held = 0;
    for (uint32_t i = 0; i < LOAD(device->process_count); i++)
        if (on(&device->processes[i], handle, now) && device->processes[i].memory_bytes != UINT64_MAX)
            held += device->processes[i].memory_bytes;
    return held;
}

EXPORT int nvmlDeviceGetMemoryInfo(const struct handle *handle, nvml_memory *memory) {
    ON_DEVICE("nvmlDeviceGetMemoryInfo", ALSO_MIG, memory);
    uint64_t held = memory_held(device, handle);
    *memory = (nvml_memory){.total = device->memory_bytes, .free = device->memory_bytes - held, .used = held};
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(const struct handle *handle, nvml_memory_v2 *memory) {
    ON_DEVICE("nvmlDeviceGetMemoryInfo", ALSO_MIG, memory);
    uint64_t held = memory_held(device, handle);
    memory->total = device->memory_bytes;
    memory->reserved = 0;
    memory->free = device->memory_bytes - held;
    memory->used = held;
    return SUCCESS;
}
