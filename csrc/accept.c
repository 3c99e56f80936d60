#include "accept.h"

#include <errno.h>
#include <stdlib.h>

#include "crc32c.h"
#include "error.h"
#include "prepare.h"
#include "reader.h"
#include "reserve.h"
#include "step.h"

/* What a batch comes down to, once checked: one control record at most, then entries, then a hard state. */
typedef struct plan {
    lw_frame_type control; /* 0: none */
    uint64_t cut_from;     /* TRUNCATE */
    uint64_t term_before;  /* TRUNCATE: of the entry before cut_from */
    bool purges_all;
    lw_log_id cutoff;
    const lw_entry *entries;
    size_t count;
    const lw_hard_state *hard_state;
    uint64_t next; /* after the batch */
} plan;

/* ---- checking ---- */

int lw_check_size(const lw_wal *wal, const lw_entry *entry, lw_error *error)
{
    if (entry->size <= wal->options.max_entry_bytes)
        return LW_OK;
    return lw_fail_index(error, LW_ENTRY_TOO_LARGE, entry->index,
                         "the payload of entry %llu has %llu bytes, max_entry_bytes is %llu: split it, or open the log with a "
                         "larger max_entry_bytes",
                         (unsigned long long)entry->index, (unsigned long long)entry->size,
                         (unsigned long long)wal->options.max_entry_bytes);
}

static int fail_term(const lw_entry *entry, uint64_t before, lw_error *error)
{
    return lw_fail_index(error, LW_INVALID_ENTRY, entry->index,
                         "entry %llu has term %llu, below term %llu of the entry before it; terms never decrease",
                         (unsigned long long)entry->index, (unsigned long long)entry->term, (unsigned long long)before);
}

static int fail_gap(const lw_bounds *bounds, uint64_t index, lw_error *error)
{
    return lw_fail_index(error, LW_INVALID_ENTRY, index,
                         "entry %llu leaves a gap: the log ends at index %llu; send the entries from there on",
                         (unsigned long long)index, (unsigned long long)(bounds->next - 1));
}

static int check_entries(const lw_wal *wal, const lw_entry *entries, size_t count, lw_error *error)
{
    for (size_t i = 0; i < count; i++) {
        const lw_entry *entry = &entries[i];
        uint64_t index = entry->index;
        if (index < 1 || index > LW_MAX_INDEX)
            return lw_fail_index(error, LW_INVALID_ENTRY, index, "the index of an entry is %llu, not 1..2^64-2",
                                 (unsigned long long)index);
        int status = lw_check_size(wal, entry, error);
        if (status != LW_OK)
            return status;
        if (i == 0)
            continue;
        if (index != entries[i - 1].index + 1)
            return lw_fail_index(error, LW_INVALID_ENTRY, index,
                                 "entry %llu follows entry %llu in one batch; indices are contiguous and ascending",
                                 (unsigned long long)index, (unsigned long long)entries[i - 1].index);
        if (entry->term < entries[i - 1].term)
            return fail_term(entry, entries[i - 1].term, error);
    }
    return LW_OK;
}

/* The term of the first entry that will be written, against the entry or boundary just before it. */
static int check_first_term(lw_wal *wal, const plan *p, lw_error *error)
{
    uint64_t before = 0;
    const lw_entry *first = &p->entries[0];
    int status = lw_reader_term(wal, first->index - 1, &before, error);
    if (status != LW_OK)
        return status == LW_NOT_FOUND ? LW_OK : status;
    return first->term < before ? fail_term(first, before, error) : LW_OK;
}

static int plan_cut(lw_wal *wal, uint64_t from, plan *p, lw_error *error)
{
    const lw_bounds *bounds = &wal->state.bounds;
    p->control = LW_TRUNCATE_FRAME;
    p->cut_from = from < bounds->first ? bounds->first : from;
    int status = lw_reader_term(wal, p->cut_from - 1, &p->term_before, error);
    if (status == LW_NOT_FOUND) {
        p->term_before = 0;
        status = LW_OK;
    }
    return status;
}

