#include "judge.h"

#include <errno.h>

#include "crc32c.h"
#include "error.h"
#include "step.h"
#include "walk.h"

/* Whether it has lost entries depends on whether it can have had any. */
static int fail_short_successor(lw_judge *j, const lw_opened *o, uint64_t next)
{
    if (j->successor_may_have_begun)
        return lw_fail_short(j, o, LW_MIN_SEGMENT_SIZE, next, UINT64_MAX);
    return lw_fail_corrupt(j->error, o->name, o->size, 1, 0,
                           "the file has the name of a segment, but is too short for one, and the log ends before it; move the "
                           "file out of the directory and open the log again");
}

int lw_judge_successor(lw_judge *j, uint64_t number, lw_position end, uint64_t next)
{
    lw_opened o;
    lw_page mark;
    lw_decoded decoded;
    int status = lw_judge_open(j, number, false, &o);
    if (status != LW_OK)
        return status;
    uint64_t size = o.size / LW_PAGE_SIZE * LW_PAGE_SIZE;
    status = lw_judge_page(j, &o, LW_MARK_OFFSET, LW_CLOSE_MARK, &mark, &decoded);
    if (status != LW_OK || size < LW_MIN_SEGMENT_SIZE) {
        j->fs->close(j->fs, o.file);
        return status != LW_OK ? status : fail_short_successor(j, &o, next);
    }
    lw_segment *segment;
    status = lw_segment_map(j->fs, o.file, o.name, size, false, &segment, j->error);
    if (status != LW_OK)
        return status;
    memcpy(segment->identity.log_id, j->found->log_id, LW_LOG_ID_SIZE);
    segment->identity.number = number;
    lw_look_ahead look = {.segment = segment, .from = LW_FRAMES_OFFSET, .end = end};
    if (lw_guarded(lw_look_ahead_run, &look))
        status = lw_fail_guarded(j, o.name);
    else if (decoded == LW_VALID && memcmp(mark.identity.log_id, j->found->log_id, LW_LOG_ID_SIZE) == 0 &&
             mark.identity.number == number && lw_position_before(end, mark.watermark))
        status = lw_fail_corrupt(j->error, o.name, 0, next, mark.state.bounds.next - 1,
                                 "the header is damaged, but the file was closed with entries");
    else if (look.contradicted)
        status = lw_fail_corrupt(j->error, o.name, 0, next, look.known_next - 1,
                                 "the header is damaged, but a commit at offset %llu knew of durable entries in the file",
                                 (unsigned long long)look.contradiction_offset);
    lw_segment_unpin(segment);
    return status;
}

typedef struct closed_tail {
    lw_segment *segment;
    const lw_page *mark;
    bool sound;
    bool out_of_memory;
} closed_tail;

