/* Which devices there are, how they are found, and what does not change while they run. */
#include <stdio.h>

#include "fake.h"

static int find(const char *function, int device, int instance, struct handle **handle) {
    int code = device_state(device);
    if (code == SUCCESS) code = fault(function, device);
    if (code == SUCCESS) *handle = handle_of(device, instance);
    return code;
}

static int by_index(unsigned index, struct handle **handle) {
    if (fake_nvml_users() == 0) return UNINITIALIZED;
    if (index >= LOAD(control->device_count)) return INVALID_ARGUMENT;
    return find("nvmlDeviceGetHandleByIndex", (int)index, 0, handle);
}

EXPORT int nvmlDeviceGetHandleByIndex(unsigned index, struct handle **handle) { return by_index(index, handle); }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct handle **handle) { return by_index(index, handle); }

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, struct handle **handle) {
    if (fake_nvml_users() == 0) return UNINITIALIZED;
    for (int i = 0; i < (int)LOAD(control->device_count); i++) {
        const struct device *device = &control->devices[i];
        if (!strcmp(uuid, device->uuid)) return find("nvmlDeviceGetHandleByUUID", i, 0, handle);
        for (int j = 0; device->mig_mode && j < (int)device->mig_count; j++)
            if (!strcmp(uuid, device->mig_uuids[j])) return find("nvmlDeviceGetHandleByUUID", i, j + 1, handle);
    }
    return NOT_FOUND;
}

static int by_pci(const char *bus_id, struct handle **handle) {
    if (fake_nvml_users() == 0) return UNINITIALIZED;
    for (int i = 0; i < (int)LOAD(control->device_count); i++)
        if (!strcmp(bus_id, control->devices[i].pci_bus_id))
            return find("nvmlDeviceGetHandleByPciBusId", i, 0, handle);
    return NOT_FOUND;
}

EXPORT int nvmlDeviceGetHandleByPciBusId(const char *bus_id, struct handle **handle) { return by_pci(bus_id, handle); }
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, struct handle **handle) { return by_pci(bus_id, handle); }

EXPORT int nvmlDeviceGetName(const struct handle *handle, char *name, unsigned size) {
    ON_DEVICE("nvmlDeviceGetName", ALSO_MIG, name);
    return copy_text(device->name, name, size);
}

EXPORT int nvmlDeviceGetUUID(const struct handle *handle, char *uuid, unsigned size) {
    ON_DEVICE("nvmlDeviceGetUUID", ALSO_MIG, uuid);
    return copy_text(handle->instance ? device->mig_uuids[handle->instance - 1] : device->uuid, uuid, size);
}

EXPORT int nvmlDeviceGetIndex(const struct handle *handle, unsigned *index) {
    ON_DEVICE("nvmlDeviceGetIndex", WHOLE_ONLY, index);
    *index = (unsigned)handle->device;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMinorNumber(const struct handle *handle, unsigned *minor) {
    ON_DEVICE("nvmlDeviceGetMinorNumber", WHOLE_ONLY, minor);
    *minor = (unsigned)handle->device;
    return SUCCESS;
}

static int pci(const struct handle *handle, nvml_pci *info) {
    ON_DEVICE("nvmlDeviceGetPciInfo", WHOLE_ONLY, info);
    memset(info, 0, sizeof *info);
    info->bus = (unsigned)handle->device + 1;
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "0000:%02X:00.0", info->bus);
    return copy_text(device->pci_bus_id, info->bus_id, sizeof info->bus_id);
}

EXPORT int nvmlDeviceGetPciInfo(const struct handle *handle, nvml_pci *info) { return pci(handle, info); }
EXPORT int nvmlDeviceGetPciInfo_v2(const struct handle *handle, nvml_pci *info) { return pci(handle, info); }
EXPORT int nvmlDeviceGetPciInfo_v3(const struct handle *handle, nvml_pci *info) { return pci(handle, info); }