static int plan_persist(lw_wal *wal, const lw_batch *batch, plan *p, lw_error *error)
{
    const lw_bounds *bounds = &wal->state.bounds;
    const lw_entry *entry = batch->entries;
    const lw_entry *end = entry + batch->count;
    p->hard_state = batch->hard_state;
    if (batch->count == 0)
        return LW_OK;
    if (!lw_bounds_blank(bounds)) {
        if (entry->index > bounds->next)
            return fail_gap(bounds, entry->index, error);
        if (!bounds->has_boundary && entry->index < bounds->first)
            return lw_fail_index(error, LW_INVALID_ENTRY, entry->index,
                                 "entry %llu is below the first one, %llu; a log without a boundary does not grow downwards",
                                 (unsigned long long)entry->index, (unsigned long long)bounds->first);
        while (entry < end && bounds->has_boundary && entry->index <= bounds->boundary.index)
            entry++;
    }
    for (; entry < end && !lw_bounds_blank(bounds) && entry->index < bounds->next; entry++) {
        lw_comparison comparison = LW_SAME;
        int status = lw_reader_compare(wal, entry, &comparison, error);
        if (status != LW_OK)
            return status;
        if (comparison == LW_SAME_TERM_ONLY)
            return lw_fail_index(error, LW_CONFLICT, entry->index,
                                 "the log holds another entry %llu of term %llu; two leaders had one term, or this entry "
                                 "is of another log",
                                 (unsigned long long)entry->index, (unsigned long long)entry->term);
        if (comparison == LW_OTHER_TERM) {
            status = plan_cut(wal, entry->index, p, error);
            if (status != LW_OK)
                return status;
            break;
        }
    }
    p->entries = entry;
    p->count = (size_t)(end - entry);
    return p->count == 0 ? LW_OK : check_first_term(wal, p, error);
}

static int fail_purged(const lw_wal *wal, uint64_t index, lw_error *error)
{
    return lw_fail_index(error, LW_PURGED, index,
                         "index %llu is at or below the purge boundary %llu; what lies there is gone, and cannot be changed",
                         (unsigned long long)index, (unsigned long long)wal->state.bounds.boundary.index);
}

static int plan_truncate(lw_wal *wal, uint64_t from, plan *p, lw_error *error)
{
    const lw_bounds *bounds = &wal->state.bounds;
    if (bounds->has_boundary && from <= bounds->boundary.index)
        return fail_purged(wal, from, error);
    return from >= bounds->next || bounds->first == bounds->next ? LW_OK : plan_cut(wal, from, p, error);
}

static int plan_replace(lw_wal *wal, const lw_batch *batch, plan *p, lw_error *error)
{
    const lw_bounds *bounds = &wal->state.bounds;
    uint64_t from = batch->at.index;
    if (batch->count > 0 && batch->entries[0].index != from)
        return lw_fail_index(error, LW_INVALID_ENTRY, batch->entries[0].index,
                             "the first new entry is %llu, not from_index=%llu",
                             (unsigned long long)batch->entries[0].index, (unsigned long long)from);
    if (batch->count > 0 && !lw_bounds_blank(bounds) && from > bounds->next)
        return fail_gap(bounds, from, error);
    int status = plan_truncate(wal, from, p, error);
    if (status != LW_OK || batch->count == 0)
        return status;
    p->entries = batch->entries;
    p->count = batch->count;
    return check_first_term(wal, p, error);
}

static int plan_purge(lw_wal *wal, lw_log_id cutoff, plan *p, lw_error *error)
{
    const lw_bounds *bounds = &wal->state.bounds;
    bool holds_entries = bounds->first < bounds->next;
    if (cutoff.index == 0 || (bounds->has_boundary && cutoff.index <= bounds->boundary.index) ||
        (holds_entries && cutoff.index < bounds->first - 1))
        return LW_OK;
    if (cutoff.index > LW_MAX_INDEX)
        return lw_fail_index(error, LW_INVALID_ENTRY, cutoff.index, "an index is at most 2^64-2");
    p->control = LW_PURGE_FRAME;
    p->cutoff = cutoff;
    p->purges_all = cutoff.index >= bounds->next;
    if (p->purges_all)
        return LW_OK;
    /* Just before the first entry the term is not known, but it cannot be above that entry's. */
    bool known = cutoff.index >= bounds->first;
    uint64_t term = 0;
    int status = lw_reader_term(wal, known ? cutoff.index : bounds->first, &term, error);
    p->purges_all = known ? term != cutoff.term : cutoff.term > term;
    return status;
}