/* Takes the offset index over from where the clean close left it, if it verifies and nothing was written since. */
static void closed_tail_run(void *argument)
{
    closed_tail *closed = argument;
    lw_segment *segment = closed->segment;
    const lw_page *mark = closed->mark;
    const uint8_t *items = segment->base + lw_index_offset(segment->size, mark->index_count);
    lw_frame frame;
    if (lw_crc32c(0, items, (size_t)(mark->index_count * LW_INDEX_ITEM_SIZE)) != mark->index_check)
        return;
    if (lw_segment_reserve(segment, mark->index_count) != LW_OK) {
        closed->out_of_memory = true;
        return;
    }
    for (uint64_t i = 0; i < mark->index_count; i++)
        segment->index_items[i] = lw_index_item_load(items, i);
    /* Last: beside a writer that goes on here, the index is overwritten only behind a frame that continues the chain. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (lw_frame_decode(&frame, segment->seed, segment->base + mark->end, segment->size - LW_PAGE_SIZE - mark->end) &&
        frame.previous == mark->chain)
        return;
    segment->index_first = mark->index_first;
    segment->index_count = mark->index_count;
    segment->lowest_override = mark->lowest_override;
    segment->end = mark->end;
    segment->chain = mark->chain;
    closed->sound = true;
}

/* tmpfs allocates a page for a hole that is only looked at, so on a full one this is no bad disk, but a copy that lacks space. */
static int fail_look(lw_judge *j, const lw_segment *tail)
{
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    int failed = j->writable ? j->fs->reserve(j->fs, tail->file, 0, tail->size) : 0;
    if (failed == ENOSPC || failed == EDQUOT)
        return lw_fail_errno(j->error, failed, name, "cannot reserve the blocks that recovery needs, in a copy that has holes");
    return lw_fail_guarded(j, name);
}

/* What is damaged may have replaced entries before `next`: frames behind it tell how far back. */
static int fail_torn_below_watermark(lw_judge *j, const lw_segment *tail, uint64_t known_next, uint64_t lowest)
{
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    uint64_t next = j->found->state.bounds.next;
    uint64_t first = lowest < next ? lw_max64(lowest, j->found->state.bounds.first) : next;
    return lw_fail_corrupt(j->error, name, tail->end, first, known_next > next ? known_next - 1 : next,
                           "a frame here is damaged, but what was written later knew it to be durable");
}

/* Behind the last whole batch: a torn tail, or damage to what was once durable? */
static int judge_tail_end(lw_judge *j, lw_segment *tail, uint64_t mark_next)
{
    lw_recovered *found = j->found;
    lw_position end = {tail->identity.number, tail->end};
    lw_look_ahead look = {.segment = tail, .has_seed = true, .from = tail->end, .end = end};
    if (lw_guarded(lw_look_ahead_run, &look))
        return fail_look(j, tail);
    uint64_t known_next = look.known_next > mark_next ? look.known_next : mark_next;
    if (LW_STEP(WATERMARK_CHECK) && (look.contradicted || lw_position_before(end, found->watermark)))
        return fail_torn_below_watermark(j, tail, known_next, look.lowest_index);
    found->cut_bytes = look.frames_end - tail->end;
    found->cut_batches = look.holds_work ? look.commits : 0;
    found->cut_holds_work = look.holds_work;
    if (found->successor == 0 || !LW_STEP(LOOK_INTO_SUCCESSOR))
        return LW_OK;
    return lw_judge_successor(j, found->successor, end, found->state.bounds.next);
}

/* Beside a writer the look behind the end may meet what was written after the walk: that is no damage if the walk can go on,
 * and is judged again from where it then ends. */
static int walk_tail(lw_judge *j, lw_segment *tail, uint64_t mark_next)
{
    lw_recovered *found = j->found;
    lw_walk walk = {.segment = tail, .state = j->header.state, .watermark = found->watermark, .durable = &found->durable};
    char name[LW_NAME_SIZE];
    lw_segment_name_of(tail, name);
    j->fs->will_read(j->fs, tail->file, tail->size);
    lw_durable_begin(&found->durable, &j->header.state.bounds);
    if (found->watermark.segment == tail->identity.number)
        lw_durable_raise(&found->durable, found->watermark.offset);
    int status = LW_OK;
    for (uint64_t judged_end = 0;; judged_end = tail->end) {
        if (lw_guarded(lw_walk_run, &walk))
            return fail_look(j, tail);
        if (walk.out_of_memory)
            return lw_fail_errno(j->error, ENOMEM, name, "the offset index");
        if (tail->end == judged_end)
            return status;
        found->state = walk.state;
        found->watermark = walk.watermark;
        found->watermark_is_stored =
            walk.last_stored.segment == tail->identity.number && walk.last_stored.offset >= walk.work_end;
        found->walked_bytes = tail->end - LW_FRAMES_OFFSET;
        status = judge_tail_end(j, tail, mark_next);
        if (status != LW_CORRUPTION || j->writable)
            return status;
    }
}

/* Beside a writer: whether the next segment got its name after the directory was listed. */
static bool next_is_new(lw_judge *j, const lw_opened *tail)
{
    lw_error ignored;
    lw_error *reported = j->error;
    lw_opened next;
    if (j->writable)
        return false;
    j->error = &ignored;
    bool exists = lw_judge_open(j, tail->number + 1, false, &next) == LW_OK;
    j->error = reported;
    if (exists)
        j->fs->close(j->fs, next.file);
    return exists;
}

int lw_judge_tail(lw_judge *j, lw_opened *o, lw_segment **out)
{
    lw_recovered *found = j->found;
    lw_page mark;
    lw_page footer;
    lw_decoded has_mark;
    lw_decoded has_footer;
    int status = lw_judge_page(j, o, LW_MARK_OFFSET, LW_CLOSE_MARK, &mark, &has_mark);
    if (status == LW_OK)
        status = lw_judge_page(j, o, j->header.size - LW_PAGE_SIZE, LW_FOOTER, &footer, &has_footer);
    if (status != LW_OK) {
        j->fs->close(j->fs, o->file);
        return status;
    }
    status = lw_judge_map(j, o, &j->header, j->writable, out);
    if (status != LW_OK)
        return status;
    lw_segment *tail = *out;
    bool sealed = has_footer == LW_VALID && lw_same_identity(&footer.identity, &tail->identity);
    j->successor_may_have_begun = sealed;
    if (sealed && found->successor == 0 && !next_is_new(j, o))
        return lw_fail_corrupt(j->error, o->name, 0, footer.state.bounds.next, UINT64_MAX,
                               "the segment is sealed, but the one after it is gone");
    found->watermark = j->header.watermark;
    bool closed = has_mark == LW_VALID && lw_same_identity(&mark.identity, &tail->identity) && mark.size == tail->size;
    if (closed && lw_position_before(found->watermark, mark.watermark))
        found->watermark = mark.watermark;
    if (sealed && lw_position_before(found->watermark, footer.watermark))
        found->watermark = footer.watermark;
    if (sealed && !LW_STEP(WALK_UNPROVEN)) {
        mark = footer;
        closed = true;
        sealed = false;
    }
    if (!closed || sealed) /* sealed: entries may have gone to the successor */
        return walk_tail(j, tail, closed ? mark.state.bounds.next : 0);
    closed_tail taken = {.segment = tail, .mark = &mark};
    if (lw_guarded(closed_tail_run, &taken))
        return fail_look(j, tail);
    if (taken.out_of_memory)
        return lw_fail_errno(j->error, ENOMEM, o->name, "the offset index");
    if (!taken.sound)
        return walk_tail(j, tail, mark.state.bounds.next);
    found->state = mark.state;
    lw_durable_begin(&found->durable, &mark.state.bounds);
    lw_durable_raise(&found->durable, mark.end);
    found->closed_cleanly = true;
    return LW_OK;
}
