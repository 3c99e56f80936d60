/*
 * The file operations of Linux and macOS: the only file that calls the system.
 *
 * - fdatasync is durability on Linux; on macOS only F_FULLFSYNC reaches the platter.
 * - Files are filled in 4 KiB writes: larger ones make large folios in the page cache, and then each small store to a
 *   mapping costs a write of a megabyte (measured: 335 us and 1024 KiB against 120 us and 4 KiB an append).
 *   POSIX_FADV_RANDOM keeps reads from making them.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#if defined(_WIN32)
#error "pylogwal supports Linux and macOS; Windows is not supported"
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "fs.h"

#if defined(__linux__)
#if __has_include(<linux/fiemap.h>)
#include <linux/fiemap.h>
#include <linux/fs.h>
#endif
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#ifndef FALLOC_FL_UNSHARE_RANGE
#define FALLOC_FL_UNSHARE_RANGE 0x40
#endif
#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif
#endif

enum { FILL_SIZE = 4096 };

struct lw_file {
    int descriptor;
    bool is_filled; /* see file_sync */
};

typedef struct directory_fs {
    lw_fs operations; /* first: an lw_fs is a directory_fs */
    int directory;
    char *place; /* its absolute path when it was opened */
} directory_fs;

static int directory_of(lw_fs *fs)
{
    return ((directory_fs *)fs)->directory;
}

/*
 * Where 0, 1 or 2 is closed the system gives it to the next file, and what the program prints goes there: into a segment, over
 * its header. Whatever gets such a number is exchanged for another at once; and as another thread may print in between, the
 * three are taken before anything of a log is opened, for good. Programs that are started do not inherit that.
 */
static void occupy_standard(void)
{
    int descriptor;
    do {
        descriptor = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (descriptor >= 0 ? descriptor <= STDERR_FILENO : errno == EINTR);
    if (descriptor >= 0)
        (void)close(descriptor);
}

/* -1 and errno, or a descriptor. */
static int above_standard(int descriptor)
{
    if (descriptor < 0 || descriptor > STDERR_FILENO)
        return descriptor;
    int higher = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int failed = errno;
    (void)close(descriptor);
    errno = failed;
    return higher;
}

/* `name` of the directory `at`, also where a signal comes. -1 and errno, or a descriptor. The only place that opens. */
static int open_at(int at, const char *name, int flags)
{
    int descriptor;
    do {
        descriptor = openat(at, name, flags | O_CLOEXEC, 0600);
    } while (descriptor < 0 && errno == EINTR);
    return above_standard(descriptor);
}

/* ---- files ---- */

/* Earlier versions made files that everybody can read. Nobody gets a right that he did not have, whatever the umask. */
static void make_private(int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) == 0 && (status.st_mode & 07177) != 0)
        (void)fchmod(descriptor, status.st_mode & 0600);
}

static int file_open(lw_fs *fs, const char *name, int flags, lw_file **out)
{
    /* O_NONBLOCK: a pipe under a segment's name must not hang who looks at it. */
    int system_flags = (flags & LW_OPEN_WRITE ? O_RDWR : O_RDONLY) | (flags & LW_OPEN_CREATE ? O_CREAT : 0) | O_NONBLOCK;
    lw_file *file = malloc(sizeof *file);
    if (file == NULL)
        return ENOMEM;
    file->descriptor = open_at(directory_of(fs), name, system_flags);
    if (file->descriptor < 0) {
        int failed = errno;
        free(file);
        return failed;
    }
    file->is_filled = (flags & LW_OPEN_FILLED) != 0;
    if (flags & LW_OPEN_REUSE)
        make_private(file->descriptor);
#if defined(POSIX_FADV_RANDOM)
    (void)posix_fadvise(file->descriptor, 0, 0, POSIX_FADV_RANDOM);
#endif
    *out = file;
    return 0;
}

static void file_close(lw_fs *fs, lw_file *file)
{
    (void)fs;
    (void)close(file->descriptor);
    free(file);
}

