/*
 * Stands between the log and the C library (LD_PRELOAD) and sees each call on the files of one directory. One chosen call
 * fails, or transfers only a part of what was asked, or waits. Python drives it by ctypes; see faults.py.
 *
 * Calls are counted for the whole process, so that a number means one call. What the log's directory is, and which
 * descriptors are in it, is known from the calls themselves; all others pass.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CALLS(CALL)                                                                                                        \
    CALL(mkdir) CALL(faccessat) CALL(openat) CALL(close) CALL(fstat) CALL(pread) CALL(pwrite) CALL(pwrite_nothing)                   \
    CALL(posix_fallocate) CALL(fallocate) CALL(ftruncate) CALL(mmap) CALL(fdatasync) CALL(fsync) CALL(flock) CALL(renameat2)               \
    CALL(renameat) CALL(unlinkat) CALL(fdopendir) CALL(readdir)

#define NUMBER(name) CALL_##name,
enum call { CALLS(NUMBER) CALL_COUNT };
#define NAME(name) #name,
static const char *const names[] = {CALLS(NAME)};

enum { MAX_DESCRIPTORS = 4096, NAME_SIZE = 32 };

static char directory[4096];
static char files[MAX_DESCRIPTORS][NAME_SIZE]; /* by descriptor; "": not the log's */
static unsigned seen[CALL_COUNT];
static unsigned touched; /* calls that did not do what was asked */
static unsigned low;     /* calls with a descriptor that is standard input's, output's or error's */

static enum call chosen = CALL_COUNT;
static unsigned chosen_number;
static int chosen_error; /* 0: none */
static bool is_part;     /* transfers a part; where there is an error too, the call after it fails */
static __thread int next_error;

static pthread_mutex_t hold_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hold_moved = PTHREAD_COND_INITIALIZER;
static char held_name[NAME_SIZE]; /* the next fdatasync of this file waits */
static bool is_held;
static unsigned slow_us; /* each fdatasync takes at least so long */
static bool holds_making;  /* files that are made wait for their blocks */
static bool holds_looks; /* who asks for the size of a file of the log waits */
static bool holds_unmapping; /* mappings of the log's files stay until shim_release */
static void *mapped[MAX_DESCRIPTORS]; /* where the log's files are */
static unsigned slow_removal_us; /* each unlinkat takes at least so long */

/* A clock of the log's own, which stands still but for what Python and the syncs add. */
static pthread_mutex_t clock_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t clock_moved = PTHREAD_COND_INITIALIZER;
static uint64_t clock_us; /* 0: the log sees the real one */
static unsigned syncs_running;
static bool is_gate_shut; /* then no fdatasync ends */

/* ---- for Python ---- */

void shim_watch(const char *path)
{
    strncpy(directory, path, sizeof directory - 1);
}

/* 0, or -1 where there is no such call. */
int shim_choose(const char *name, unsigned number, int error, int part)
{
    for (chosen = 0; chosen < CALL_COUNT; chosen++)
        if (strcmp(names[chosen], name) == 0)
            break;
    chosen_number = number;
    chosen_error = error;
    is_part = part != 0;
    return chosen < CALL_COUNT ? 0 : -1;
}

const char *shim_name(unsigned call)
{
    return call < CALL_COUNT ? names[call] : NULL;
}

unsigned shim_seen(unsigned call)
{
    return __atomic_load_n(&seen[call], __ATOMIC_RELAXED);
}

unsigned shim_touched(void)
{
    return __atomic_load_n(&touched, __ATOMIC_RELAXED);
}

/* Calls on a file of the log with a descriptor below 3. */
unsigned shim_low(void)
{
    return __atomic_load_n(&low, __ATOMIC_RELAXED);
}

void shim_slow(unsigned us)
{
    __atomic_store_n(&slow_us, us, __ATOMIC_RELAXED);
}

void shim_slow_removal(unsigned us)
{
    __atomic_store_n(&slow_removal_us, us, __ATOMIC_RELAXED);
}

/* From now on, until shim_release, files that are made wait for their blocks. */
void shim_hold_making(void)
{
    (void)pthread_mutex_lock(&hold_lock);
    holds_making = true;
    is_held = false;
    (void)pthread_mutex_unlock(&hold_lock);
}

void shim_hold_looks(void)
{
    (void)pthread_mutex_lock(&hold_lock);
    holds_looks = true;
    is_held = false;
    (void)pthread_mutex_unlock(&hold_lock);
}

