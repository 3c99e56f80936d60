#include "walk.h"

#include "crc32c.h"
#include "step.h"

/* The batch that is being read: what it will do, if its COMMIT comes. */
typedef struct batch {
    uint64_t start;
    int stage; /* the order of docs/format.md: frames of a lower stage cannot follow */
    lw_bounds bounds;
    bool cuts;
    uint64_t cut_from; /* drops these of the offset index; 0: all, of older segments too */
    uint64_t pushed;
    const uint8_t *hard_state; /* its payload */
    lw_frame hard_state_frame;
} batch;

enum stage { AT_START, AFTER_EPOCH, AFTER_CONTROL, AFTER_ENTRY, AFTER_HARD_STATE };

static uint64_t area_end(const lw_segment *segment)
{
    return segment->size - LW_PAGE_SIZE;
}

static bool payload_verifies(const lw_frame *frame, const uint8_t *payload)
{
    return !LW_STEP(PAYLOAD_CHECK) || frame->payload_check == lw_crc32c(0, payload, (size_t)lw_align8(frame->size));
}

static bool in_order(batch *current, int lowest_before, int highest_before, int after)
{
    if (current->stage < lowest_before || current->stage > highest_before)
        return false;
    current->stage = after;
    return true;
}

/* Entries are pushed behind the offset index that counts, and moved into place when the COMMIT comes. */
static bool take_entry(lw_walk *walk, batch *current, const lw_frame *frame, uint64_t offset)
{
    lw_segment *segment = walk->segment;
    lw_bounds *bounds = &current->bounds;
    if (!in_order(current, AT_START, AFTER_ENTRY, AFTER_ENTRY))
        return false;
    if (frame->term < bounds->last_term || (!lw_bounds_blank(bounds) && frame->index != bounds->next))
        return false;
    if (lw_segment_reserve(segment, current->pushed + 1) != LW_OK) {
        walk->out_of_memory = true;
        return false;
    }
    segment->index_items[segment->index_count + current->pushed++] = (uint32_t)(offset / 8);
    lw_bounds_append(bounds, frame->index, frame->term);
    return true;
}

static bool take_truncate(batch *current, const lw_frame *frame)
{
    if (!in_order(current, AT_START, AFTER_EPOCH, AFTER_CONTROL))
        return false;
    if (frame->index < current->bounds.first || frame->index >= current->bounds.next)
        return false;
    current->cuts = true;
    current->cut_from = frame->index;
    lw_bounds_truncate(&current->bounds, frame->index, frame->term);
    return true;
}

static bool take_purge(batch *current, const lw_frame *frame)
{
    lw_bounds *bounds = &current->bounds;
    if (!in_order(current, AT_START, AFTER_EPOCH, AFTER_CONTROL))
        return false;
    bool all = frame->kind == 1;
    if (frame->index + 1 < bounds->first ||
        (bounds->has_boundary && frame->index <= bounds->boundary.index) || (!all && frame->index >= bounds->next))
        return false;
    current->cuts = all;
    lw_bounds_purge(bounds, (lw_log_id){frame->index, frame->term}, all);
    return true;
}

static bool take_reset(batch *current)
{
    if (!in_order(current, AT_START, AFTER_EPOCH, AFTER_CONTROL))
        return false;
    current->cuts = true;
    lw_bounds_reset(&current->bounds);
    return true;
}

static bool take_hard_state(batch *current, const lw_frame *frame, const uint8_t *payload)
{
    lw_hard_state ignored;
    if (!in_order(current, AT_START, AFTER_ENTRY, AFTER_HARD_STATE) ||
        !lw_hard_state_decode(&ignored, frame, payload))
        return false;
    current->hard_state = payload;
    current->hard_state_frame = *frame;
    return true;
}

