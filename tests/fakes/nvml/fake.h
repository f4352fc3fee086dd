/* What the files of the library share. */
#ifndef FAKE_NVML_FAKE_H
#define FAKE_NVML_FAKE_H

#include <string.h>

#include "control.h"
#include "nvml.h"

/* A handle names a device and, from 1 on, a MIG instance of it. */
struct handle {
    int device, instance;
};

enum { WHOLE_ONLY, ALSO_MIG };

/* The code of a fault that makes a call succeed with a value of all ones, NVML's "not available". */
#define VALUE_NOT_AVAILABLE (-1)

#define LOAD(where) __atomic_load_n(&(where), __ATOMIC_ACQUIRE)

extern struct control *control;

/* session.c */
int fault(const char *function, int device);
int enter(const char *function, const struct handle *handle, int mig, struct device **device);
struct handle *handle_of(int device, int instance);
int device_state(int device);
int copy_text(const char *text, char *out, unsigned size);

int fake_nvml_users(void);

/* power.c */
int64_t now_ns(void);
uint64_t wall_us(int64_t at_ns);
int64_t last_tick_ns(const struct device *device, int64_t at_ns);
double true_joules(const struct device *device, int64_t at_ns);
double mean_watts(const struct device *device, int64_t end_ns, int64_t window_ns);
uint64_t counter_millijoules(const struct device *device, int64_t at_ns);

/* Begins a function on a device: leaves it with the error or the missing value that a fault asks for. */
#define ON_DEVICE(function, mig, out)                         \
    struct device *device;                                    \
    int code = enter(function, handle, mig, &device);         \
    if (code == VALUE_NOT_AVAILABLE) {                        \
        memset(out, 0xff, sizeof *(out));                     \
        return SUCCESS;                                       \
    }                                                         \
    if (code != SUCCESS) return code

#endif
