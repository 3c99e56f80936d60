#include "prepare.h"

#include <errno.h>

#include "error.h"
#include "step.h"

/* Each step is synced, and an append that syncs meanwhile waits for what is on its way to the disk. */
enum { FILL_STEP = 256 << 10 };

int lw_reserve(lw_fs *fs, lw_file *file, uint64_t offset, uint64_t size)
{
    int failed = fs->reserve(fs, file, offset, size);
    return failed == EOPNOTSUPP ? 0 : failed;
}

static int sync_made(lw_fs *fs, lw_file *file)
{
    return LW_STEP(SYNC_FILLED) ? fs->sync(fs, file) : 0;
}

/* EOPNOTSUPP where the file system allocates nothing without writing it. */
static int reserve_synced(lw_fs *fs, lw_file *file, uint64_t from, uint64_t to)
{
    int failed = fs->reserve(fs, file, from, to - from);
    return failed ? failed : sync_made(fs, file);
}

static int make(lw_fs *fs, lw_file *file, lw_making *making)
{
    bool can_hurry = true;
    lw_pace pace = making->pace;
    for (making->filled = 0; making->filled < making->size;) {
        if (pace == LW_HURRY && can_hurry) {
            int failed = reserve_synced(fs, file, making->filled, making->size);
            if (failed != EOPNOTSUPP)
                return failed;
            can_hurry = false;
        }
        uint64_t size = making->size - making->filled < FILL_STEP ? making->size - making->filled : FILL_STEP;
        int failed = fs->allocate(fs, file, making->filled, size);
        if (!failed)
            failed = sync_made(fs, file);
        if (failed)
            return failed;
        making->filled += size;
        pace = making->pause == NULL ? LW_FILL : making->pause(making->argument);
        if (pace == LW_STOP)
            return ECANCELED;
    }
    return 0;
}

/* What was left under that name is removed: blocks that are only allocated keep the bytes that they had. */
static int open_empty(lw_fs *fs, const char *name, lw_file **file)
{
    uint64_t size;
    for (int tries = 0;; tries++) {
        int failed = fs->open(fs, name, LW_OPEN_WRITE | LW_OPEN_CREATE | LW_OPEN_REUSE, file);
        if (failed)
            return failed;
        failed = fs->size(fs, *file, &size);
        if (!failed && size == 0)
            return 0;
        fs->close(fs, *file);
        if (failed || tries > 0)
            return failed ? failed : EEXIST;
        failed = fs->remove(fs, name);
        if (failed)
            return failed;
    }
}

int lw_prepare_make(lw_fs *fs, uint64_t number, lw_making *making, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_file *file;
    lw_segment_name(number, LW_SPARE_SUFFIX, name);
    int failed = open_empty(fs, name, &file);
    if (failed)
        return lw_fail_errno(error, failed, name, "cannot make a segment file");
    failed = make(fs, file, making);
    fs->close(fs, file);
    if (failed) {
        (void)fs->remove(fs, name);
        return lw_fail_errno(error, failed, name, "cannot allocate a segment file");
    }
    return LW_OK;
}

/* A copy may have left out zeros. */
static int reserve_all(lw_fs *fs, lw_file *file)
{
    uint64_t size;
    int failed = fs->size(fs, file, &size);
    return failed ? failed : lw_reserve(fs, file, 0, size);
}

int lw_prepare_wipe(lw_fs *fs, const char *name, lw_error *error)
{
    static const uint8_t zeros[LW_FRAMES_OFFSET];
    lw_file *file;
    int failed = fs->open(fs, name, LW_OPEN_WRITE | LW_OPEN_REUSE, &file);
    if (failed)
        return lw_fail_errno(error, failed, name, "cannot open the file");
    failed = LW_STEP(RESERVE_WIPED) ? reserve_all(fs, file) : 0;
    if (!failed && LW_STEP(WIPE))
        failed = fs->write(fs, file, 0, zeros, sizeof zeros);
    if (!failed && LW_STEP(SYNC_WIPED))
        failed = fs->sync(fs, file);
    fs->close(fs, file);
    return failed ? lw_fail_errno(error, failed, name, "cannot clear a segment file for use again") : LW_OK;
}

int lw_prepare_name(lw_fs *fs, uint64_t spare, uint64_t number, lw_error *error)
{
    char from[LW_NAME_SIZE];
    char to[LW_NAME_SIZE];
    lw_segment_name(spare, LW_SPARE_SUFFIX, from);
    lw_segment_name(number, LW_SEGMENT_SUFFIX, to);
    int failed = fs->rename(fs, from, to);
    if (failed) {
        (void)fs->remove(fs, from); /* nobody knows of it any more */
        return lw_fail_errno(error, failed, from, "cannot rename the file");
    }
    failed = LW_STEP(SYNC_DIR_NAMED) ? fs->sync_dir(fs) : 0;
    if (failed) {
        (void)lw_fail_errno(error, failed, to, "the directory could not be synced");
        return error->status = LW_SYNC_FAILED;
    }
    return LW_OK;
}

/* What the file holds beyond `present` may be frames of a life that never counted: it is written over. What is new is zero. Each
 * in one: where there is no space, nothing is taken. */
static int extend(lw_fs *fs, lw_file *file, uint64_t present, uint64_t size)
{
    uint64_t whole;
    int failed = fs->size(fs, file, &whole);
    if (failed)
        return failed;
    whole = whole < present || !LW_STEP(OVERWRITE_STALE) ? present : whole < size ? whole / LW_PAGE_SIZE * LW_PAGE_SIZE : size;
    failed = EOPNOTSUPP;
    if (whole < size)
        failed = fs->reserve(fs, file, whole, size - whole);
    if (failed == EOPNOTSUPP)
        return fs->allocate(fs, file, present, size - present);
    return failed || whole == present ? failed : fs->allocate(fs, file, present, whole - present);
}

int lw_prepare_extend(lw_fs *fs, const char *name, uint64_t present, uint64_t size, lw_error *error)
{
    lw_file *file;
    int failed = fs->open(fs, name, LW_OPEN_WRITE, &file);
    if (failed)
        return lw_fail_errno(error, failed, name, "cannot open the file");
    failed = extend(fs, file, present, size);
    if (!failed)
        failed = fs->sync(fs, file);
    fs->close(fs, file);
    return failed ? lw_fail_errno(error, failed, name, "cannot allocate a segment file") : LW_OK;
}