void shim_hold_unmapping(void)
{
    (void)pthread_mutex_lock(&hold_lock);
    holds_unmapping = true;
    is_held = false;
    (void)pthread_mutex_unlock(&hold_lock);
}

void shim_stop_clock(void)
{
    (void)pthread_mutex_lock(&clock_lock);
    clock_us = 1000000;
    (void)pthread_mutex_unlock(&clock_lock);
}

/* Not while a sync is running, to which the time would be added as well. */
void shim_advance(unsigned us)
{
    (void)pthread_mutex_lock(&clock_lock);
    while (syncs_running > 0)
        (void)pthread_cond_wait(&clock_moved, &clock_lock);
    clock_us += us;
    (void)pthread_mutex_unlock(&clock_lock);
}

void shim_shut_gate(int is_shut)
{
    (void)pthread_mutex_lock(&clock_lock);
    is_gate_shut = is_shut != 0;
    (void)pthread_cond_broadcast(&clock_moved);
    (void)pthread_mutex_unlock(&clock_lock);
}

void shim_hold(const char *name)
{
    strncpy(held_name, name, sizeof held_name - 1);
}

int shim_is_held(void)
{
    (void)pthread_mutex_lock(&hold_lock);
    int held = is_held;
    (void)pthread_mutex_unlock(&hold_lock);
    return held;
}

void shim_wait_held(void)
{
    (void)pthread_mutex_lock(&hold_lock);
    while (!is_held)
        (void)pthread_cond_wait(&hold_moved, &hold_lock);
    (void)pthread_mutex_unlock(&hold_lock);
}

void shim_release(void)
{
    (void)pthread_mutex_lock(&hold_lock);
    held_name[0] = 0;
    holds_making = holds_unmapping = holds_looks = false;
    (void)pthread_cond_broadcast(&hold_moved);
    (void)pthread_mutex_unlock(&hold_lock);
}

/* ---- choosing ---- */

static bool is_known(int descriptor)
{
    return descriptor >= 0 && descriptor < MAX_DESCRIPTORS && files[descriptor][0] != 0;
}

/* Of a call that uses it. */
static bool is_ours(int descriptor)
{
    bool ours = is_known(descriptor);
    if (ours && descriptor <= STDERR_FILENO)
        (void)__atomic_add_fetch(&low, 1, __ATOMIC_RELAXED);
    return ours;
}

static bool is_directory(const char *path)
{
    return directory[0] != 0 && strcmp(path, directory) == 0;
}

static void note(int descriptor, const char *name)
{
    if (descriptor >= 0 && descriptor < MAX_DESCRIPTORS)
        strncpy(files[descriptor], name, NAME_SIZE - 1);
}

static void forget(int descriptor)
{
    if (is_known(descriptor))
        memset(files[descriptor], 0, NAME_SIZE);
}

static bool is_chosen(enum call call)
{
    return __atomic_add_fetch(&seen[call], 1, __ATOMIC_RELAXED) == chosen_number && call == chosen;
}

static void touch(void)
{
    (void)__atomic_add_fetch(&touched, 1, __ATOMIC_RELAXED);
}

/* The error that the call has to give, or 0. */
static int error_of(enum call call)
{
    if (!is_chosen(call))
        return 0;
    touch();
    return chosen_error;
}

/* How much of `size` to transfer; -1, with errno, for none. */
static ssize_t part_of(enum call call, size_t size)
{
    bool chosen_now = is_chosen(call);
    int error = chosen_now && !is_part ? chosen_error : next_error;
    next_error = 0;
    if (error != 0) {
        touch();
        errno = error;
        return -1;
    }
    if (!chosen_now || size < 2)
        return (ssize_t)size;
    touch();
    next_error = chosen_error;
    return (ssize_t)(size / 2);
}

static void wait_if_held(int descriptor)
{
    (void)pthread_mutex_lock(&hold_lock);
    while (held_name[0] != 0 && strcmp(files[descriptor], held_name) == 0) {
        is_held = true;
        (void)pthread_cond_broadcast(&hold_moved);
        (void)pthread_cond_wait(&hold_moved, &hold_lock);
    }
    (void)pthread_mutex_unlock(&hold_lock);
}

