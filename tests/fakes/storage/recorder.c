/* Preloaded into a process: writes down, in order, what it does to files under one folder.
 *
 * TITAN_RECORD_ROOT is that folder, TITAN_RECORD_LOG the file that is written. A record is a header (kind,
 * length of the path, length of the data, and an offset or a size), then the path, then the data. Only calls that succeeded are written down, with what was really written; and
 * what it said on its standard output, so that it is known what was done when.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, TRUNCATE, RENAME, UNLINK, MKDIR, SYNC, SAY };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_length;
static int log_descriptor = -1;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TITAN_RECORD_LOG");
    root = getenv("TITAN_RECORD_ROOT");
    if (!path || !root)
        return;
    root_length = strlen(root);
    log_descriptor = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_ours(const char *path) {
    return log_descriptor >= 0 && path && strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == 0);
}

/* The path of an open file, asked of the kernel: renamed files have their new name, removed ones " (deleted)". */
static int path_of(int descriptor, char *path) {
    char link[64] = "/proc/self/fd/";
    char digits[16];
    int length = 0, value = descriptor, end = strlen(link);
    if (log_descriptor < 0 || descriptor < 0 || descriptor == log_descriptor)
        return 0;
    do
        digits[length++] = '0' + value % 10;
    while (value /= 10);
    while (length)
        link[end++] = digits[--length];
    link[end] = 0;
    ssize_t found = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX);
    if (found <= 0 || found >= PATH_MAX)
        return 0;
    path[found] = 0;
    return is_ours(path);
}

static void put(const void *data, size_t length) {
    const char *left = data;
    while (length) {
        ssize_t written = syscall(SYS_write, log_descriptor, left, length);
        if (written <= 0)
            abort();
        left += written;
        length -= written;
    }
}

static void record(enum kind kind, const char *path, const void *data, size_t length, uint64_t number) {
    int kept = errno;
    uint32_t header[5] = {kind, strlen(path), length, (uint32_t)number, (uint32_t)(number >> 32)};
    pthread_mutex_lock(&lock);
    put(header, sizeof header);
    put(path, header[1]);
    put(data, length);
    pthread_mutex_unlock(&lock);
    errno = kept;
}

static int opened(int descriptor, int flags, int existed) {
    char full[PATH_MAX + 1];
    if (descriptor < 0 || !path_of(descriptor, full))
        return descriptor;
    if ((flags & O_CREAT) && !existed)
        record(CREATE, full, "", 0, 0);
    else if (flags & O_TRUNC)
        record(TRUNCATE, full, "", 0, 0);
    return descriptor;
}

#define OPEN(name)                                                                                              \
    int name(const char *path, int flags, ...) {                                                                \
        struct stat status;                                                                                     \
        int existed = !(flags & O_CREAT) || stat(path, &status) == 0;                                           \
        va_list list;                                                                                           \
        va_start(list, flags);                                                                                  \
        mode_t mode = (flags & O_CREAT) ? va_arg(list, mode_t) : 0;                                             \
        va_end(list);                                                                                           \
        return opened(NEXT(name)(path, flags, mode), flags, existed);                                     \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                            \
    int name(int folder, const char *path, int flags, ...) {                                                    \
        struct stat status;                                                                                     \
        int existed = !(flags & O_CREAT) || fstatat(folder, path, &status, 0) == 0;                             \
        va_list list;                                                                                           \
        va_start(list, flags);                                                                                  \
        mode_t mode = (flags & O_CREAT) ? va_arg(list, mode_t) : 0;                                             \
        va_end(list);                                                                                           \
        return opened(NEXT(name)(folder, path, flags, mode), flags, existed);                             \
    }
OPENAT(openat)
OPENAT(openat64)

static void wrote(int descriptor, const void *data, ssize_t written, off_t offset) {
    char path[PATH_MAX + 1];
    if (written > 0 && path_of(descriptor, path))
        record(WRITE, path, data, written, offset);
}

#define PWRITE(name)                                                                                            \
    ssize_t name(int descriptor, const void *data, size_t length, off_t offset) {                               \
        ssize_t written = NEXT(name)(descriptor, data, length, offset);                                         \
        wrote(descriptor, data, written, offset);                                                               \
        return written;                                                                                         \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int descriptor, const void *data, size_t length) {
    ssize_t written = NEXT(write)(descriptor, data, length);
    int kept = errno;
    off_t end = written > 0 ? lseek(descriptor, 0, SEEK_CUR) : -1;
    errno = kept;
    if (descriptor == 1 && written > 0 && log_descriptor >= 0)
        record(SAY, root, data, written, 0);
    else if (end >= 0)
        wrote(descriptor, data, written, end - written);
    return written;
}

#define FTRUNCATE(name)                                                                                         \
    int name(int descriptor, off_t size) {                                                                      \
        char path[PATH_MAX + 1];                                                                                \
        int failed = NEXT(name)(descriptor, size);                                                              \
        if (!failed && path_of(descriptor, path))                                                               \
            record(TRUNCATE, path, "", 0, size);                                                                \
        return failed;                                                                                          \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

#define TRUNCATE_PATH(name)                                                                                     \
    int name(const char *path, off_t size) {                                                                    \
        int failed = NEXT(name)(path, size);                                                                    \
        if (!failed && is_ours(path))                                                                           \
            record(TRUNCATE, path, "", 0, size);                                                                \
        return failed;                                                                                          \
    }
TRUNCATE_PATH(truncate)
TRUNCATE_PATH(truncate64)

#define SYNC_FILE(name)                                                                                         \
    int name(int descriptor) {                                                                                  \
        char path[PATH_MAX + 1];                                                                                \
        int failed = NEXT(name)(descriptor);                                                                    \
        if (!failed && path_of(descriptor, path))                                                               \
            record(SYNC, path, "", 0, 0);                                                                       \
        return failed;                                                                                          \
    }
SYNC_FILE(fsync)
SYNC_FILE(fdatasync)

int unlink(const char *path) {
    int failed = NEXT(unlink)(path);
    if (!failed && is_ours(path))
        record(UNLINK, path, "", 0, 0);
    return failed;
}

int rename(const char *old, const char *new) {
    int failed = NEXT(rename)(old, new);
    if (!failed && is_ours(new))
        record(RENAME, old, new, strlen(new), 0);
    return failed;
}

int mkdir(const char *path, mode_t mode) {
    int failed = NEXT(mkdir)(path, mode);
    if (!failed && is_ours(path))
        record(MKDIR, path, "", 0, 0);
    return failed;
}
