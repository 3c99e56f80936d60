#include "verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "error.h"
#include "lock.h"

enum { MAX_RESTARTS = 100 };

/* ---- one phase after the other ---- */

static void let_segment_go(lw_verify *v)
{
    if (v->segment != NULL)
        lw_segment_unpin(v->segment);
    v->segment = NULL;
}

/* Files have changed: begins again with the directory. Segments that are done are passed over. */
static int restart(lw_verify *v)
{
    let_segment_go(v);
    lw_pages_close(v, &v->here);
    lw_pages_close(v, &v->after);
    v->damage_count = v->told = 0;
    v->progress.bytes -= v->counted;
    v->counted = 0;
    v->progress.segments = 0;
    v->phase = LW_VERIFY_DIRECTORY;
    if (++v->restarts <= MAX_RESTARTS)
        return LW_OK;
    return lw_fail_errno(v->error, EAGAIN, NULL, "the log changes faster than it can be verified; try again");
}

static int begin_segment(lw_verify *v)
{
    int status = lw_verify_segment_begin(v);
    return status == LW_NOT_FOUND ? restart(v) : status;
}

/* Estimates what is left to read by the size of the present segment. */
static void estimate(lw_verify *v, uint64_t below)
{
    uint64_t total = v->progress.bytes;
    for (size_t i = 0; i < v->number_count && v->numbers[i] < below; i++)
        total += v->here.size;
    v->progress.total_bytes = total;
}

static int read_directory(lw_verify *v)
{
    bool have = false;
    v->has_after = false;
    v->is_tail = true;
    int status = lw_verify_directory(v, &have);
    if (status == LW_NOT_FOUND)
        return restart(v);
    if (status != LW_OK)
        return status;
    if (!have)
        v->phase = LW_VERIFY_DONE;
    v->is_ready = v->damage_count > 0;
    if (have) {
        estimate(v, v->here.number + 1);
        v->phase = LW_VERIFY_OLDER; /* begins with the tail, once these findings are told */
    }
    return LW_OK;
}

/* Notes which segments are done: an interval of numbers, from the one before the first tail downwards. Segments that a later pass
 * verifies above the interval are added when that pass has come down to it. */
static void note_verified(lw_verify *v)
{
    uint64_t number = v->here.number;
    if (v->is_tail) {
        v->pass_high = number - 1;
        if (v->verified_low == 0) {
            v->verified_low = number;
            v->verified_high = number - 1;
        }
    } else if (number <= v->verified_high) {
        v->verified_high = v->pass_high;
        v->verified_low = number < v->verified_low ? number : v->verified_low;
    }
}

static int end_segment(lw_verify *v)
{
    int status = lw_verify_segment_end(v);
    if (status == LW_NOT_FOUND)
        return restart(v);
    if (status != LW_OK)
        return status;
    const lw_page *page = v->is_tail ? &v->here.mark : &v->here.footer;
    bool has_index = v->is_tail ? v->is_closed : v->here.has_footer;
    if (v->reads_frames)
        lw_verify_count(v, v->counted + (has_index ? page->index_count * LW_INDEX_ITEM_SIZE : 0) + (v->is_tail ? 0 : LW_PAGE_SIZE));
    v->counted = 0;
    v->is_ready = v->damage_count > 0;
    note_verified(v);
    v->phase = v->is_tail ? LW_VERIFY_BEHIND : LW_VERIFY_OLDER;
    estimate(v, v->here.number);
    let_segment_go(v);
    lw_pages_close(v, &v->here);
    return LW_OK;
}

static int behind(lw_verify *v)
{
    v->is_tail = false;
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
    v->phase = LW_VERIFY_OLDER;
    return LW_OK;
}

/* ---- older segments ---- */

/* False in the first pass: perhaps the segment was purged after the tail was read. Then the next pass reads the PURGE. */
static bool is_missing_indeed(lw_verify *v, uint64_t number)
{
    bool again = v->missing_number != 0 && number >= v->missing_number;
    if (!again)
        v->missing_number = number;
    return again;
}

