#include "verify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "lock.h"

enum { MAX_RESTARTS = 100 };

/* ---- one phase after the other ---- */

void lw_verify_let_go(lw_verify *v)
{
    if (v->segment != NULL)
        lw_segment_unpin(v->segment);
    v->segment = NULL;
    lw_pages_close(v, &v->here);
}

void lw_verify_count(lw_verify *v, uint64_t bytes)
{
    if (v->is_surveyed || bytes <= v->counted)
        return;
    v->progress.bytes += bytes - v->counted;
    v->counted = bytes;
    if (v->progress.total_bytes < v->progress.bytes)
        v->progress.total_bytes = v->progress.bytes;
}

/* Files have changed: drops what was read of the present segment. `times` is how often that happened. */
static int drop_segment(lw_verify *v, unsigned *times)
{
    lw_verify_let_go(v);
    lw_pages_close(v, &v->after);
    v->damage_count = v->told = 0;
    v->progress.bytes -= v->counted;
    v->counted = 0;
    v->is_surveyed = false;
    v->may_repeat = true;
    if (++*times <= MAX_RESTARTS)
        return LW_OK;
    return lw_fail_errno(v->error, EAGAIN, NULL, "the log changes faster than it can be verified; try again");
}

/* Begins again with the directory. Segments that are done are passed over. */
static int restart(lw_verify *v)
{
    v->progress.segments = 0;
    v->phase = LW_VERIFY_DIRECTORY;
    return drop_segment(v, &v->restarts);
}

/* Before the survey, estimates what is to be read by the size of the last segment. */
static void estimate(lw_verify *v)
{
    v->progress.total_bytes = v->progress.bytes + (v->tail_at + 1) * v->here.size;
}

static int read_directory(lw_verify *v)
{
    bool have = false;
    v->has_after = v->tail_is_last = false;
    v->needed_count = 0;
    v->bytes_left = v->gone_next = 0;
    int status = lw_verify_directory(v, &have);
    if (status == LW_NOT_FOUND)
        return restart(v);
    if (status != LW_OK)
        return status;
    v->is_ready = v->damage_count > 0;
    v->phase = have ? LW_VERIFY_TAIL : LW_VERIFY_DONE;
    if (have)
        estimate(v);
    return LW_OK;
}

/* ---- the last segment, and what the log holds ---- */

/* What the log holds is known. If a pass is over, that may have been all that was left to see. */
static void go_on_with_survey(lw_verify *v)
{
    v->phase = LW_VERIFY_SURVEY;
    if (v->purged_next != 0 && v->first >= v->purged_next) {
        uint64_t bytes = v->progress.bytes;
        v->progress = v->so_far;
        v->progress.bytes = v->progress.total_bytes = bytes;
        v->phase = LW_VERIFY_DONE;
    }
    v->purged_next = 0;
}

static int tail(lw_verify *v)
{
    v->is_tail = true;
    int status = lw_verify_segment_begin(v);
    if (status != LW_OK || !v->is_closed) {
        v->progress.segments++;
        return status;
    }
    lw_verify_note_tail(v);
    status = lw_verify_note_closed_tail(v);
    if (status == LW_OK)
        go_on_with_survey(v);
    return status;
}

static int behind(lw_verify *v)
{
    int status = lw_verify_behind(v);
    if (status == LW_NOT_FOUND)
        return restart(v);
    if (status != LW_OK)
        return status;
    bool has_successor = v->tail_at + 1 < v->number_count && v->numbers[v->tail_at + 1] == v->here.number + 1;
    if (v->here.has_footer && !has_successor) {
        if (v->missing_successor != v->here.number + 1) { /* perhaps it was created after the names were read */
            v->missing_successor = v->here.number + 1;
            return restart(v);
        }
        lw_damage *damage = lw_verify_add(v, LW_FOUND_MISSING_SEGMENT, v->here.number + 1, 0, true,
                                          "the segment before is sealed, but this one is gone");
        if (damage == NULL)
            return lw_verify_no_memory(v);
        lw_damage_range(damage, v->here.footer.state.bounds.next, UINT64_MAX);
    }
    v->is_ready = v->damage_count > 0;
    v->phase = v->tail_is_last ? LW_VERIFY_NEEDED : LW_VERIFY_SURVEY;
    return LW_OK;
}

/* ---- the segments that are needed, oldest first ---- */

bool lw_verify_is_done(const lw_verify *v, uint64_t number)
{
    return number >= v->done_low && number <= v->done_high;
}