static uint64_t next_after(const lw_wal *wal, const plan *p)
{
    lw_bounds bounds = wal->state.bounds;
    if (p->control == LW_TRUNCATE_FRAME)
        lw_bounds_truncate(&bounds, p->cut_from, p->term_before);
    else if (p->control == LW_PURGE_FRAME)
        lw_bounds_purge(&bounds, p->cutoff, p->purges_all);
    else if (p->control == LW_RESET_FRAME)
        lw_bounds_reset(&bounds);
    return p->count > 0 ? p->entries[p->count - 1].index + 1 : bounds.next;
}

static int make_plan(lw_wal *wal, const lw_batch *batch, plan *p, lw_error *error)
{
    int status = check_entries(wal, batch->entries, batch->count, error);
    if (status != LW_OK)
        return status;
    switch (batch->operation) {
    case LW_PERSIST:
        status = plan_persist(wal, batch, p, error);
        break;
    case LW_TRUNCATE:
        status = plan_truncate(wal, batch->at.index, p, error);
        break;
    case LW_REPLACE:
        status = plan_replace(wal, batch, p, error);
        break;
    case LW_PURGE:
        status = plan_purge(wal, batch->at, p, error);
        break;
    case LW_RESET:
        p->control = lw_bounds_blank(&wal->state.bounds) ? 0 : LW_RESET_FRAME;
        break;
    }
    if (status == LW_OK)
        p->next = next_after(wal, p);
    return status;
}

/* ---- room ---- */

static uint64_t size_of(const plan *p, bool with_epoch)
{
    uint64_t size = LW_COMMIT_FRAME_SIZE;
    if (with_epoch)
        size += LW_EPOCH_FRAME_SIZE;
    if (p->control != 0)
        size += LW_FRAME_HEADER_SIZE;
    for (size_t i = 0; i < p->count; i++)
        size += lw_frame_size(p->entries[i].size);
    if (p->hard_state != NULL)
        size += lw_frame_size(2u + p->hard_state->vote_size + p->hard_state->extra_size);
    return size;
}

enum { SPENT_FROM = 4 }; /* a quarter of the segment may stay unused */

static uint64_t index_count_after(const lw_segment *tail, const plan *p)
{
    uint64_t kept = tail->index_count;
    if (p->control == LW_RESET_FRAME || (p->control == LW_PURGE_FRAME && p->purges_all))
        kept = 0;
    else if (p->control == LW_TRUNCATE_FRAME && p->cut_from < tail->index_first + kept)
        kept = p->cut_from > tail->index_first ? p->cut_from - tail->index_first : 0;
    return kept + p->count;
}

static bool frees_room(const plan *p)
{
    return p->control == LW_PURGE_FRAME || p->control == LW_RESET_FRAME;
}

static bool fits(const lw_segment *tail, const plan *p, uint64_t size)
{
    uint64_t taken = tail->end + size + lw_index_size(index_count_after(tail, p)) + LW_PAGE_SIZE;
    return taken <= tail->size - (frees_room(p) ? 0 : LW_CONTROL_RESERVE);
}

/* True, once the batch is in the tail, where another one like it would meet a roll, and little room is left for others. */
static bool leaves_tail_spent(const lw_segment *tail, const plan *p)
{
    uint64_t left = tail->size - tail->end - lw_index_size(tail->index_count) - LW_PAGE_SIZE;
    return left <= tail->size / SPENT_FROM && !fits(tail, p, size_of(p, false));
}