/* The first entry that is lost with the segments behind `number`: the next one after what the footer of `number` counts. */
static int next_after(lw_verify *v, uint64_t number, uint64_t *first)
{
    lw_pages *before = malloc(sizeof *before);
    if (before == NULL)
        return lw_verify_no_memory(v);
    int status = number > 0 ? lw_pages_load(v, number, before) : LW_NOT_FOUND;
    if (status == LW_OK) {
        uint64_t next = before->footer.state.bounds.next;
        if (before->has_footer && next > *first && next < v->lowest)
            *first = next;
        lw_pages_close(v, before);
    }
    free(before);
    return status == LW_NOT_FOUND ? LW_OK : status;
}

/* Reports the segments from `number` down to the next one that has a file, or to the first, as missing. */
static int pass_missing(lw_verify *v, uint64_t number, size_t below)
{
    if (!is_missing_indeed(v, number))
        return restart(v);
    uint64_t next = below > 0 ? v->numbers[below - 1] : 0;
    char what[128];
    uint64_t first = v->first;
    (void)snprintf(what, sizeof what, number - next > 1 ? "this segment and %llu before it are missing" : "the segment is missing",
                   (unsigned long long)(number - next - 1));
    lw_damage *damage = lw_verify_add(v, LW_FOUND_MISSING_SEGMENT, number, 0, true, what);
    if (damage == NULL)
        return lw_verify_no_memory(v);
    int status = next_after(v, next, &first);
    lw_damage_range(damage, first, v->lowest - 1);
    v->is_ready = true;
    v->lowest_is_lost = true;
    v->here.number = next + 1; /* the next step goes on with `next` */
    v->has_after = false;
    v->here.has_identity = false;
    return status;
}

static int end_backwards(lw_verify *v)
{
    if (v->lowest > v->first && !v->lowest_is_lost) {
        lw_damage *damage = lw_verify_add(v, LW_FOUND_CHAIN, v->here.number, 0, true,
                                          "entries that the log counts are in no segment");
        if (damage == NULL)
            return lw_verify_no_memory(v);
        lw_damage_range(damage, v->first, v->lowest - 1);
        v->is_ready = true;
    }
    v->phase = LW_VERIFY_OBSOLETE;
    return LW_OK;
}

static int older(lw_verify *v)
{
    if (v->is_tail)
        return begin_segment(v);
    uint64_t number = v->here.number - 1;
    if (v->lowest <= v->first || number == 0)
        return end_backwards(v);
    size_t below = v->number_count;
    while (below > 0 && v->numbers[below - 1] > number)
        below--;
    if (below == 0 || v->numbers[below - 1] != number)
        return pass_missing(v, number, below);
    v->has_after = v->here.number == number + 1 && v->here.has_identity;
    v->after = v->here;
    int status = lw_pages_load(v, number, &v->here);
    if (status == LW_NOT_FOUND)
        return restart(v);
    return status == LW_OK ? begin_segment(v) : status;
}

static int obsolete(lw_verify *v)
{
    int status = lw_verify_obsolete(v);
    v->is_ready = v->damage_count > 0;
    v->phase = LW_VERIFY_DONE;
    v->progress.total_bytes = v->progress.bytes;
    return status;
}

static int step(lw_verify *v)
{
    switch (v->phase) {
    case LW_VERIFY_DIRECTORY:
        return read_directory(v);
    case LW_VERIFY_REPLAY:
        return lw_verify_replay(v);
    case LW_VERIFY_SCAN:
        return lw_verify_scan(v);
    case LW_VERIFY_SEGMENT:
        return end_segment(v);
    case LW_VERIFY_BEHIND:
        return behind(v);
    case LW_VERIFY_OLDER:
        return older(v);
    case LW_VERIFY_OBSOLETE:
        return obsolete(v);
    case LW_VERIFY_DONE:
        break;
    }
    return LW_NOT_FOUND;
}

void lw_verify_count(lw_verify *v, uint64_t bytes)
{
    if (bytes <= v->counted)
        return;
    v->progress.bytes += bytes - v->counted;
    v->counted = bytes;
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
    bool amid_frames = v->phase == LW_VERIFY_REPLAY || v->phase == LW_VERIFY_SCAN;
    int status = LW_OK;
    if (!lw_lock_process_is(v->process))
        return lw_fail_forked(error);
    v->error = error;
    if (amid_frames && v->damage_count > 0) {
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
    let_segment_go(v);
    lw_pages_close(v, &v->here);
    lw_pages_close(v, &v->after);
    v->fs->destroy(v->fs);
    free(v->numbers);
    free(v->damage);
    free(v->all_told);
    free(v);
}