static bool take(lw_walk *walk, batch *current, const lw_frame *frame, uint64_t offset, const uint8_t *payload)
{
    switch (frame->type) {
    case LW_ENTRY_FRAME:
        return take_entry(walk, current, frame, offset);
    case LW_TRUNCATE_FRAME:
        return take_truncate(current, frame);
    case LW_PURGE_FRAME:
        return take_purge(current, frame);
    case LW_RESET_FRAME:
        return take_reset(current);
    case LW_HARD_STATE_FRAME:
        return take_hard_state(current, frame, payload);
    case LW_EPOCH_FRAME:
        return in_order(current, AT_START, AT_START, AFTER_EPOCH);
    case LW_COMMIT_FRAME:
        break;
    }
    return false;
}

static void move_pushed_into_place(lw_segment *segment, const batch *current)
{
    uint32_t *pushed = segment->index_items + segment->index_count;
    if (current->cuts)
        lw_segment_cut(segment, current->cut_from);
    if (current->pushed == 0)
        return;
    if (segment->index_count == 0)
        segment->index_first = current->bounds.next - current->pushed;
    memmove(segment->index_items + segment->index_count, pushed, (size_t)current->pushed * sizeof *pushed);
    segment->index_count += current->pushed;
}

static void count_durable(lw_walk *walk, const batch *current, uint64_t batch_end)
{
    uint64_t kept = !current->cuts ? UINT64_MAX : current->cut_from > 0 ? current->cut_from - 1 : 0;
    lw_durable_add(walk->durable, batch_end, kept, current->bounds.next - 1);
    if (walk->watermark.segment == walk->segment->identity.number)
        lw_durable_raise(walk->durable, walk->watermark.offset);
}

static void apply(lw_walk *walk, const batch *current, const lw_commit *commit, uint64_t batch_end, uint32_t chain)
{
    lw_segment *segment = walk->segment;
    move_pushed_into_place(segment, current);
    walk->state.bounds = current->bounds;
    if (current->hard_state != NULL) {
        walk->state.has_hard_state = true;
        (void)lw_hard_state_decode(&walk->state.hard_state, &current->hard_state_frame, current->hard_state);
    }
    if (lw_position_before(walk->watermark, commit->watermark))
        walk->watermark = commit->watermark;
    walk->last_stored = commit->watermark;
    if (walk->durable != NULL)
        count_durable(walk, current, batch_end);
    segment->end = batch_end;
    segment->chain = chain;
    if (current->stage > AFTER_EPOCH)
        walk->work_end = batch_end;
}

bool lw_walk_batch(lw_walk *walk)
{
    lw_segment *segment = walk->segment;
    batch current = {.start = segment->end, .bounds = walk->state.bounds};
    uint64_t offset = segment->end;
    uint32_t chain = segment->chain;
    walk->reached = offset;
    for (;;) {
        lw_frame frame;
        const uint8_t *bytes = segment->base + offset;
        if (!lw_frame_decode(&frame, segment->seed, bytes, area_end(segment) - offset) ||
            (LW_STEP(CHAIN) && frame.previous != chain))
            return false;
        walk->reached = offset + lw_frame_size(frame.size);
        if (!payload_verifies(&frame, bytes + LW_FRAME_HEADER_SIZE))
            return false;
        chain = frame.check;
        if (frame.type == LW_COMMIT_FRAME) {
            lw_commit commit;
            if (!lw_commit_decode(&commit, &segment->identity, offset, bytes + LW_FRAME_HEADER_SIZE) ||
                commit.start != current.start || commit.next != current.bounds.next)
                return false;
            walk->out_of_memory = walk->durable != NULL && lw_durable_reserve(walk->durable) != LW_OK;
            if (walk->out_of_memory)
                return false;
            apply(walk, &current, &commit, offset + LW_COMMIT_FRAME_SIZE, chain);
            return true;
        }
        if (!take(walk, &current, &frame, offset, bytes + LW_FRAME_HEADER_SIZE))
            return false;
        offset += lw_frame_size(frame.size);
    }
}

void lw_walk_run(void *argument)
{
    lw_walk *walk = argument;
    while (lw_walk_batch(walk))
        continue;
}