EXPORT int nvmlDeviceGetArchitecture(const struct handle *handle, unsigned *architecture) {
    ON_DEVICE("nvmlDeviceGetArchitecture", ALSO_MIG, architecture);
    *architecture = device->architecture;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetBrand(const struct handle *handle, unsigned *brand) {
    ON_DEVICE("nvmlDeviceGetBrand", WHOLE_ONLY, brand);
    *brand = 14; /* NVML_BRAND_NVIDIA */
    return SUCCESS;
}

EXPORT int nvmlDeviceGetCudaComputeCapability(const struct handle *handle, int *major, int *minor) {
    ON_DEVICE("nvmlDeviceGetCudaComputeCapability", ALSO_MIG, major);
    *major = (int)device->compute_major;
    *minor = (int)device->compute_minor;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetComputeMode(const struct handle *handle, unsigned *mode) {
    ON_DEVICE("nvmlDeviceGetComputeMode", WHOLE_ONLY, mode);
    *mode = 0; /* NVML_COMPUTEMODE_DEFAULT */
    return SUCCESS;
}

EXPORT int nvmlDeviceGetTemperature(const struct handle *handle, unsigned sensor, unsigned *celsius) {
    ON_DEVICE("nvmlDeviceGetTemperature", WHOLE_ONLY, celsius);
    *celsius = 40;
    return sensor == 0 ? SUCCESS : INVALID_ARGUMENT;
}

static int clock_mhz(const struct handle *handle, const char *function, unsigned *mhz) {
    ON_DEVICE(function, WHOLE_ONLY, mhz);
    *mhz = 1500;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetClockInfo(const struct handle *handle, unsigned type, unsigned *mhz) {
    (void)type;
    return clock_mhz(handle, "nvmlDeviceGetClockInfo", mhz);
}

EXPORT int nvmlDeviceGetMaxClockInfo(const struct handle *handle, unsigned type, unsigned *mhz) {
    (void)type;
    return clock_mhz(handle, "nvmlDeviceGetMaxClockInfo", mhz);
}

EXPORT int nvmlDeviceGetMigMode(const struct handle *handle, unsigned *current, unsigned *pending) {
    ON_DEVICE("nvmlDeviceGetMigMode", WHOLE_ONLY, current);
    if (!device->mig_supported) return NOT_SUPPORTED;
    *current = *pending = device->mig_mode;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(const struct handle *handle, unsigned *count) {
    ON_DEVICE("nvmlDeviceGetMaxMigDeviceCount", WHOLE_ONLY, count);
    *count = device->mig_supported ? MAX_INSTANCES : 0;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(const struct handle *handle, unsigned index, struct handle **mig) {
    ON_DEVICE("nvmlDeviceGetMigDeviceHandleByIndex", WHOLE_ONLY, mig);
    if (!device->mig_supported) return NOT_SUPPORTED;
    if (index >= MAX_INSTANCES) return INVALID_ARGUMENT;
    if (!device->mig_mode || index >= device->mig_count) return NOT_FOUND;
    *mig = handle_of(handle->device, (int)index + 1);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(const struct handle *handle, struct handle **parent) {
    ON_DEVICE("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", ALSO_MIG, parent);
    if (!handle->instance) return INVALID_ARGUMENT;
    *parent = handle_of(handle->device, 0);
    return SUCCESS;
}

EXPORT int nvmlDeviceIsMigDeviceHandle(const struct handle *handle, unsigned *is_mig) {
    ON_DEVICE("nvmlDeviceIsMigDeviceHandle", ALSO_MIG, is_mig);
    *is_mig = handle->instance > 0;
    return SUCCESS;
}

static int instance_id(const struct handle *handle, const char *function, unsigned id, unsigned *out) {
    ON_DEVICE(function, ALSO_MIG, out);
    *out = id;
    return handle->instance ? SUCCESS : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetGpuInstanceId(const struct handle *handle, unsigned *id) {
    return instance_id(handle, "nvmlDeviceGetGpuInstanceId", handle ? (unsigned)handle->instance : 0, id);
}

EXPORT int nvmlDeviceGetComputeInstanceId(const struct handle *handle, unsigned *id) {
    return instance_id(handle, "nvmlDeviceGetComputeInstanceId", 0, id);
}
