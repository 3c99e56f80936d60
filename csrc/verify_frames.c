#include "verify.h"

#include "crc32c.h"
#include "error.h"

enum { STEP = 4 << 20 }; /* about so many bytes in one call */

/* ---- replaying: whole batches ---- */

/* Before a batch that begins with an EPOCH, keeps the close mark that this batch may have zeroed. */
static void note_epoch(lw_replay *r)
{
    const lw_segment *segment = r->walk.segment;
    lw_frame frame;
    if (!lw_frame_decode(&frame, segment->seed, segment->base + segment->end, segment->size - LW_PAGE_SIZE - segment->end) ||
        frame.type != LW_EPOCH_FRAME)
        return;
    r->has_epoch = true;
    lw_verify_expected_mark(segment, &r->walk.state, &r->mark_at_epoch);
}

static void replay_run(void *argument)
{
    lw_replay *r = argument;
    const lw_segment *segment = r->walk.segment;
    while (segment->end < r->stop_at && (r->until == 0 || segment->end < r->until)) {
        lw_position start = {segment->identity.number, segment->end};
        if (r->wants_mark)
            note_epoch(r);
        if (!lw_walk_batch(&r->walk)) {
            r->stopped = true;
            return;
        }
        if (r->early_commit == 0 && lw_position_before(start, r->walk.watermark))
            r->early_commit = start.offset;
    }
}

/* ---- scanning: frames one by one ---- */

static bool payload_verifies(const lw_frame *frame, const uint8_t *payload)
{
    return frame->payload_check == lw_crc32c(0, payload, (size_t)lw_align8(frame->size));
}

static lw_damage *add(lw_scan *scan, lw_finding_kind kind, uint64_t offset, uint64_t size, const char *what)
{
    lw_damage *damage = lw_verify_add(scan->verify, kind, scan->segment->identity.number, offset, true, what);
    if (damage == NULL) {
        scan->out_of_memory = true;
        return NULL;
    }
    damage->size = size;
    damage->is_frame = true;
    damage->before = scan->last_entry;
    return damage;
}

static void note_next_entry(lw_scan *scan, uint64_t index)
{
    lw_verify *v = scan->verify;
    for (size_t i = v->damage_count; i > 0 && v->damage[i - 1].is_frame && v->damage[i - 1].after == 0; i--)
        v->damage[i - 1].after = index;
    scan->last_entry = index;
}

/* Approximate: whether the frame fits its place was not checked. */
static void apply(lw_scan *scan, const lw_frame *frame)
{
    lw_bounds *bounds = &scan->bounds;
    switch (frame->type) {
    case LW_ENTRY_FRAME:
        lw_bounds_append(bounds, frame->index, frame->term);
        break;
    case LW_TRUNCATE_FRAME:
        lw_bounds_truncate(bounds, frame->index, frame->term);
        scan->last_entry = frame->index - 1;
        break;
    case LW_PURGE_FRAME:
        lw_bounds_purge(bounds, (lw_log_id){frame->index, frame->term}, frame->kind == 1);
        scan->last_entry = frame->kind == 1 ? frame->index : scan->last_entry;
        break;
    case LW_RESET_FRAME:
        lw_bounds_reset(bounds);
        scan->last_entry = 0;
        break;
    default:
        break;
    }
    if ((frame->type == LW_ENTRY_FRAME || frame->type == LW_TRUNCATE_FRAME) && frame->index < scan->lowest)
        scan->lowest = frame->index;
    if (frame->type != LW_ENTRY_FRAME)
        return;
    note_next_entry(scan, frame->index);
    if (scan->batch_first == 0)
        scan->batch_first = frame->index;
}

static void note_commit(lw_scan *scan, const lw_commit *commit, lw_damage *damage)
{
    if (lw_position_before(scan->watermark, commit->watermark))
        scan->watermark = commit->watermark;
    if (damage != NULL && scan->batch_first != 0)
        lw_damage_range(damage, scan->batch_first, commit->next - 1);
    scan->batch_first = 0;
}