static int obsolete(lw_verify *v)
{
    int status = lw_verify_obsolete(v);
    v->is_ready = v->damage_count > 0;
    v->phase = LW_VERIFY_NEEDED;
    v->progress.total_bytes = v->progress.bytes + v->bytes_left;
    if (v->needed_count == 0)
        return status;
    const lw_needed *oldest = &v->needed[v->needed_count - 1];
    if (oldest->number > v->done_high + 1) { /* what was done is purged, or nothing was */
        v->done_low = oldest->number;
        v->done_high = oldest->number - 1;
    }
    return status;
}

static void next_needed(lw_verify *v)
{
    v->bytes_left -= v->needed[--v->needed_count].bytes;
    v->progress.total_bytes = v->progress.bytes + v->bytes_left;
    v->counted = 0;
    v->rereads = 0;
    v->phase = LW_VERIFY_NEEDED;
}

static void needed_is_done(lw_verify *v, uint64_t number)
{
    if (number > v->done_high)
        v->done_high = number;
    next_needed(v);
}

/* Purged, it seems: that is seen at the end of the pass. */
static int needed_is_gone(lw_verify *v, const lw_needed *needed)
{
    v->gone_next = needed->lowest > v->gone_next ? needed->lowest : v->gone_next;
    v->done_low = needed->number + 1; /* what is before it is purged, too, or has to be read again */
    if (v->done_high < needed->number)
        v->done_high = needed->number;
    next_needed(v);
    return LW_OK;
}

static bool tail_has_changed(const lw_verify *v)
{
    return v->here.header_check != v->tail.header_check || v->here.file_size != v->tail.file_size ||
           v->here.has_footer != v->tail.has_footer || memcmp(v->here.mark_bytes, v->tail.mark_bytes, LW_PAGE_SIZE) != 0;
}

static int load_after(lw_verify *v, uint64_t number)
{
    int status = lw_pages_load(v, number, &v->after);
    v->has_after = status == LW_OK && v->after.has_identity;
    lw_pages_close(v, &v->after);
    return status == LW_NOT_FOUND ? LW_OK : status;
}

static int end_pass(lw_verify *v)
{
    if (v->gone_next != 0) {
        v->purged_next = v->gone_next;
        v->so_far = v->progress;
        return restart(v);
    }
    v->progress.total_bytes = v->progress.bytes;
    v->phase = LW_VERIFY_DONE;
    return LW_OK;
}

static int begin_needed(lw_verify *v, const lw_needed *needed)
{
    int status = lw_pages_load(v, needed->number, &v->here);
    v->is_tail = v->tail_is_last && needed->number == v->tail.number;
    v->has_after = false;
    if (status == LW_NOT_FOUND)
        return v->is_tail ? restart(v) : needed_is_gone(v, needed);
    if (status == LW_OK && !v->is_tail)
        status = load_after(v, needed->number + 1);
    if (status != LW_OK)
        return status;
    if (v->is_tail && tail_has_changed(v))
        return restart(v);
    v->progress.segments++;
    status = lw_verify_segment_begin(v);
    return status == LW_OK && v->is_tail && !v->is_closed ? restart(v) : status;
}

static int needed(lw_verify *v)
{
    if (v->needed_count == 0)
        return end_pass(v);
    const lw_needed *next = &v->needed[v->needed_count - 1];
    v->lowest = next->lowest;
    v->limit = next->limit;
    v->lowest_is_lost = next->lowest_is_lost;
    if (next->missing_from != 0) {
        int status = lw_verify_missing(v, next);
        needed_is_done(v, next->number);
        return status;
    }
    if (!lw_verify_is_done(v, next->number))
        return begin_needed(v, next);
    v->progress.segments++;
    next_needed(v);
    return LW_OK;
}

