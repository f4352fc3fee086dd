/* Starting and stopping, faults, and the texts that belong to no device. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

struct control *control;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users;
static uint32_t seen_epoch[MAX_DEVICES];
static struct handle handles[MAX_DEVICES][MAX_INSTANCES + 1];

EXPORT uint64_t fake_nvml_control_size(void) { return sizeof(struct control); }

/* Forget who started the library, for a process in which the next test brings another control file. */
EXPORT void fake_nvml_forget(void) {
    pthread_mutex_lock(&lock);
    users = 0;
    pthread_mutex_unlock(&lock);
}

/* Map the control file over the former one, at the same address: a late reader in another thread is safe. */
static int map_control(void) {
    const char *path = getenv("TITAN_FAKE_NVML");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return DRIVER_NOT_LOADED;
    void *where = mmap(control, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED | (control ? MAP_FIXED : 0), file, 0);
    close(file);
    if (where == MAP_FAILED) return DRIVER_NOT_LOADED;
    control = where;
    return control->magic == MAGIC && control->size == sizeof *control ? SUCCESS : DRIVER_NOT_LOADED;
}

static int start(void) {
    int code = SUCCESS;
    pthread_mutex_lock(&lock);
    /* Outside of a test's `in_process` the library is still loaded, and must be no driver for anybody. */
    if (!getenv("TITAN_FAKE_NVML")) code = DRIVER_NOT_LOADED;
    else if (users == 0) code = map_control();
    pthread_mutex_unlock(&lock);
    /* The lock is not held here: a start may be told to hang. */
    if (code == SUCCESS) code = fault("nvmlInit", EVERY_DEVICE);
    if (code != SUCCESS) return code;
    pthread_mutex_lock(&lock);
    if (users++ == 0)
        for (int i = 0; i < MAX_DEVICES; i++) {
            const struct device *device = &control->devices[i];
            seen_epoch[i] = LOAD(device->lost_epoch) - (LOAD(device->lost) ? 1 : 0);
        }
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

EXPORT int nvmlInit(void) { return start(); }
EXPORT int nvmlInit_v2(void) { return start(); }
EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return start();
}

EXPORT int nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    int code = users > 0 ? SUCCESS : UNINITIALIZED;
    if (users > 0) users--;
    pthread_mutex_unlock(&lock);
    return code;
}

static void sleep_while_active(const struct fault *fault) {
    int64_t end = now_ns() + fault->sleep_ns;
    for (int64_t left; (left = end - now_ns()) > 0 && LOAD(fault->active);) {
        int64_t part = left < 5000000 ? left : 5000000;
        nanosleep(&(struct timespec){.tv_nsec = part}, NULL);
    }
}

/* Do what the test wants to go wrong with a call: sleep, or return the code that it must fail with. */
int fault(const char *function, int device) {
    __atomic_add_fetch(&control->calls, 1, __ATOMIC_RELAXED);
    uint32_t count = LOAD(control->fault_count);
    for (uint32_t i = 0; i < count; i++) {
        struct fault *fault = &control->faults[i];
        if (!LOAD(fault->active)) continue;
        if (fault->device != EVERY_DEVICE && fault->device != device) continue;
        if (strcmp(fault->function, "*") && strcmp(fault->function, function)) continue;
        if (__atomic_fetch_sub(&fault->skip, 1, __ATOMIC_RELAXED) > 0) continue;
        if (__atomic_fetch_sub(&fault->times, 1, __ATOMIC_RELAXED) <= 0) continue;
        if (fault->sleep_ns) sleep_while_active(fault);
        if (fault->code) return fault->code;
    }
    return SUCCESS;
}

struct handle *handle_of(int device, int instance) {
    handles[device][instance] = (struct handle){device, instance};
    return &handles[device][instance];
}

int device_state(int index) {
    const struct device *device = &control->devices[index];
    uint32_t epoch = LOAD(device->lost_epoch);
    int left_behind = epoch != seen_epoch[index] && epoch != LOAD(device->healed_epoch);
    int gone = (uint32_t)index >= LOAD(control->device_count);
    return gone || LOAD(device->lost) || left_behind ? GPU_IS_LOST : SUCCESS;
}

int enter(const char *function, const struct handle *handle, int mig, struct device **device) {
    if (LOAD(users) == 0) return UNINITIALIZED;
    if (handle < &handles[0][0] || handle > &handles[MAX_DEVICES - 1][MAX_INSTANCES]) return INVALID_ARGUMENT;
    int code = device_state(handle->device);
    if (code != SUCCESS) return code;
    *device = &control->devices[handle->device];
    code = fault(function, handle->device);
    if (code != SUCCESS) return code;
    return handle->instance && mig == WHOLE_ONLY ? NOT_SUPPORTED : SUCCESS;
}

int copy_text(const char *text, char *out, unsigned size) {
    if (size < strlen(text) + 1) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

static int system_text(const char *function, const char *text, char *out, unsigned size) {
    if (LOAD(users) == 0) return UNINITIALIZED;
    int code = fault(function, EVERY_DEVICE);
    return code == SUCCESS ? copy_text(text, out, size) : code;
}

EXPORT int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    return system_text("nvmlSystemGetDriverVersion", "575.51.03", out, size);
}

EXPORT int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    return system_text("nvmlSystemGetNVMLVersion", "12.575.51.03", out, size);
}

static int cuda_version(int *version) {
    if (LOAD(users) == 0) return UNINITIALIZED;
    int code = fault("nvmlSystemGetCudaDriverVersion", EVERY_DEVICE);
    if (code == SUCCESS) *version = 12090;
    return code;
}

EXPORT int nvmlSystemGetCudaDriverVersion(int *version) { return cuda_version(version); }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) { return cuda_version(version); }

EXPORT const char *nvmlErrorString(int code) {
    static const char *const texts[] = {
        "Success", "Uninitialized", "Invalid argument", "Not supported", "Insufficient permissions",
        "Already initialized", "Not found", "Insufficient size", "Insufficient external power",
        "Driver not loaded", "Timeout", "Interrupt request issue", "NVML shared library not found",
        "Function not found", "Corrupted infoROM", "GPU is lost", "GPU requires restart",
        "The operating system has blocked the request", "RM has detected an NVML/RM version mismatch"};
    if (code >= 0 && code < (int)(sizeof texts / sizeof *texts)) return texts[code];
    return "Unknown error";
}

static int device_count(unsigned *count) {
    if (LOAD(users) == 0) return UNINITIALIZED;
    int code = fault("nvmlDeviceGetCount", EVERY_DEVICE);
    if (code == SUCCESS) *count = LOAD(control->device_count);
    return code;
}

EXPORT int nvmlDeviceGetCount(unsigned *count) { return device_count(count); }
EXPORT int nvmlDeviceGetCount_v2(unsigned *count) { return device_count(count); }

/* How often `nvmlInit` is ahead of `nvmlShutdown`. */
EXPORT int fake_nvml_users(void) { return LOAD(users); }