/* A frame whose header verifies. */
static void check_frame(lw_scan *scan, const lw_frame *frame, const uint8_t *payload)
{
    static const char *const what[] = {"", "the entry is damaged", "a TRUNCATE is damaged", "a PURGE is damaged",
                                       "a RESET is damaged", "a HARD_STATE is damaged", "an EPOCH is damaged",
                                       "a COMMIT is damaged"};
    uint64_t size = lw_frame_size(frame->size);
    bool is_commit = frame->type == LW_COMMIT_FRAME;
    lw_damage *damage = NULL;
    lw_commit commit;
    lw_hard_state ignored;
    bool stands_alone = is_commit && lw_commit_decode(&commit, &scan->segment->identity, scan->at, payload);
    if (!payload_verifies(frame, payload) || (is_commit && !stands_alone) ||
        (frame->type == LW_HARD_STATE_FRAME && !lw_hard_state_decode(&ignored, frame, payload)))
        damage = add(scan, is_commit ? LW_FOUND_COMMIT : LW_FOUND_FRAME, scan->at, size, what[frame->type]);
    else if (scan->chain_is_known && frame->previous != scan->chain)
        damage = add(scan, LW_FOUND_CHAIN, scan->at, size, "the frame does not follow the one before it");
    if (damage != NULL)
        damage->type = (int)frame->type;
    if (damage != NULL && frame->type == LW_ENTRY_FRAME)
        lw_damage_range(damage, frame->index, frame->index);
    if (damage != NULL && is_commit && !stands_alone && scan->batch_first != 0)
        lw_damage_range(damage, scan->batch_first, scan->last_entry);
    scan->chain = frame->check;
    scan->chain_is_known = true;
    apply(scan, frame);
    if (stands_alone)
        note_commit(scan, &commit, damage);
    else if (is_commit)
        scan->batch_first = 0;
    scan->at += size;
}

static uint64_t scan_limit(const lw_scan *scan)
{
    return scan->until != 0 ? scan->until : scan->segment->size - LW_PAGE_SIZE;
}

static bool is_frame_at(const lw_scan *scan, uint64_t offset, uint64_t limit)
{
    lw_frame frame;
    const uint8_t *bytes = scan->segment->base + offset;
    return lw_frame_decode(&frame, scan->segment->seed, bytes, limit - offset) &&
           payload_verifies(&frame, bytes + LW_FRAME_HEADER_SIZE);
}

/* Adds the bytes from scan->seek_from to scan->at, in which no frame is recognised. */
static void add_stretch(lw_scan *scan)
{
    lw_commit commit;
    uint64_t from = scan->seek_from;
    const lw_segment *segment = scan->segment;
    bool is_commit = scan_limit(scan) - from >= LW_COMMIT_FRAME_SIZE &&
                     lw_commit_decode(&commit, &segment->identity, from, segment->base + from + LW_FRAME_HEADER_SIZE);
    lw_damage *damage = is_commit ? add(scan, LW_FOUND_COMMIT, from, LW_COMMIT_FRAME_SIZE, "a COMMIT is damaged")
                                  : add(scan, LW_FOUND_FRAME, from, scan->at - from, "no frame can be recognised here");
    if (is_commit) {
        if (damage != NULL)
            damage->type = LW_COMMIT_FRAME;
        note_commit(scan, &commit, damage);
        scan->at = from + LW_COMMIT_FRAME_SIZE;
    }
    scan->chain_is_known = false;
    scan->seek_from = 0;
}

/* No frame is at scan->at: looks for the next one at every multiple of 8, without believing a length. */
static void seek(lw_scan *scan, uint64_t limit)
{
    if (scan->seek_from == 0) {
        scan->seek_from = scan->at;
        scan->at += 8;
    }
    for (; scan->at < limit && scan->at < scan->stop_at; scan->at += 8)
        if (is_frame_at(scan, scan->at, limit)) {
            add_stretch(scan);
            return;
        }
    if (scan->at < limit)
        return;
    scan->at = limit;
    add_stretch(scan);
}

static void scan_run(void *argument)
{
    lw_scan *scan = argument;
    uint64_t limit = scan_limit(scan);
    lw_frame frame;
    while (scan->at < limit && scan->at < scan->stop_at && !scan->out_of_memory) {
        const uint8_t *bytes = scan->segment->base + scan->at;
        if (scan->seek_from == 0 && lw_frame_decode(&frame, scan->segment->seed, bytes, limit - scan->at))
            check_frame(scan, &frame, bytes + LW_FRAME_HEADER_SIZE);
        else
            seek(scan, limit);
    }
    scan->done = scan->at >= limit;
}

/* ---- the two phases ---- */

