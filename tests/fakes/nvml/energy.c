/* Energy, power and what else a sensor reads again and again. */
#include <math.h>

#include "fake.h"

#define SAMPLE_RING 120
#define TOTAL_POWER_SAMPLES 0

enum { FIELD_ENERGY = 83, FIELD_POWER_AVERAGE = 185, FIELD_POWER_INSTANT = 186 };

static unsigned milliwatts(double watts) { return (unsigned)lround(watts * 1000); }

/* Power is refreshed at the ticks: the mean of a window that ends at the last one. */
static unsigned power_milliwatts(const struct device *device, int64_t window_ns) {
    return milliwatts(mean_watts(device, last_tick_ns(device, now_ns()), window_ns));
}

EXPORT int nvmlDeviceGetTotalEnergyConsumption(const struct handle *handle, unsigned long long *millijoules) {
    ON_DEVICE("nvmlDeviceGetTotalEnergyConsumption", WHOLE_ONLY, millijoules);
    if (!device->has_counter) return NOT_SUPPORTED;
    __atomic_add_fetch(&device->energy_reads, 1, __ATOMIC_RELAXED);
    *millijoules = counter_millijoules(device, now_ns());
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPowerUsage(const struct handle *handle, unsigned *power) {
    ON_DEVICE("nvmlDeviceGetPowerUsage", WHOLE_ONLY, power);
    *power = power_milliwatts(device, device->average_ns);
    return SUCCESS;
}

static void read_field(const struct device *device, nvml_field_value *field) {
    int64_t now = now_ns();
    field->timestamp_us = (int64_t)wall_us(device->stamps_ticks ? last_tick_ns(device, now) : now);
    field->latency_us = 0;
    field->value_type = VALUE_UINT;
    field->result = SUCCESS;
    if (field->scope == 0 && field->field == FIELD_ENERGY && device->has_counter) {
        field->value_type = VALUE_ULONGLONG;
        field->value.ull = counter_millijoules(device, now);
    } else if (field->scope == 0 && field->field == FIELD_POWER_AVERAGE) {
        field->value.ui = power_milliwatts(device, device->average_ns);
    } else if (field->scope == 0 && field->field == FIELD_POWER_INSTANT) {
        field->value.ui = power_milliwatts(device, device->instant_ns);
    } else {
        field->result = NOT_SUPPORTED;
    }
}

EXPORT int nvmlDeviceGetFieldValues(const struct handle *handle, int count, nvml_field_value *fields) {
    ON_DEVICE("nvmlDeviceGetFieldValues", WHOLE_ONLY, &fields->value);
    for (int i = 0; i < count; i++) read_field(device, &fields[i]);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetSamples(const struct handle *handle, unsigned type, unsigned long long last_seen_us,
                                unsigned *value_type, unsigned *count, nvml_sample *samples) {
    ON_DEVICE("nvmlDeviceGetSamples", WHOLE_ONLY, count);
    if (type != TOTAL_POWER_SAMPLES) return NOT_SUPPORTED;
    *value_type = VALUE_UINT;
    if (!samples) {
        *count = SAMPLE_RING;
        return SUCCESS;
    }
    int64_t newest = (now_ns() - device->epoch_ns) / device->sample_ns;
    unsigned written = 0;
    for (int64_t k = newest < SAMPLE_RING ? 1 : newest - SAMPLE_RING + 1; k <= newest && written < *count; k++) {
        int64_t at = device->epoch_ns + k * device->sample_ns;
        if (wall_us(at) <= last_seen_us) continue;
        samples[written].timestamp_us = wall_us(at);
        samples[written++].value.ui = milliwatts(mean_watts(device, at, device->sample_ns));
    }
    *count = written;
    return written ? SUCCESS : NOT_FOUND;
}

EXPORT int nvmlDeviceGetEnforcedPowerLimit(const struct handle *handle, unsigned *limit) {
    ON_DEVICE("nvmlDeviceGetEnforcedPowerLimit", WHOLE_ONLY, limit);
    *limit = milliwatts(device->limit_watts);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPowerManagementLimit(const struct handle *handle, unsigned *limit) {
    ON_DEVICE("nvmlDeviceGetPowerManagementLimit", WHOLE_ONLY, limit);
    *limit = milliwatts(device->limit_watts);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPowerManagementDefaultLimit(const struct handle *handle, unsigned *limit) {
    ON_DEVICE("nvmlDeviceGetPowerManagementDefaultLimit", WHOLE_ONLY, limit);
    *limit = milliwatts(device->limit_watts);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPowerManagementLimitConstraints(const struct handle *handle, unsigned *low, unsigned *high) {
    ON_DEVICE("nvmlDeviceGetPowerManagementLimitConstraints", WHOLE_ONLY, high);
    *low = milliwatts(device->idle_watts);
    *high = milliwatts(device->limit_watts);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetUtilizationRates(const struct handle *handle, nvml_utilization *rates) {
    ON_DEVICE("nvmlDeviceGetUtilizationRates", WHOLE_ONLY, rates);
    if (device->mig_mode) return NOT_SUPPORTED;
    double above = mean_watts(device, now_ns(), device->utilization_ns) - device->idle_watts;
    double percent = 100 * above / (device->limit_watts - device->idle_watts);
    rates->gpu = (unsigned)lround(fmin(100, fmax(0, percent)));
    rates->memory = rates->gpu;
    return SUCCESS;
}