/* The tail is a copy that left out zeros, and there was no space for their blocks when it was opened: is there now? What frees
 * space has its place as long as that lasts. */
static int fill_holes(lw_wal *wal, const plan *p, uint64_t size, lw_error *error)
{
    lw_segment *tail = wal->tail;
    char name[LW_NAME_SIZE];
    int failed = lw_reserve(wal->fs, tail->file, 0, tail->size);
    tail->is_sparse = failed != 0;
    if (failed && frees_room(p)) /* what does not fit here goes to the next segment */
        failed = fits(tail, p, size) ? lw_reserve(wal->fs, tail->file, tail->end, size) : 0;
    lw_segment_name_of(tail, name);
    return failed ? lw_fail_errno(error, failed, name, "cannot reserve the blocks that this copy of a segment lacks") : LW_OK;
}

static uint64_t segment_size_for(const lw_wal *wal, const plan *p)
{
    uint64_t need = LW_FRAMES_OFFSET + size_of(p, true) + lw_index_size(p->count) + LW_PAGE_SIZE + LW_CONTROL_RESERVE;
    need = (need + LW_PAGE_SIZE - 1) / LW_PAGE_SIZE * LW_PAGE_SIZE;
    return need > wal->options.segment_bytes ? need : wal->options.segment_bytes;
}

/* ---- writing ---- */

/*
 * Small batches are stored into the mapping, without a system call. After each sync the kernel write-protects the pages
 * again, so every page that a store touches first costs a fault; from a page or so on, right after a sync from less, it is
 * cheaper to collect the frames in memory and hand them to fs->write, which sees the same page cache. While a sync is
 * running, batches of every size go that way: the next sync would have to interrupt this processor for each page stored to,
 * to write-protect it (docs/benchmarks.md).
 */
enum {
    WRITE_FROM_SIZE = 4096,
    WRITE_FROM_SIZE_AFTER_SYNC = 2048,
    /* Of what is collected before a write: fits the nearest caches, and makes no folio that a later small append to its end
     * would have to write whole. */
    COLLECT_SIZE = 64 << 10,
};

typedef struct writing {
    const plan *plan;
    lw_fs *fs;
    lw_segment *tail;
    bool needs_epoch;
    bool clears_mark;
    uint8_t epoch[LW_EPOCH_PAYLOAD_SIZE];
    lw_position watermark;
    uint64_t offset;
    uint32_t chain;
    uint8_t *collected; /* COLLECT_SIZE bytes; NULL: into the mapping */
    size_t collected_size;
    uint64_t written; /* the file's bytes before this offset are handed over */
    int failed;       /* the first write that failed */
} writing;

static void hand_over(writing *w, const void *from, size_t size)
{
    if (!w->failed && size > 0)
        w->failed = w->fs->write(w->fs, w->tail->file, w->written, from, size);
    w->written += size;
}

static void hand_over_collected(writing *w)
{
    hand_over(w, w->collected, w->collected_size);
    w->collected_size = 0;
}

static void put_bytes(writing *w, const void *from, size_t size)
{
    if (w->collected == NULL) {
        lw_fs_store(w->tail->base + w->offset, from, size);
    } else {
        if (size > COLLECT_SIZE - w->collected_size)
            hand_over_collected(w);
        if (size > COLLECT_SIZE) {
            hand_over(w, from, size);
        } else {
            memcpy(w->collected + w->collected_size, from, size);
            w->collected_size += size;
        }
    }
    w->offset += size;
}

static void put_frame(writing *w, lw_frame *frame, const void *payload)
{
    static const uint8_t zeros[8];
    uint8_t header[LW_FRAME_HEADER_SIZE];
    size_t padding = (size_t)(lw_align8(frame->size) - frame->size);
    frame->previous = w->chain;
    frame->payload_check = lw_crc32c(0, payload, frame->size);
    if (padding > 0)
        frame->payload_check = lw_crc32c(frame->payload_check, zeros, padding);
    lw_frame_encode(frame, w->tail->seed, header);
    put_bytes(w, header, sizeof header);
    if (frame->size > 0)
        put_bytes(w, payload, frame->size);
    if (padding > 0)
        put_bytes(w, zeros, padding);
    w->chain = frame->check;
}

