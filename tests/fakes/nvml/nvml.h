/* The part of NVML's binary interface that the fake answers, as the public ctypes binding declares it. */
#ifndef FAKE_NVML_NVML_H
#define FAKE_NVML_NVML_H

#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
};

enum { VALUE_UINT = 1, VALUE_ULONGLONG = 3 };

typedef union {
    double d;
    unsigned ui;
    unsigned long ul;
    unsigned long long ull;
} nvml_value;

typedef struct {
    uint32_t field, scope;
    int64_t timestamp_us, latency_us;
    uint32_t value_type;
    int32_t result;
    nvml_value value;
} nvml_field_value;

typedef struct {
    unsigned long long timestamp_us;
    nvml_value value;
} nvml_sample;

typedef struct {
    unsigned pid;
    unsigned long long timestamp_us;
    unsigned sm, memory, encoder, decoder;
} nvml_process_utilization;

typedef struct {
    unsigned pid;
    unsigned long long memory_bytes;
    unsigned gpu_instance, compute_instance;
} nvml_process;

typedef struct {
    unsigned gpu, memory;
} nvml_utilization;

typedef struct {
    unsigned long long total, free, used;
} nvml_memory;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} nvml_memory_v2;

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} nvml_pci;

#endif