static int file_size(lw_fs *fs, lw_file *file, uint64_t *size)
{
    struct stat status;
    (void)fs;
    if (fstat(file->descriptor, &status) != 0)
        return errno;
    if (!S_ISREG(status.st_mode))
        return EINVAL;
    *size = (uint64_t)status.st_size;
    return 0;
}

static int file_read(lw_fs *fs, lw_file *file, uint64_t offset, void *to, size_t size)
{
    (void)fs;
    for (uint8_t *at = to; size > 0;) {
        ssize_t done = pread(file->descriptor, at, size, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : ENODATA;
        at += done;
        offset += (uint64_t)done;
        size -= (size_t)done;
    }
    return 0;
}

static int file_write(lw_fs *fs, lw_file *file, uint64_t offset, const void *from, size_t size)
{
    (void)fs;
    for (const uint8_t *at = from; size > 0;) {
        ssize_t done = pwrite(file->descriptor, at, size, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : EIO;
        at += done;
        offset += (uint64_t)done;
        size -= (size_t)done;
    }
    return 0;
}

static int reserve_blocks(lw_file *file, uint64_t offset, uint64_t size)
{
#if defined(__linux__)
    int failed;
    do {
        failed = posix_fallocate(file->descriptor, (off_t)offset, (off_t)size);
    } while (failed == EINTR);
    return failed == EOPNOTSUPP || failed == EINVAL ? 0 : failed; /* then writing has to do it */
#else
    (void)file;
    (void)offset;
    (void)size;
    return 0;
#endif
}

/* What was reserved beyond `size`, where that failed: others may need it. */
static void give_back(lw_file *file, uint64_t size)
{
    int ignored = ftruncate(file->descriptor, (off_t)size);
    (void)ignored;
}

static int file_allocate(lw_fs *fs, lw_file *file, uint64_t offset, uint64_t size)
{
    static const uint8_t zeros[FILL_SIZE];
    uint64_t before;
    int failed = file_size(fs, file, &before);
    if (failed)
        return failed;
    failed = reserve_blocks(file, offset, size);
    for (uint64_t done = 0; done < size && !failed; done += FILL_SIZE) {
        size_t step = size - done < FILL_SIZE ? (size_t)(size - done) : FILL_SIZE;
        failed = file_write(fs, file, offset + done, zeros, step);
    }
    if (failed && before < offset + size)
        give_back(file, before);
    return failed;
}

#if defined(__linux__)
static int fall_allocate(int descriptor, int mode, uint64_t offset, uint64_t end)
{
    while (fallocate(descriptor, mode, (off_t)offset, (off_t)(end - offset)) != 0)
        if (errno != EINTR)
            return errno == ENOSYS || errno == EINVAL ? EOPNOTSUPP : errno;
    return 0;
}

#if defined(FS_IOC_FIEMAP)
enum { EXTENTS = 32 };

/* Blocks that another file has too, as after cp --reflink, have to be copied before they are written. Where that cannot be done
 * ahead (btrfs, which writes nothing in place) they count as reserved. */
static int unshare(int descriptor, uint64_t offset, uint64_t end)
{
    int failed = fall_allocate(descriptor, FALLOC_FL_UNSHARE_RANGE, offset, end);
    return failed == EOPNOTSUPP ? 0 : failed;
}

/* [*offset, end) up to the end of this extent: what comes before it has no blocks. */
static int reserve_up_to(int descriptor, const struct fiemap_extent *extent, uint64_t *offset, uint64_t end)
{
    uint64_t from = extent->fe_logical < end ? extent->fe_logical : end;
    uint64_t to = extent->fe_length < end - from ? from + extent->fe_length : end;
    int failed = from > *offset ? fall_allocate(descriptor, 0, *offset, from) : 0;
    if (from < *offset)
        from = *offset;
    if (!failed && from < to && (extent->fe_flags & FIEMAP_EXTENT_SHARED) != 0)
        failed = unshare(descriptor, from, to);
    if (to > *offset)
        *offset = to;
    return failed;
}

/* Only what lacks blocks is asked for: XFS refuses with ENOSPC where there is not as much free space as the range is long,
 * whether it has its blocks or not. *offset becomes where nothing is known, or nothing more is there. */
static int reserve_mapped(int descriptor, uint64_t *offset, uint64_t end)
{
    _Alignas(struct fiemap) uint8_t bytes[sizeof(struct fiemap) + EXTENTS * sizeof(struct fiemap_extent)];
    struct fiemap *map = (struct fiemap *)(void *)bytes;
    int failed = 0;
    for (uint64_t before = UINT64_MAX; !failed && *offset < end && *offset != before;) {
        memset(bytes, 0, sizeof bytes);
        before = map->fm_start = *offset;
        map->fm_length = end - *offset;
        map->fm_extent_count = EXTENTS;
        if (ioctl(descriptor, FS_IOC_FIEMAP, map) != 0)
            break;
        for (uint32_t i = 0; i < map->fm_mapped_extents && !failed; i++)
            failed = reserve_up_to(descriptor, &map->fm_extents[i], offset, end);
    }
    return failed;
}
#else
static int reserve_mapped(int descriptor, uint64_t *offset, uint64_t end)
{
    (void)descriptor;
    (void)offset;
    (void)end;
    return 0;
}
#endif

static int file_reserve(lw_fs *fs, lw_file *file, uint64_t offset, uint64_t size)
{
    uint64_t end = offset + size;
    uint64_t present = 0;
    int failed = file_size(fs, file, &present);
    if (!failed && end <= present)
        failed = reserve_mapped(file->descriptor, &offset, end);
    if (failed || offset >= end)
        return failed;
    failed = fall_allocate(file->descriptor, 0, offset, end);
    if (failed && end > present)
        give_back(file, present);
    return failed;
}
#else
static int file_reserve(lw_fs *fs, lw_file *file, uint64_t offset, uint64_t size)
{
    (void)fs;
    (void)file;
    (void)offset;
    (void)size;
    return EOPNOTSUPP;
}
#endif

static int file_map(lw_fs *fs, lw_file *file, uint64_t size, bool writable, uint8_t **base)
{
    (void)fs;
    void *mapped = mmap(NULL, (size_t)size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, file->descriptor, 0);
    if (mapped == MAP_FAILED)
        return errno;
#if defined(MADV_DONTFORK)
    (void)madvise(mapped, (size_t)size, MADV_DONTFORK);
#endif
    *base = mapped;
    return 0;
}

static void file_unmap(lw_fs *fs, uint8_t *base, uint64_t size)
{
    (void)fs;
    (void)munmap(base, (size_t)size);
}

static void file_will_read(lw_fs *fs, lw_file *file, uint64_t size)
{
    (void)fs;
#if defined(POSIX_FADV_WILLNEED)
    (void)posix_fadvise(file->descriptor, 0, (off_t)size, POSIX_FADV_WILLNEED);
#else
    (void)file;
    (void)size;
#endif
}

/*
 * The first write to a block that was only reserved changes an extent from unwritten to written, when its data is on the disk.
 * If the file system is shut down meanwhile, that change is dropped, and the fdatasync that waited for it can return 0 (seen with
 * ext4 and XFS on Linux 6.18; tests/powercut, tests/faults/test_shutdown.py). A call that begins afterwards fails: on ext4 a
 * write, also one of no bytes, which POSIX lets detect errors; on XFS lseek. (So does fstat; but then the next write has to store
 * a finer time stamp, 4 KiB more for each sync.)
 */
static int check_not_shut_down(lw_file *file)
{
    while (pwrite(file->descriptor, "", 0, 0) != 0)
        if (errno != EINTR)
            return errno;
    return lseek(file->descriptor, 0, SEEK_SET) >= 0 ? 0 : errno;
}

static int file_sync(lw_fs *fs, lw_file *file)
{
    (void)fs;
    for (;;) {
#if defined(__APPLE__)
        int failed = fcntl(file->descriptor, F_FULLFSYNC);
#else
        int failed = fdatasync(file->descriptor);
#endif
        if (failed == 0)
            return file->is_filled ? 0 : check_not_shut_down(file);
        if (errno != EINTR)
            return errno;
    }
}

/* ---- locks ---- */

static int lock_descriptor(int descriptor)
{
    while (flock(descriptor, LOCK_EX | LOCK_NB) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

static int file_lock(lw_fs *fs, lw_file *file)
{
    (void)fs;
    return lock_descriptor(file->descriptor);
}

static void file_unlock(lw_fs *fs, lw_file *file)
{
    (void)fs;
    (void)flock(file->descriptor, LOCK_UN);
}

/* The lock belongs to what was opened, which every copy of the descriptor shares. So the directory is opened once more, and no
 * child that was forked since it was opened first has a copy of that. */
static int directory_lock(lw_fs *fs)
{
    directory_fs *own = (directory_fs *)fs;
    int again = open_at(own->directory, ".", O_RDONLY | O_DIRECTORY);
    if (again < 0)
        return errno;
    (void)close(own->directory);
    own->directory = again;
    int failed = lock_descriptor(again);
    return failed == 0 || failed == EWOULDBLOCK ? failed : EOPNOTSUPP; /* EBADF, ENOLCK on network file systems */
}

static void directory_unlock(lw_fs *fs)
{
    (void)flock(directory_of(fs), LOCK_UN);
}

static void directory_abandon(lw_fs *fs, lw_file *lock_file)
{
    (void)close(directory_of(fs));
    (void)close(lock_file->descriptor);
}

void *lw_fork_page(void)
{
#if defined(MADV_WIPEONFORK)
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, size, MADV_WIPEONFORK) == 0)
        return page;
    (void)munmap(page, size);
#endif
    return NULL;
}

/* ---- the directory ---- */

static int sync_descriptor(int descriptor)
{
#if defined(__APPLE__)
    return fcntl(descriptor, F_FULLFSYNC) == 0 ? 0 : errno;
#else
    while (fsync(descriptor) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
#endif
}

static int directory_sync(lw_fs *fs)
{
    return sync_descriptor(directory_of(fs));
}

static int rename_checked(int directory, const char *from, const char *to)
{
    struct stat status;
    if (fstatat(directory, to, &status, AT_SYMLINK_NOFOLLOW) == 0)
        return EEXIST;
    return renameat(directory, from, directory, to) == 0 ? 0 : errno;
}

static int directory_rename(lw_fs *fs, const char *from, const char *to)
{
    int directory = directory_of(fs);
#if defined(__linux__) && defined(SYS_renameat2)
    if (syscall(SYS_renameat2, directory, from, directory, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != ENOSYS && errno != EINVAL) /* a file system without it answers EINVAL */
        return errno;
#endif
    return rename_checked(directory, from, to);
}

static int directory_remove(lw_fs *fs, const char *name)
{
    return unlinkat(directory_of(fs), name, 0) == 0 ? 0 : errno;
}

static int visit_all(DIR *directory, lw_list_visitor *visitor, void *argument)
{
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (entry == NULL)
            return errno;
        int failed = visitor(argument, entry->d_name);
        if (failed)
            return failed;
    }
}

static int directory_list(lw_fs *fs, lw_list_visitor *visitor, void *argument)
{
    int descriptor = open_at(directory_of(fs), ".", O_RDONLY | O_DIRECTORY);
    if (descriptor < 0)
        return errno;
    DIR *directory = fdopendir(descriptor);
    if (directory == NULL) {
        int failed = errno;
        (void)close(descriptor);
        return failed;
    }
    int failed = visit_all(directory, visitor, argument);
    (void)closedir(directory);
    return failed;
}

static int fill_random(lw_fs *fs, void *to, size_t size)
{
    (void)fs;
#if defined(__linux__)
    for (uint8_t *at = to; size > 0;) {
        ssize_t done = getrandom(at, size, 0);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        at += done;
        size -= (size_t)done;
    }
#else
    arc4random_buf(to, size);
#endif
    return 0;
}

static int directory_check_place(lw_fs *fs)
{
    struct stat held;
    struct stat there;
    if (fstat(directory_of(fs), &held) != 0)
        return 0;
    if (held.st_nlink == 0)
        return ESTALE;
    bool other = stat(((directory_fs *)fs)->place, &there) == 0 && (there.st_dev != held.st_dev || there.st_ino != held.st_ino);
    return other ? ESTALE : 0;
}

static void directory_destroy(lw_fs *fs)
{
    (void)close(directory_of(fs));
    free(((directory_fs *)fs)->place);
    free(fs);
}

/* Symbolic links stay in it: one that names another directory later has replaced this one. */
static char *absolute(const char *path)
{
    if (path[0] == '/')
        return strdup(path);
    char *here = getcwd(NULL, 0);
    char *joined = here == NULL ? NULL : malloc(strlen(here) + strlen(path) + 2);
    if (joined != NULL)
        (void)sprintf(joined, "%s/%s", here, path);
    free(here);
    return joined;
}

/* The directory's own name is durable when its parent is synced. Where the parent may not be read, that is the
 * business of whoever made the directory. */
static int sync_parent(int directory, lw_error *error)
{
    int parent = open_at(directory, "..", O_RDONLY | O_DIRECTORY);
    if (parent < 0)
        return errno == EACCES ? LW_OK : lw_fail_errno(error, errno, NULL, "cannot open the parent directory");
    int failed = sync_descriptor(parent);
    (void)close(parent);
    return failed ? lw_fail_sync(error, failed, NULL, "the name of the directory could not be synced") : LW_OK;
}

static int fail_directory(int failed, const char *missing, const char *what, lw_error *error)
{
    return failed == ENOENT ? lw_fail_system(error, LW_LOG_NOT_FOUND, failed, NULL, missing)
                            : lw_fail_errno(error, failed, NULL, what);
}

static int open_directory(const char *path, bool create, int *directory, lw_error *error)
{
    occupy_standard();
    if (create && mkdir(path, 0700) != 0 && errno != EEXIST)
        return fail_directory(errno, "cannot create the directory: its parent does not exist", "cannot create the directory",
                              error);
    *directory = open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
    if (*directory < 0)
        return fail_directory(errno, "there is no such directory", "cannot open the directory", error);
    bool is_new = create && faccessat(*directory, "LOCK", F_OK, 0) != 0;
    int status = is_new ? sync_parent(*directory, error) : LW_OK;
    if (status != LW_OK)
        (void)close(*directory);
    return status;
}

int lw_fs_posix(const char *path, bool create, lw_fs **out, lw_error *error)
{
    directory_fs *fs = malloc(sizeof *fs);
    if (fs == NULL)
        return lw_fail_errno(error, ENOMEM, NULL, "open");
    fs->place = absolute(path);
    int status = fs->place == NULL ? lw_fail_errno(error, errno, NULL, "cannot tell the working directory")
                                   : open_directory(path, create, &fs->directory, error);
    if (status != LW_OK) {
        free(fs->place);
        free(fs);
        return status;
    }
    fs->operations = (lw_fs){
        .open = file_open,
        .close = file_close,
        .size = file_size,
        .allocate = file_allocate,
        .reserve = file_reserve,
        .map = file_map,
        .unmap = file_unmap,
        .will_read = file_will_read,
        .read = file_read,
        .write = file_write,
        .sync = file_sync,
        .sync_dir = directory_sync,
        .check_place = directory_check_place,
        .rename = directory_rename,
        .remove = directory_remove,
        .list = directory_list,
        .lock = file_lock,
        .unlock = file_unlock,
        .lock_dir = directory_lock,
        .unlock_dir = directory_unlock,
        .abandon = directory_abandon,
        .random = fill_random,
        .destroy = directory_destroy,
    };
    *out = &fs->operations;
    return LW_OK;
}