static void put_control(writing *w)
{
    const plan *p = w->plan;
    lw_frame frame = {.type = p->control};
    if (p->control == LW_TRUNCATE_FRAME) {
        frame.index = p->cut_from;
        frame.term = p->term_before;
    } else if (p->control == LW_PURGE_FRAME) {
        frame.kind = p->purges_all;
        frame.index = p->cutoff.index;
        frame.term = p->cutoff.term;
    }
    put_frame(w, &frame, NULL);
}

static void put_hard_state(writing *w, const lw_hard_state *hard)
{
    uint8_t payload[LW_HARD_STATE_MAX_SIZE];
    lw_frame frame = {.type = LW_HARD_STATE_FRAME, .kind = hard->has_vote, .index = hard->commit_index, .term = hard->term};
    frame.size = lw_hard_state_encode(hard, payload);
    put_frame(w, &frame, payload);
}

static void put_commit(writing *w, uint64_t start)
{
    uint8_t payload[LW_COMMIT_PAYLOAD_SIZE];
    lw_commit commit = {.start = start, .next = w->plan->next, .watermark = w->watermark};
    lw_frame frame = {.type = LW_COMMIT_FRAME, .size = sizeof payload};
    lw_commit_encode(&commit, &w->tail->identity, w->offset, payload);
    put_frame(w, &frame, payload);
}

static void write_run(void *argument)
{
    writing *w = argument;
    const plan *p = w->plan;
    uint64_t start = w->offset;
    if (w->clears_mark && LW_STEP(CLEAR_MARK))
        lw_fs_zero(w->tail->base + LW_MARK_OFFSET, LW_PAGE_SIZE);
    if (w->needs_epoch) {
        lw_frame frame = {.type = LW_EPOCH_FRAME, .size = sizeof w->epoch};
        put_frame(w, &frame, w->epoch);
    }
    if (p->control != 0)
        put_control(w);
    for (size_t i = 0; i < p->count; i++) {
        const lw_entry *entry = &p->entries[i];
        lw_frame frame = {.type = LW_ENTRY_FRAME, .kind = entry->kind, .size = (uint32_t)entry->size,
                          .index = entry->index, .term = entry->term};
        put_frame(w, &frame, entry->payload);
    }
    if (p->hard_state != NULL)
        put_hard_state(w, p->hard_state);
    put_commit(w, start);
    if (w->collected != NULL)
        hand_over_collected(w);
}

/* NULL where there is no memory: then the mapping has to do. */
static uint8_t *collecting_buffer(lw_wal *wal)
{
    if (wal->collected == NULL)
        wal->collected = malloc(COLLECT_SIZE);
    return wal->collected;
}

static int fail_written(const writing *w, int failed, const char *what, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name_of(w->tail, name);
    return lw_fail_errno(error, failed, name, what);
}

static lw_position end_of_tail(const lw_wal *wal)
{
    return (lw_position){wal->tail->identity.number, wal->tail->end};
}

static int write_frames(lw_wal *wal, const plan *p, uint64_t size, writing *w, lw_error *error)
{
    *w = (writing){.plan = p, .fs = wal->fs, .tail = wal->tail, .needs_epoch = wal->needs_epoch && LW_STEP(EPOCH),
                   .clears_mark = wal->mark_is_valid, .offset = wal->tail->end, .chain = wal->tail->chain,
                   .written = wal->tail->end};
    (void)pthread_mutex_lock(&wal->lock);
    w->watermark = LW_STEP(WATERMARK_IS_DURABLE) ? wal->durable : end_of_tail(wal);
    bool sync_running = wal->sync_running;
    bool all_synced = wal->durable_ticket == wal->accepted_ticket;
    (void)pthread_mutex_unlock(&wal->lock);
    if (sync_running || size >= (all_synced ? WRITE_FROM_SIZE_AFTER_SYNC : WRITE_FROM_SIZE))
        w->collected = collecting_buffer(wal);
    int failed = w->needs_epoch ? wal->fs->random(wal->fs, w->epoch, sizeof w->epoch) : 0;
    if (failed)
        return fail_written(w, failed, "no random bytes", error);
    wal->mark_is_touched = true;
    failed = lw_guarded(write_run, w);
    if (!failed)
        failed = w->failed;
    return failed ? fail_written(w, failed, "the segment could not be written", error) : LW_OK;
}

