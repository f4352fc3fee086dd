/* The device's true energy from its spans, and what a counter that ticks shows of it. */
#include <math.h>
#include <pthread.h>
#include <time.h>

#include "fake.h"

int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t wall_us(int64_t at_ns) {
    return (uint64_t)((at_ns + LOAD(control->wall_offset_ns)) / 1000);
}

/* A number from -1 to 1 that depends on the seed and the tick only (the finaliser of SplitMix64). */
static double noise(uint64_t seed, int64_t tick) {
    uint64_t z = seed + 0x9e3779b97f4a7c15ull * ((uint64_t)tick + 1);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-52 - 1.0;
}

static int64_t tick_at(const struct device *device, int64_t tick) {
    int64_t at = device->epoch_ns + device->phase_ns + tick * device->tick_ns;
    if (device->jitter_ns) at += llround(noise(device->seed, tick) * (double)device->jitter_ns);
    return at;
}

/* The number of the last tick at or before a time; -1 before the first. */
static int64_t last_tick(const struct device *device, int64_t at_ns) {
    int64_t since = at_ns - device->epoch_ns - device->phase_ns;
    int64_t tick = since < 0 ? 0 : since / device->tick_ns + 1;
    while (tick >= 0 && tick_at(device, tick) > at_ns) tick--;
    return tick;
}

int64_t last_tick_ns(const struct device *device, int64_t at_ns) {
    int64_t tick = last_tick(device, at_ns);
    return tick < 0 ? device->epoch_ns : tick_at(device, tick);
}

double true_joules(const struct device *device, int64_t at_ns) {
    if (at_ns <= device->epoch_ns) return 0;
    double joules = device->idle_watts * (double)(at_ns - device->epoch_ns) * 1e-9;
    const struct span *spans = control->spans[device - control->devices];
    uint32_t low = 0, high = LOAD(device->span_count);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (spans[middle].begin_ns < at_ns) low = middle + 1;
        else high = middle;
    }
    if (low == 0) return joules;
    const struct span *span = &spans[low - 1];
    int64_t end_ns = LOAD(span->end_ns);
    if (end_ns > at_ns) end_ns = at_ns;
    return joules + span->above_joules
           + (span->watts - device->idle_watts) * (double)(end_ns - span->begin_ns) * 1e-9;
}

double mean_watts(const struct device *device, int64_t end_ns, int64_t window_ns) {
    return (true_joules(device, end_ns) - true_joules(device, end_ns - window_ns)) / ((double)window_ns * 1e-9);
}

/* How far a part-time counter has been added up: a tick adds the mean power of its last part, times its
 * length, so its value is a sum over all ticks. Kept per process. */
static struct {
    pthread_mutex_t lock;
    int64_t epoch_ns, tick;
    uint32_t past_revision;
    double joules;
} part_time[MAX_DEVICES] = {[0 ... MAX_DEVICES - 1] = {.lock = PTHREAD_MUTEX_INITIALIZER}};

static double part_time_joules(const struct device *device, int64_t tick) {
    int index = (int)(device - control->devices);
    pthread_mutex_lock(&part_time[index].lock);
    uint32_t revision = LOAD(device->past_revision);
    if (part_time[index].epoch_ns != device->epoch_ns || part_time[index].past_revision != revision
        || part_time[index].tick > tick) {
        part_time[index].epoch_ns = device->epoch_ns;
        part_time[index].past_revision = revision;
        part_time[index].tick = -1;
        part_time[index].joules = 0;
    }
    while (part_time[index].tick < tick) {
        int64_t last = part_time[index].tick;
        int64_t begin = last < 0 ? device->epoch_ns : tick_at(device, last);
        int64_t end = tick_at(device, last + 1);
        if (end > begin) {
            int64_t seen = llround((double)(end - begin) * device->duty);
            if (seen < 1) seen = 1;
            part_time[index].joules += mean_watts(device, end, seen) * (double)(end - begin) * 1e-9;
        }
        part_time[index].tick = last + 1;
    }
    double joules = part_time[index].joules;
    pthread_mutex_unlock(&part_time[index].lock);
    return joules;
}

uint64_t counter_millijoules(const struct device *device, int64_t at_ns) {
    int64_t tick = last_tick(device, at_ns);
    double joules = 0;
    if (tick >= 0)
        joules = device->duty < 1 ? part_time_joules(device, tick) : true_joules(device, tick_at(device, tick));
    double offset;
    __atomic_load(&device->offset_joules, &offset, __ATOMIC_ACQUIRE);
    joules += offset;
    /* The sum of a few floats may end a hair below a whole millijoule that it stands for. */
    return joules <= 0 ? 0 : (uint64_t)floor(joules * 1000 + 1e-6);
}
