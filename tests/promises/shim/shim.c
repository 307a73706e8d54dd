/* A machine that can be made ill while processes run on it: its disk and its wall clock.
 *
 * Preloaded into every process of a deployment. FIRE_CONTROL names a file that the test maps too:
 *
 *   u32 what    bits: 1 write fails, 2 write is cut short and then fails, 4 fdatasync/fsync fails,
 *                     8 every write is cut short (and succeeds), 16 sync takes `delay_us`
 *   i32 error   the errno that a failing call reports (EIO, ENOSPC, ...)
 *   i64 shift   added to CLOCK_REALTIME, in nanoseconds
 *   u32 delay_us
 *   u32 every   of the calls that would fail only every n-th does; 0 and 1 mean each
 *   char path[256]   only files whose path contains this
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile uint32_t what;
    volatile int32_t error;
    volatile int64_t shift;
    volatile uint32_t delay_us;
    volatile uint32_t every;
    volatile char path[256];
};

static struct control *control;
static atomic_uint calls;
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fdatasync)(int), (*real_fsync)(int);
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("FIRE_CONTROL");
    int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *found = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED) control = found;
}

static int ours(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0 || path[0] != '/') return 0;
    path[size] = 0;
    return strstr(path, (const char *)control->path) != NULL;
}

static int turn(void) {
    uint32_t every = control->every;
    return every < 2 || atomic_fetch_add(&calls, 1) % every == every - 1;
}

ssize_t write(int fd, const void *data, size_t size) {
    uint32_t what = control ? control->what : 0;
    if (!(what & 11) || size == 0 || !ours(fd)) return real_write(fd, data, size);
    if (what & 8) return real_write(fd, data, size > 1 ? size / 2 : size);
    if (!turn()) return real_write(fd, data, size);
    if ((what & 2) && size > 16) return real_write(fd, data, size - 7);
    errno = control->error;
    return -1;
}

static int sync_with(int (*real)(int), int fd) {
    uint32_t what = control ? control->what : 0;
    if ((what & 20) && ours(fd)) {
        if (what & 16) usleep(control->delay_us);
        if ((what & 4) && turn()) {
            errno = control->error;
            return -1;
        }
    }
    return real(fd);
}

int fdatasync(int fd) { return sync_with(real_fdatasync, fd); }
int fsync(int fd) { return sync_with(real_fsync, fd); }

static int64_t shift(void) { return control ? control->shift : 0; }

int clock_gettime(clockid_t which, struct timespec *at) {
    int result = real_clock_gettime(which, at);
    int64_t by = shift();
    if (result == 0 && by && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + by;
        at->tv_sec = ns / 1000000000;
        at->tv_nsec = ns % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