/* ---- publishing ---- */

/* The durable index goes back to before a cut (in a log that becomes blank, to 0: entries may begin anywhere then); it comes
 * forward again with the next sync. */
static void cut_durable_index(lw_wal *wal, uint64_t last)
{
    if (wal->durable_index > last)
        wal->durable_index = last;
    if (wal->syncing_index > last)
        wal->syncing_index = last;
    if (last == 0)
        wal->durable_floor = wal->syncing_floor = 0;
}

static void publish_control(lw_wal *wal, const plan *p)
{
    lw_bounds *bounds = &wal->state.bounds;
    bool drops_all = p->control == LW_RESET_FRAME || (p->control == LW_PURGE_FRAME && p->purges_all);
    if (drops_all || p->control == LW_TRUNCATE_FRAME) {
        uint64_t from = drops_all ? 0 : p->cut_from;
        lw_segment_cut(wal->tail, from);
        lw_index_truncate(&wal->index, from);
    }
    if (p->control == LW_TRUNCATE_FRAME)
        lw_bounds_truncate(bounds, p->cut_from, p->term_before);
    else if (p->control == LW_PURGE_FRAME)
        lw_bounds_purge(bounds, p->cutoff, p->purges_all);
    else
        lw_bounds_reset(bounds);
    lw_index_purge(&wal->index, bounds->first);
    if (LW_STEP(CUT_DURABLE_INDEX) && (drops_all || p->control == LW_TRUNCATE_FRAME))
        cut_durable_index(wal, drops_all ? 0 : bounds->next - 1);
}

static void publish_entries(lw_wal *wal, const plan *p, const writing *w)
{
    lw_segment *tail = wal->tail;
    uint64_t offset = tail->end + (w->needs_epoch ? LW_EPOCH_FRAME_SIZE : 0) + (p->control != 0 ? LW_FRAME_HEADER_SIZE : 0);
    for (size_t i = 0; i < p->count; i++) {
        const lw_entry *entry = &p->entries[i];
        lw_segment_push(tail, entry->index, offset);
        lw_bounds_append(&wal->state.bounds, entry->index, entry->term);
        offset += lw_frame_size(entry->size);
        wal->stats.bytes += entry->size;
    }
    if (p->count > 0)
        lw_index_append(&wal->index, tail, p->entries[0].index, p->next);
    wal->stats.entries += p->count;
}

static void publish_end(lw_wal *wal, const writing *w)
{
    wal->tail->end = w->offset;
    wal->tail->chain = w->chain;
    wal->stored_watermark = w->watermark;
}

static void publish(lw_wal *wal, const plan *p, const writing *w, uint64_t ticket)
{
    if (p->control != 0)
        publish_control(wal, p);
    publish_entries(wal, p, w);
    if (p->hard_state != NULL) {
        wal->state.has_hard_state = true;
        wal->state.hard_state = *p->hard_state;
    }
    publish_end(wal, w);
    wal->tail_is_spent = leaves_tail_spent(wal->tail, p);
    wal->stats.batches++;
    if (wal->accepted_ticket == wal->durable_ticket || wal->first_unsynced_ns == 0)
        wal->first_unsynced_ns = wal->options.sync_interval_ms > 0 ? lw_now_ns() : 0;
    wal->accepted_ticket = ticket;
    lw_show_positions(wal);
    if (wal->options.sync_interval_ms > 0)
        (void)pthread_cond_signal(&wal->syncer_work);
    if (lw_wants_successor(wal))
        (void)pthread_cond_signal(&wal->keeper_work);
}

