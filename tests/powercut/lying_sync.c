/*
 * For LD_PRELOAD: a disk that says that it has synced, and has not. pylogwal syncs files by fdatasync and directories by
 * fsync. -DFILES leaves the first out, -DDIRECTORIES the second; -DEVERY=n every n-th of them only. With -DERRORS they are done,
 * and only their errors are kept back.
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef EVERY
#define EVERY 1
#endif

static int sync_or_not(long call, int descriptor)
{
#ifdef ERRORS
    (void)syscall(call, descriptor);
    return 0;
#else
    static atomic_uint calls;
    return atomic_fetch_add(&calls, 1) % EVERY == EVERY - 1 ? 0 : (int)syscall(call, descriptor);
#endif
}

#ifdef FILES
int fdatasync(int descriptor)
{
    return sync_or_not(SYS_fdatasync, descriptor);
}
#endif

#ifdef DIRECTORIES
int fsync(int descriptor)
{
    return sync_or_not(SYS_fsync, descriptor);
}
#endif