static int end_segment(lw_verify *v)
{
    bool is_needed = !v->is_tail || v->tail_is_last; /* else it is a tail that is read first */
    int status = lw_verify_segment_end(v);
    if (status == LW_NOT_FOUND && v->is_tail)
        return restart(v);
    if (status == LW_NOT_FOUND) { /* it is gone, or will be found as it is now */
        v->phase = LW_VERIFY_NEEDED;
        v->progress.segments--;
        return drop_segment(v, &v->rereads);
    }
    if (status != LW_OK)
        return status;
    const lw_page *page = v->is_tail ? &v->here.mark : &v->here.footer;
    bool has_index = v->is_tail ? v->is_closed : v->here.has_footer;
    if (v->reads_frames)
        lw_verify_count(v, v->counted + (has_index ? page->index_count * LW_INDEX_ITEM_SIZE : 0) + (v->is_tail ? 0 : LW_PAGE_SIZE));
    v->counted = 0;
    v->is_ready = v->damage_count > 0;
    lw_verify_let_go(v);
    if (is_needed && v->is_tail)
        next_needed(v);
    else if (is_needed)
        needed_is_done(v, v->here.number);
    else
        go_on_with_survey(v);
    if (v->is_tail && v->phase != LW_VERIFY_DONE)
        v->phase = LW_VERIFY_BEHIND;
    return LW_OK;
}

static int survey(lw_verify *v)
{
    int status = v->is_surveyed ? lw_verify_survey_end(v) : lw_verify_survey(v);
    return status == LW_NOT_FOUND ? restart(v) : status;
}

static int step(lw_verify *v)
{
    switch (v->phase) {
    case LW_VERIFY_DIRECTORY:
        return read_directory(v);
    case LW_VERIFY_TAIL:
        return tail(v);
    case LW_VERIFY_REPLAY:
        return lw_verify_replay(v);
    case LW_VERIFY_SCAN:
        return lw_verify_scan(v);
    case LW_VERIFY_SEGMENT:
        return v->is_surveyed ? survey(v) : end_segment(v);
    case LW_VERIFY_BEHIND:
        return behind(v);
    case LW_VERIFY_SURVEY:
        return survey(v);
    case LW_VERIFY_OBSOLETE:
        return obsolete(v);
    case LW_VERIFY_NEEDED:
        return needed(v);
    case LW_VERIFY_DONE:
        break;
    }
    return LW_NOT_FOUND;
}

/* ---- the functions of logwal.h ---- */

int lw_verify_open_on(lw_fs *fs, lw_wal *wal, lw_verify **out, lw_error *error)
{
    lw_verify *v = calloc(1, sizeof *v);
    if (v == NULL) {
        fs->destroy(fs);
        return lw_fail_errno(error, ENOMEM, NULL, "verification");
    }
    lw_guard_install();
    v->fs = fs;
    v->wal = wal;
    v->process = lw_lock_process();
    *out = v;
    return LW_OK;
}

int lw_verify_open(const char *path, lw_wal *wal, lw_verify **out, lw_error *error)
{
    lw_fs *fs;
    int status = wal != NULL ? lw_wal_check_open(wal, error) : LW_OK;
    if (status == LW_OK)
        status = lw_fs_posix(path, false, &fs, error);
    return status == LW_OK ? lw_verify_open_on(fs, wal, out, error) : status;
}

int lw_verify_next(lw_verify *v, lw_finding *finding, lw_verify_progress *progress, lw_error *error)
{
    if (!lw_lock_process_is(v->process))
        return lw_fail_forked(error);
    int status = v->wal != NULL ? lw_wal_check_open(v->wal, error) : LW_OK;
    if (status != LW_OK)
        return status;
    v->error = error;
    status = lw_verify_tell(v, finding);
    if (status == LW_NOT_FOUND) {
        status = step(v);
        if (status == LW_OK)
            status = LW_PENDING;
    }
    if (status != LW_OK && status != LW_PENDING)
        v->phase = LW_VERIFY_DONE;
    *progress = v->progress;
    return status;
}

int lw_verify_stop(lw_verify *v, lw_error *error)
{
    bool amid_segment = v->phase == LW_VERIFY_REPLAY || v->phase == LW_VERIFY_SCAN || v->phase == LW_VERIFY_SEGMENT;
    int status = LW_OK;
    if (!lw_lock_process_is(v->process))
        return lw_fail_forked(error);
    v->error = error;
    if (amid_segment && v->damage_count > 0) {
        status = lw_verify_segment_stop(v);
        v->is_ready = status == LW_OK && v->damage_count > 0;
    }
    v->phase = LW_VERIFY_DONE;
    return status == LW_NOT_FOUND ? LW_OK : status;
}

void lw_verify_free(lw_verify *v)
{
    if (v == NULL || !lw_lock_process_is(v->process))
        return; /* a child's mappings are not there, and its descriptors end with it */
    lw_verify_let_go(v);
    lw_pages_close(v, &v->after);
    v->fs->destroy(v->fs);
    free(v->numbers);
    free(v->needed);
    free(v->damage);
    free(v->all_told);
    free(v);
}