static int note_unreadable(lw_verify *v)
{
    uint64_t at = v->phase == LW_VERIFY_SCAN ? v->scan.at : v->segment->end;
    v->reads_frames = v->is_whole = false;
    v->phase = LW_VERIFY_SEGMENT;
    lw_damage *damage = lw_verify_add(v, LW_FOUND_UNREADABLE, v->here.number, at, true,
                                      "the system cannot read the file from here on, or a little further on; "
                                      "the rest of the segment is not verified");
    return damage == NULL ? lw_verify_no_memory(v) : LW_OK;
}

/* The replay does not get further. The step goes on, so that whoever stops behind it is told why. */
static int scan_from_here(lw_verify *v)
{
    const lw_walk *walk = &v->replay.walk;
    lw_scan *scan = &v->scan;
    scan->at = v->segment->end;
    scan->chain = v->segment->chain;
    scan->bounds = walk->state.bounds;
    if (lw_position_before(scan->watermark, walk->watermark))
        scan->watermark = walk->watermark;
    if (!lw_bounds_blank(&walk->state.bounds))
        scan->last_entry = walk->state.bounds.next - 1;
    if (v->segment->index_count > 0)
        scan->lowest = v->segment->index_first;
    if (v->segment->lowest_override < scan->lowest)
        scan->lowest = v->segment->lowest_override;
    v->phase = LW_VERIFY_SCAN;
    return lw_verify_scan(v);
}

/* The frames of the tail end here, and no page says whether they should. A watermark that lies behind this end contradicts it:
 * then there is damage, or a writer has gone on meanwhile. */
static int judge_end(lw_verify *v)
{
    lw_segment *tail = v->segment;
    const lw_pages *p = &v->here;
    lw_walk *walk = &v->replay.walk;
    lw_position end = {tail->identity.number, tail->end};
    lw_look_ahead look = {.segment = tail, .has_seed = true, .from = tail->end, .end = end};
    if (lw_guarded(lw_look_ahead_run, &look))
        return note_unreadable(v);
    bool contradicted = look.contradicted || lw_position_before(end, walk->watermark) ||
                        (p->has_mark && lw_position_before(end, p->mark.watermark)) ||
                        (p->has_footer && lw_position_before(end, p->footer.watermark));
    v->is_whole = !contradicted;
    v->phase = LW_VERIFY_SEGMENT;
    if (!contradicted)
        return LW_OK;
    v->replay.stopped = false;
    v->replay.stop_at = tail->end + 1;
    if (lw_guarded(replay_run, &v->replay))
        return note_unreadable(v);
    if (tail->end == end.offset)
        return scan_from_here(v);
    v->phase = LW_VERIFY_REPLAY;
    return LW_OK;
}

int lw_verify_replay(lw_verify *v)
{
    lw_replay *r = &v->replay;
    lw_segment *segment = v->segment;
    r->stop_at = segment->end + STEP;
    r->stopped = false;
    if (lw_guarded(replay_run, r))
        return note_unreadable(v);
    if (r->walk.out_of_memory)
        return lw_verify_no_memory(v);
    lw_verify_count(v, segment->end);
    v->is_whole = r->until != 0 && segment->end == r->until;
    if (v->is_whole)
        v->phase = LW_VERIFY_SEGMENT;
    else if (r->stopped && r->until == 0 && v->is_tail)
        return judge_end(v);
    else if (r->stopped || (r->until != 0 && segment->end > r->until))
        return scan_from_here(v);
    return LW_OK;
}

/* If every frame is valid, their batch is impossible. */
static int end_scan(lw_verify *v)
{
    v->phase = LW_VERIFY_SEGMENT;
    if (v->damage_count > 0 || !v->knows_start)
        return LW_OK;
    lw_damage *damage = lw_verify_add(v, LW_FOUND_CHAIN, v->here.number, v->segment->end, true,
                                      "the batch here is not whole, or not one that can follow on what stands before it");
    return damage == NULL ? lw_verify_no_memory(v) : LW_OK;
}

int lw_verify_scan(lw_verify *v)
{
    lw_scan *s = &v->scan;
    s->stop_at = s->at + STEP;
    if (lw_guarded(scan_run, s))
        return note_unreadable(v);
    if (s->out_of_memory)
        return lw_verify_no_memory(v);
    lw_verify_count(v, s->at);
    bool is_over = s->done || (s->until != 0 && s->at >= s->until);
    return is_over ? end_scan(v) : LW_OK;
}