static int reserve_index(lw_wal *wal, const plan *p, lw_error *error)
{
    int status = lw_reserve_run(wal);
    if (status == LW_OK && wal->tail->index_capacity - wal->tail->index_count < p->count) {
        (void)pthread_mutex_lock(&wal->lock);
        status = lw_segment_reserve(wal->tail, p->count);
        (void)pthread_mutex_unlock(&wal->lock);
    }
    return status == LW_OK ? LW_OK : lw_fail_errno(error, ENOMEM, NULL, "the index");
}

void lw_accept_nothing(lw_wal *wal, uint64_t ticket)
{
    (void)pthread_mutex_lock(&wal->lock);
    if (wal->durable_ticket == wal->accepted_ticket || !LW_STEP(RETRY_WAITS))
        wal->durable_ticket = ticket;
    wal->accepted_ticket = ticket;
    lw_show_positions(wal);
    (void)pthread_mutex_unlock(&wal->lock);
}

int lw_accept(lw_wal *wal, const lw_batch *batch, uint64_t ticket, uint64_t *segment_bytes, lw_error *error)
{
    plan p = {0};
    writing w;
    int status = make_plan(wal, batch, &p, error);
    if (status != LW_OK)
        return status;
    if (p.control == 0 && p.count == 0 && p.hard_state == NULL) {
        lw_accept_nothing(wal, ticket);
        return LW_OK;
    }
    uint64_t size = size_of(&p, wal->needs_epoch);
    if (wal->tail->is_sparse && LW_STEP(FILL_HOLES) && (status = fill_holes(wal, &p, size, error)) != LW_OK)
        return status;
    if (!fits(wal->tail, &p, size)) {
        *segment_bytes = segment_size_for(wal, &p);
        if (*segment_bytes > LW_MAX_SEGMENT_SIZE)
            return lw_fail(error, LW_ENTRY_TOO_LARGE, "the batch is larger than the largest segment, 32 GiB");
        return LW_PENDING;
    }
    status = frees_room(&p) ? lw_check_place(wal, error) : LW_OK; /* it is the last look before files are removed */
    if (status == LW_OK)
        status = reserve_index(wal, &p, error);
    if (status == LW_OK)
        status = write_frames(wal, &p, size, &w, error);
    if (status != LW_OK)
        return status;
    wal->needs_epoch = wal->mark_is_valid = false;
    (void)pthread_mutex_lock(&wal->lock);
    publish(wal, &p, &w, ticket);
    (void)pthread_mutex_unlock(&wal->lock);
    return LW_OK;
}

/* Nobody asked for a COMMIT alone, so it does not rely on the guard where that can be seen: whoever cut the file short may have put
 * a handler of SIGBUS over ours. */
static bool file_is_whole(const lw_wal *wal)
{
    uint64_t size;
    return wal->fs->size(wal->fs, wal->tail->file, &size) == 0 && size >= wal->tail->size;
}

bool lw_accept_commit_alone(lw_wal *wal)
{
    plan p = {.next = wal->state.bounds.next};
    writing w = {.plan = &p, .fs = wal->fs, .tail = wal->tail, .needs_epoch = wal->needs_epoch && LW_STEP(EPOCH),
                 .offset = wal->tail->end, .chain = wal->tail->chain};
    bool has_room = !wal->tail->is_sparse && fits(wal->tail, &p, size_of(&p, w.needs_epoch));
    if (!has_room || wal->mark_is_valid || !file_is_whole(wal))
        return false;
    if (w.needs_epoch && wal->fs->random(wal->fs, w.epoch, sizeof w.epoch) != 0)
        return false;
    (void)pthread_mutex_lock(&wal->lock);
    w.watermark = LW_STEP(IDLE_WATERMARK_IS_DURABLE) ? wal->durable : end_of_tail(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    if (lw_guarded(write_run, &w))
        return false;
    wal->needs_epoch = false;
    (void)pthread_mutex_lock(&wal->lock);
    publish_end(wal, &w);
    (void)pthread_mutex_unlock(&wal->lock);
    return true;
}