bool lw_walk_end_holds(const lw_segment *segment)
{
    lw_frame frame;
    if (segment->end == LW_FRAMES_OFFSET)
        return segment->chain == segment->seed;
    const uint8_t *bytes = segment->base + segment->end - LW_COMMIT_FRAME_SIZE;
    return lw_frame_decode(&frame, segment->seed, bytes, LW_COMMIT_FRAME_SIZE) && frame.type == LW_COMMIT_FRAME &&
           frame.check == segment->chain && payload_verifies(&frame, bytes + LW_FRAME_HEADER_SIZE);
}

/* A COMMIT alone, which may have an EPOCH before it, begins where the last batch ends. */
static bool may_be_commit_alone(const lw_look_ahead *look, lw_frame_type type, uint64_t offset)
{
    if (type == LW_COMMIT_FRAME)
        return offset == look->from || offset == look->from + LW_EPOCH_FRAME_SIZE;
    return type == LW_EPOCH_FRAME && offset == look->from;
}

static void look_at_commit(lw_look_ahead *look, uint64_t offset)
{
    const lw_segment *segment = look->segment;
    lw_commit commit;
    if (!lw_commit_decode(&commit, &segment->identity, offset, segment->base + offset + LW_FRAME_HEADER_SIZE))
        return;
    look->commits++;
    look->holds_work |= !may_be_commit_alone(look, LW_COMMIT_FRAME, offset);
    if (offset + LW_COMMIT_FRAME_SIZE > look->frames_end)
        look->frames_end = offset + LW_COMMIT_FRAME_SIZE;
    if (!lw_position_before(look->end, commit.watermark))
        return;
    if (!look->contradicted)
        look->contradiction_offset = offset;
    look->contradicted = true;
    if (commit.next > look->known_next)
        look->known_next = commit.next;
}

enum { STRETCH = 512 };

static bool is_zero(const uint8_t bytes[STRETCH])
{
    static const uint8_t zeros[STRETCH];
    return memcmp(bytes, zeros, STRETCH) == 0;
}

/* The next offset at which a frame could begin: most of what is looked through was never written. A frame that begins in
 * zeros has no header, and a COMMIT that does has nothing to be known by, unless it reaches beyond them. */
static uint64_t pass_zeros(const lw_segment *segment, uint64_t offset, uint64_t limit)
{
    while (limit - offset >= STRETCH && is_zero(segment->base + offset))
        offset += STRETCH - (LW_COMMIT_FRAME_SIZE - 8);
    return offset;
}

static void look_at_frame(lw_look_ahead *look, uint64_t offset, uint64_t limit)
{
    lw_frame frame;
    const lw_segment *segment = look->segment;
    if (!lw_frame_decode(&frame, segment->seed, segment->base + offset, limit - offset))
        return;
    if (offset + lw_frame_size(frame.size) > look->frames_end)
        look->frames_end = offset + lw_frame_size(frame.size);
    look->holds_work |= !may_be_commit_alone(look, frame.type, offset);
    if ((frame.type == LW_ENTRY_FRAME || frame.type == LW_TRUNCATE_FRAME) && frame.index < look->lowest_index)
        look->lowest_index = frame.index;
}

void lw_look_ahead_run(void *argument)
{
    lw_look_ahead *look = argument;
    const lw_segment *segment = look->segment;
    uint64_t limit = look->to > 0 && look->to < area_end(segment) ? look->to : area_end(segment);
    look->frames_end = look->from;
    look->lowest_index = UINT64_MAX;
    for (uint64_t offset = look->from; limit - offset >= LW_FRAME_HEADER_SIZE; offset += 8) {
        if ((offset - look->from) % STRETCH == 0)
            offset = pass_zeros(segment, offset, limit);
        const uint8_t *bytes = segment->base + offset;
        if (limit - offset >= LW_COMMIT_FRAME_SIZE && lw_may_be_commit(bytes + LW_FRAME_HEADER_SIZE))
            look_at_commit(look, offset);
        if (look->has_seed && lw_may_be_frame(bytes))
            look_at_frame(look, offset, limit);
    }
}
