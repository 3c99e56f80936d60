/*
 * For LD_PRELOAD: once the file that SHUT_DOWN_FROM names exists, an fdatasync during which the file system is shut down. The data
 * comes to the disk; what only the journal knows of it is lost; and the call returns 0. The kernel does so where the shutdown comes
 * between the last look for it and the end of the call, which a test cannot hit at will.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FS_IOC_SHUTDOWN _IOR('X', 125, uint32_t)

int fdatasync(int descriptor)
{
    const char *trigger = getenv("SHUT_DOWN_FROM");
    uint32_t without_journal = 2;
    if (trigger == NULL || access(trigger, F_OK) != 0)
        return (int)syscall(SYS_fdatasync, descriptor);
    if (sync_file_range(descriptor, 0, 0,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0)
        return -1;
    return ioctl(descriptor, FS_IOC_SHUTDOWN, &without_journal);
}