static void wait_while(const bool *holds)
{
    (void)pthread_mutex_lock(&hold_lock);
    while (*holds) {
        is_held = true;
        (void)pthread_cond_broadcast(&hold_moved);
        (void)pthread_cond_wait(&hold_moved, &hold_lock);
    }
    (void)pthread_mutex_unlock(&hold_lock);
}

static void wait_if_making_is_held(int descriptor)
{
    const char *suffix = strrchr(files[descriptor], '.');
    if (suffix != NULL && strcmp(suffix, ".spare") == 0)
        wait_while(&holds_making);
}

/* Puts `to` where `from` stands in the table; false where it does not stand there. */
static bool note_mapping(void *from, void *to)
{
    bool found = false;
    (void)pthread_mutex_lock(&hold_lock);
    for (size_t i = 0; i < MAX_DESCRIPTORS && !found; i++) {
        found = mapped[i] == from;
        if (found)
            mapped[i] = to;
    }
    (void)pthread_mutex_unlock(&hold_lock);
    return found;
}

/* ---- the calls ---- */

#define REAL(name)                                                                                                         \
    static __typeof__(name) *real;                                                                                         \
    if (real == NULL)                                                                                                      \
    real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define FAIL_IF_CHOSEN(name, ours, result)                                                                                 \
    do {                                                                                                                   \
        int chosen_now = (ours) ? error_of(CALL_##name) : 0;                                                               \
        if (chosen_now != 0) {                                                                                             \
            errno = chosen_now;                                                                                            \
            return result;                                                                                                 \
        }                                                                                                                  \
    } while (0)

int openat(int at, const char *name, int flags, ...)
{
    REAL(openat);
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? (mode_t)va_arg(arguments, unsigned) : 0;
    va_end(arguments);
    bool ours = is_ours(at) || (at == AT_FDCWD && is_directory(name));
    FAIL_IF_CHOSEN(openat, ours, -1);
    int descriptor = real(at, name, flags, mode);
    if (ours)
        note(descriptor, name);
    return descriptor;
}

int close(int descriptor)
{
    REAL(close);
    bool ours = is_known(descriptor);
    forget(descriptor);
    int result = real(descriptor);
    FAIL_IF_CHOSEN(close, ours, -1); /* closed it is all the same */
    return result;
}

int fcntl(int descriptor, int command, ...)
{
    REAL(fcntl);
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    int result = real(descriptor, command, argument);
    if (command == F_DUPFD_CLOEXEC && is_known(descriptor)) {
        char name[NAME_SIZE];
        memcpy(name, files[descriptor], NAME_SIZE);
        note(result, name);
    }
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    FAIL_IF_CHOSEN(mkdir, is_directory(path), -1);
    return real(path, mode);
}

int faccessat(int at, const char *name, int mode, int flags)
{
    REAL(faccessat);
    FAIL_IF_CHOSEN(faccessat, is_ours(at), -1);
    return real(at, name, mode, flags);
}

int fstat(int descriptor, struct stat *status)
{
    REAL(fstat);
    FAIL_IF_CHOSEN(fstat, is_ours(descriptor), -1);
    if (is_ours(descriptor))
        wait_while(&holds_looks);
    return real(descriptor, status);
}

ssize_t pread(int descriptor, void *to, size_t size, off_t offset)
{
    REAL(pread);
    ssize_t part = is_ours(descriptor) ? part_of(CALL_pread, size) : (ssize_t)size;
    return part < 0 ? -1 : real(descriptor, to, (size_t)part, offset);
}

ssize_t pwrite(int descriptor, const void *from, size_t size, off_t offset)
{
    REAL(pwrite);
    if (size == 0) { /* what follows on a sync, to see whether the file system still writes */
        FAIL_IF_CHOSEN(pwrite_nothing, is_ours(descriptor), -1);
        return real(descriptor, from, size, offset);
    }
    ssize_t part = is_ours(descriptor) ? part_of(CALL_pwrite, size) : (ssize_t)size;
    return part < 0 ? -1 : real(descriptor, from, (size_t)part, offset);
}

int posix_fallocate(int descriptor, off_t offset, off_t size)
{
    REAL(posix_fallocate);
    int error = is_ours(descriptor) ? error_of(CALL_posix_fallocate) : 0;
    if (is_ours(descriptor))
        wait_if_making_is_held(descriptor);
    return error != 0 ? error : real(descriptor, offset, size);
}

int fallocate(int descriptor, int mode, off_t offset, off_t size)
{
    REAL(fallocate);
    FAIL_IF_CHOSEN(fallocate, is_ours(descriptor), -1);
    if (is_ours(descriptor))
        wait_if_making_is_held(descriptor);
    return real(descriptor, mode, offset, size);
}

int ftruncate(int descriptor, off_t size)
{
    REAL(ftruncate);
    FAIL_IF_CHOSEN(ftruncate, is_ours(descriptor), -1);
    return real(descriptor, size);
}

void *mmap(void *at, size_t size, int protection, int flags, int descriptor, off_t offset)
{
    REAL(mmap);
    FAIL_IF_CHOSEN(mmap, is_ours(descriptor), MAP_FAILED);
    void *base = real(at, size, protection, flags, descriptor, offset);
    if (is_ours(descriptor) && base != MAP_FAILED)
        note_mapping(NULL, base);
    return base;
}

int munmap(void *at, size_t size)
{
    REAL(munmap);
    if (note_mapping(at, NULL))
        wait_while(&holds_unmapping);
    return real(at, size);
}

static bool begin_sync(void)
{
    (void)pthread_mutex_lock(&clock_lock);
    bool is_stopped = clock_us > 0;
    syncs_running += is_stopped;
    (void)pthread_mutex_unlock(&clock_lock);
    return is_stopped;
}

static void end_sync(unsigned us)
{
    (void)pthread_mutex_lock(&clock_lock);
    while (is_gate_shut)
        (void)pthread_cond_wait(&clock_moved, &clock_lock);
    clock_us += us;
    syncs_running--;
    (void)pthread_cond_broadcast(&clock_moved);
    (void)pthread_mutex_unlock(&clock_lock);
}

int fdatasync(int descriptor)
{
    REAL(fdatasync);
    FAIL_IF_CHOSEN(fdatasync, is_ours(descriptor), -1);
    if (!is_ours(descriptor))
        return real(descriptor);
    bool has_own_clock = begin_sync();
    wait_if_held(descriptor);
    unsigned us = __atomic_load_n(&slow_us, __ATOMIC_RELAXED);
    if (us > 0 && !has_own_clock)
        (void)usleep(us);
    int result = real(descriptor);
    if (has_own_clock)
        end_sync(us);
    return result;
}

/* The log's calls are told from all others by where they return to. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    REAL(clock_gettime);
    Dl_info caller;
    uint64_t us = __atomic_load_n(&clock_us, __ATOMIC_RELAXED);
    if (us == 0 || clock != CLOCK_MONOTONIC || dladdr(__builtin_return_address(0), &caller) == 0 ||
        strstr(caller.dli_fname, "_core.") == NULL)
        return real(clock, time);
    *time = (struct timespec){(time_t)(us / 1000000), (long)(us % 1000000 * 1000)};
    return 0;
}

int fsync(int descriptor)
{
    REAL(fsync);
    FAIL_IF_CHOSEN(fsync, is_ours(descriptor), -1);
    return real(descriptor);
}

int flock(int descriptor, int operation)
{
    REAL(flock);
    FAIL_IF_CHOSEN(flock, is_ours(descriptor), -1);
    return real(descriptor, operation);
}

long syscall(long number, ...)
{
    REAL(syscall);
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (size_t i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    FAIL_IF_CHOSEN(renameat2, number == SYS_renameat2 && is_ours((int)a[0]), -1);
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    REAL(renameat);
    FAIL_IF_CHOSEN(renameat, is_ours(from_at), -1);
    return real(from_at, from, to_at, to);
}

int unlinkat(int at, const char *name, int flags)
{
    REAL(unlinkat);
    FAIL_IF_CHOSEN(unlinkat, is_ours(at), -1);
    unsigned us = is_ours(at) ? __atomic_load_n(&slow_removal_us, __ATOMIC_RELAXED) : 0;
    if (us > 0)
        (void)usleep(us);
    return real(at, name, flags);
}

DIR *fdopendir(int descriptor)
{
    REAL(fdopendir);
    FAIL_IF_CHOSEN(fdopendir, is_ours(descriptor), NULL);
    return real(descriptor);
}

struct dirent *readdir(DIR *stream)
{
    REAL(readdir);
    FAIL_IF_CHOSEN(readdir, is_ours(dirfd(stream)), NULL);
    return real(stream);
}

int closedir(DIR *stream)
{
    REAL(closedir);
    forget(dirfd(stream));
    return real(stream);
}
