#include "prepare.h"

#include <errno.h>

#include "error.h"
#include "step.h"

/* Each step is synced, and an append that syncs meanwhile waits for what is on its way to the disk. */
enum { FILL_STEP = 256 << 10 };

static int fill(lw_fs *fs, lw_file *file, uint64_t from, uint64_t to, lw_pause *pause, void *argument)
{
    for (uint64_t offset = from; offset < to; offset += FILL_STEP) {
        uint64_t size = to - offset < FILL_STEP ? to - offset : FILL_STEP;
        int failed = fs->allocate(fs, file, offset, size);
        if (!failed && LW_STEP(SYNC_FILLED))
            failed = fs->sync(fs, file);
        if (failed)
            return failed;
        if (pause != NULL && !pause(argument))
            return ECANCELED;
    }
    return 0;
}

int lw_prepare_fill(lw_fs *fs, uint64_t number, uint64_t size, lw_pause *pause, void *argument, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_file *file;
    lw_segment_name(number, LW_SPARE_SUFFIX, name);
    int failed = fs->open(fs, name, LW_OPEN_WRITE | LW_OPEN_CREATE | LW_OPEN_REUSE, &file);
    if (failed)
        return lw_fail_errno(error, failed, name, "cannot make a segment file");
    failed = fill(fs, file, 0, size, pause, argument);
    fs->close(fs, file);
    if (failed) {
        (void)fs->remove(fs, name);
        return lw_fail_errno(error, failed, name, "cannot allocate a segment file");
    }
    return LW_OK;
}

int lw_prepare_wipe(lw_fs *fs, const char *name, lw_error *error)
{
    static const uint8_t zeros[LW_FRAMES_OFFSET];
    lw_file *file;
    int failed = fs->open(fs, name, LW_OPEN_WRITE | LW_OPEN_REUSE, &file);
    if (failed)
        return lw_fail_errno(error, failed, name, "open");
    failed = LW_STEP(WIPE) ? fs->write(fs, file, 0, zeros, sizeof zeros) : 0;
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
        return lw_fail_errno(error, failed, from, "rename");
    }
    failed = LW_STEP(SYNC_DIR_NAMED) ? fs->sync_dir(fs) : 0;
    if (failed) {
        (void)lw_fail_errno(error, failed, to, "the directory could not be synced");
        return error->status = LW_SYNC_FAILED;
    }
    return LW_OK;
}

int lw_prepare_extend(lw_fs *fs, const char *name, uint64_t present, uint64_t size, lw_error *error)
{
    lw_file *file;
    int failed = fs->open(fs, name, LW_OPEN_WRITE, &file);
    if (failed)
        return lw_fail_errno(error, failed, name, "open");
    failed = fs->allocate(fs, file, present, size - present); /* in one: where there is no space, nothing is taken */
    if (!failed)
        failed = fs->sync(fs, file);
    fs->close(fs, file);
    return failed ? lw_fail_errno(error, failed, name, "cannot allocate a segment file") : LW_OK;
}
