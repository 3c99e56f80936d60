#include "recovery.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "log.h"
#include "prepare.h"
#include "step.h"

enum { RESTORE_STEP = 1 << 16 };

void lw_recovered_free(lw_recovered *found)
{
    lw_segment_list_release(&found->segments);
    lw_index_free(&found->index);
    lw_durable_free(&found->durable);
    free(found->leftovers);
    free(found->spares);
    memset(found, 0, sizeof *found);
}

/* The file's name is durable already, or is made so before anything is served. */
static int write_log_id(lw_fs *fs, lw_file *lock_file, const lw_recovered *found, lw_error *error)
{
    uint8_t bytes[LW_LOCK_SIZE];
    lw_lock_encode(found->log_id, bytes);
    int failed = fs->write(fs, lock_file, 0, bytes, sizeof bytes);
    if (failed)
        return lw_fail_errno(error, failed, LW_LOCK_NAME, "cannot write the log id");
    if (LW_STEP(SYNC_LOCK))
        failed = fs->sync(fs, lock_file);
    return failed ? lw_fail_sync(error, failed, LW_LOCK_NAME, "the log id could not be synced") : LW_OK;
}

int lw_recovery_make(lw_fs *fs, lw_file *lock_file, uint64_t size, lw_recovered *found, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name(1, LW_SEGMENT_SUFFIX, name);
    int status = LW_OK;
    if (found->successor == 0) {
        lw_making making = {.size = size};
        status = lw_prepare_make(fs, 1, &making, error);
        found->successor_is_filled = status == LW_OK;
        if (status == LW_OK)
            status = lw_prepare_name(fs, 1, 1, error);
    } else {
        status = lw_prepare_wipe(fs, name, error);
        if (status == LW_OK)
            status = lw_prepare_extend(fs, name, LW_FRAMES_OFFSET, size, error);
    }
    if (status != LW_OK)
        return status;
    int failed = fs->sync_dir(fs);
    if (failed)
        return lw_fail_sync(error, failed, NULL, "the directory could not be synced");
    if (found->lock_missing)
        failed = fs->random(fs, found->log_id, LW_LOG_ID_SIZE);
    if (failed)
        return lw_fail_errno(error, failed, name, "no random bytes");
    /* Also where it was read: perhaps only from the cache, if the open that wrote it did not come to its sync. */
    if (found->lock_missing || LW_STEP(LOCK_AGAIN))
        status = write_log_id(fs, lock_file, found, error);
    found->successor = status == LW_OK ? 1 : 0;
    return status;
}

typedef struct restore {
    lw_segment *tail;
    uint64_t from;
    uint64_t cut_bytes;
    uint8_t *copy;
} restore;

/* A page that the cache holds but the disk does not, since its sync failed, counts as clean: storing the same bytes again
 * makes the next sync write it. */
static void restore_run(void *argument)
{
    restore *r = argument;
    /* A close mark that was not believed must not be believed by a later open: it knows nothing of what comes now. */
    lw_fs_zero(r->tail->base + LW_MARK_OFFSET, LW_PAGE_SIZE);
    for (uint64_t at = r->from; LW_STEP(RESTORE) && at < r->tail->end;) {
        size_t size = RESTORE_STEP - (size_t)(at % RESTORE_STEP);
        if (size > r->tail->end - at)
            size = (size_t)(r->tail->end - at);
        memcpy(r->copy, r->tail->base + at, size);
        lw_fs_store(r->tail->base + at, r->copy, size);
        at += size;
    }
    if (r->cut_bytes > 0 && LW_STEP(ZERO_TORN))
        lw_fs_zero(r->tail->base + r->tail->end, (size_t)r->cut_bytes);
}

static int restore_tail(lw_fs *fs, lw_recovered *found, lw_error *error)
{
    lw_segment *tail = lw_recovered_tail(found);
    restore r = {.tail = tail, .cut_bytes = found->cut_bytes, .copy = malloc(RESTORE_STEP)};
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    if (r.copy == NULL)
        return lw_fail_errno(error, ENOMEM, name, "recovery");
    /* Below the watermark all is on the disk; the header is, if anything in its segment is. */
    r.from = found->watermark.segment == tail->identity.number ? found->watermark.offset : 0;
    int failed = lw_guarded(restore_run, &r);
    free(r.copy);
    if (failed)
        return lw_fail_errno(error, failed, name, "what was recovered could not be stored");
    if (LW_STEP(SYNC_RESTORED))
        failed = fs->sync(fs, tail->file);
    return failed ? lw_fail_sync(error, failed, name, "what was recovered could not be made durable") : LW_OK;
}

/* What a purge or reset, the close after it and recovery itself store to: without its blocks the log is not opened. */
static int reserve_least(lw_fs *fs, const lw_segment *tail, uint64_t cut_bytes)
{
    uint64_t frames = tail->end + cut_bytes + LW_CONTROL_RESERVE + 2 * LW_PAGE_SIZE - 1;
    uint64_t index = lw_index_offset(tail->size, tail->index_count);
    frames -= frames % LW_PAGE_SIZE;
    index -= index % LW_PAGE_SIZE;
    if (frames >= index)
        return lw_reserve(fs, tail->file, 0, tail->size);
    int failed = lw_reserve(fs, tail->file, 0, frames);
    return failed ? failed : lw_reserve(fs, tail->file, index, tail->size - index);
}

/* A copy that left out zeros lacks blocks, and on a full disk a store to where they should be is SIGBUS. The least comes first:
 * a try to reserve all may take the last blocks of the disk. */
static int reserve_tail(lw_fs *fs, lw_recovered *found, lw_error *error)
{
    lw_segment *tail = lw_recovered_tail(found);
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    int failed = reserve_least(fs, tail, found->cut_bytes);
    if (failed)
        return lw_fail_errno(error, failed, name, "cannot reserve the blocks that recovery needs, in a copy that has holes");
    failed = lw_reserve(fs, tail->file, 0, tail->size);
    tail->is_sparse = failed == ENOSPC || failed == EDQUOT;
    return failed && !tail->is_sparse ? lw_fail_errno(error, failed, name, "cannot reserve blocks") : LW_OK;
}

int lw_recovery_act(lw_fs *fs, lw_file *lock_file, lw_recovered *found, lw_error *error)
{
    int status = LW_STEP(RESERVE_TAIL) ? reserve_tail(fs, found, error) : LW_OK;
    if (status == LW_OK && found->lock_missing)
        status = write_log_id(fs, lock_file, found, error);
    if (status == LW_OK && !found->closed_cleanly)
        status = restore_tail(fs, found, error);
    if (status != LW_OK)
        return status;
    int failed = LW_STEP(SYNC_DIR_OPENED) ? fs->sync_dir(fs) : 0;
    if (failed)
        return lw_fail_sync(error, failed, NULL, "the directory could not be synced");
    for (size_t i = 0; i < found->leftover_count; i++) {
        char name[LW_NAME_SIZE];
        lw_segment_name(found->leftovers[i], LW_SEGMENT_SUFFIX, name);
        int stays = fs->remove(fs, name); /* it stays a leftover */
        if (stays) {
            found->removal_failures++;
            found->removal_errno = stays;
        }
    }
    found->durable.index = found->state.bounds.next - 1;
    found->watermark = (lw_position){lw_recovered_tail(found)->identity.number, lw_recovered_tail(found)->end};
    return LW_OK;
}
