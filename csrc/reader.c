#include "reader.h"

#include <errno.h>
#include <stdlib.h>

#include "crc32c.h"
#include "error.h"

/* ---- one frame, verified; in lw_guarded ---- */

typedef enum found { FOUND, FRAME_DAMAGED, INDEX_DAMAGED } found;

static bool mapped_index_is_sound(lw_segment *segment)
{
    if (__atomic_load_n(&segment->index_checked, __ATOMIC_ACQUIRE))
        return true;
    const uint8_t *items = segment->base + lw_index_offset(segment->size, segment->index_count);
    if (lw_crc32c(0, items, (size_t)(segment->index_count * LW_INDEX_ITEM_SIZE)) != segment->index_check)
        return false;
    __atomic_store_n(&segment->index_checked, 1, __ATOMIC_RELEASE);
    return true;
}

static found frame_at(const lw_segment *segment, uint64_t offset, uint64_t index, lw_frame *frame)
{
    uint64_t limit = segment->size - LW_PAGE_SIZE; /* not `end`, which moves while a tail is read */
    if (offset < LW_FRAMES_OFFSET || offset >= limit)
        return FRAME_DAMAGED;
    const uint8_t *bytes = segment->base + offset;
    if (!lw_frame_decode(frame, segment->seed, bytes, limit - offset) || frame->type != LW_ENTRY_FRAME ||
        frame->index != index)
        return FRAME_DAMAGED;
    return FOUND;
}

static found find_frame(const lw_span *span, uint64_t index, lw_frame *frame, uint64_t *offset)
{
    if (span->items != NULL) {
        *offset = (uint64_t)span->items[index - span->first] * 8;
    } else {
        const lw_segment *segment = span->segment;
        const uint8_t *items = segment->base + lw_index_offset(segment->size, segment->index_count);
        *offset = (uint64_t)lw_index_item_load(items, index - segment->index_first) * 8;
    }
    return frame_at(span->segment, *offset, index, frame);
}

/* ---- what can be wrong with one ---- */

static int fail_damaged(const lw_span *span, found outcome, uint64_t offset, uint64_t index, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name_of(span->segment, name);
    if (outcome == INDEX_DAMAGED)
        return lw_fail_corrupt(error, name, lw_index_offset(span->segment->size, span->segment->index_count), span->first,
                               span->next - 1, "the offset index of the segment is damaged");
    return lw_fail_corrupt(error, name, offset, index, index, "the bytes of the entry are damaged");
}

static int fail_unreadable(const lw_segment *segment, int failed, uint64_t index, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name_of(segment, name);
    (void)lw_fail_errno(error, failed, name, "the mapped file could not be read");
    error->has_index = 1;
    error->index = error->last_index = index;
    return LW_IO;
}

static int fail_recycled(uint64_t index, lw_error *error)
{
    return lw_fail_index(error, LW_PURGED, index, "the writer has purged these entries; refresh() to go on");
}

/* Of a read-only handle; else NULL: what it knows of the log may not hold any more. */
static void doubt(lw_wal *beside)
{
    if (beside != NULL)
        __atomic_store_n(&beside->in_doubt, true, __ATOMIC_RELEASE);
}

/* ---- ranges ---- */

static int copy_items(lw_range *range, lw_span *span)
{
    const lw_segment *segment = span->segment;
    uint64_t count = span->next - span->first;
    if (segment->sealed)
        return LW_OK;
    span->items = count <= LW_INLINE_ITEMS ? range->inline_items : malloc((size_t)count * sizeof *span->items);
    if (span->items == NULL)
        return LW_NO_MEMORY;
    memcpy(span->items, segment->index_items + (span->first - segment->index_first),
           (size_t)count * sizeof *span->items);
    return LW_OK;
}

static int add_span(lw_range *range, const lw_run *run, uint64_t first, uint64_t next)
{
    lw_span *span = &range->spans[range->count];
    *span = (lw_span){.segment = run->segment, .first = first < run->first ? run->first : first,
                      .next = next > run->next ? run->next : next};
    if (copy_items(range, span) != LW_OK)
        return LW_NO_MEMORY;
    lw_segment_pin(run->segment);
    range->count++;
    return LW_OK;
}

static int take_spans(lw_range *range, const lw_index *index, uint64_t first, uint64_t next)
{
    const lw_run *end = lw_index_runs(index) + index->count;
    const lw_run *run = lw_index_find(index, first);
    size_t needed = 0;
    for (const lw_run *r = run; r < end && r->first < next; r++)
        needed++;
    if (needed > LW_INLINE_SPANS) {
        range->spans = calloc(needed, sizeof *range->spans);
        if (range->spans == NULL)
            return LW_NO_MEMORY;
    }
    for (; run < end && run->first < next; run++)
        if (add_span(range, run, first, next) != LW_OK)
            return LW_NO_MEMORY;
    return LW_OK;
}

int lw_range_open(lw_wal *wal, uint64_t first, uint64_t last, lw_range *range, lw_error *error)
{
    int status = LW_OK;
    range->beside = wal->options.read_only ? wal : NULL;
    range->count = 0;
    range->spans = range->inline_spans;
    range->bounded = false;
    (void)pthread_mutex_lock(&wal->lock);
    const lw_bounds *bounds = &wal->state.bounds;
    if (first < bounds->first)
        first = bounds->first;
    uint64_t next = last < bounds->next ? last + 1 : bounds->next;
    if (first < next)
        status = take_spans(range, &wal->index, first, next);
    (void)pthread_mutex_unlock(&wal->lock);
    if (range->spans == NULL)
        range->spans = range->inline_spans;
    if (status != LW_OK) {
        lw_range_close(range);
        return lw_fail_errno(error, ENOMEM, NULL, "a read");
    }
    return LW_OK;
}

void lw_range_close(lw_range *range)
{
    for (size_t i = 0; i < range->count; i++) {
        if (range->spans[i].items != range->inline_items)
            free(range->spans[i].items);
        lw_segment_unpin(range->spans[i].segment);
    }
    if (range->spans != range->inline_spans)
        free(range->spans);
}

typedef struct visit {
    const lw_span *span;
    uint64_t index;
    uint64_t bytes; /* of payload, so far */
    uint64_t max_bytes;
    bool any; /* visited, or it need not be */
    lw_entry_visitor *visitor;
    void *argument;
    found outcome;
    uint64_t offset;
    int status;
    bool full;
} visit;

static void visit_span(void *argument)
{
    visit *v = argument;
    lw_frame frame;
    if (v->span->items == NULL && !mapped_index_is_sound(v->span->segment)) {
        v->outcome = INDEX_DAMAGED;
        return;
    }
    for (; v->index < v->span->next; v->index++) {
        v->outcome = find_frame(v->span, v->index, &frame, &v->offset);
        if (v->outcome != FOUND)
            return;
        if (v->any && v->bytes + frame.size > v->max_bytes) {
            v->full = true;
            return;
        }
        const uint8_t *payload = v->span->segment->base + v->offset + LW_FRAME_HEADER_SIZE;
        if (frame.payload_check != lw_crc32c(0, payload, (size_t)lw_align8(frame.size))) {
            v->outcome = FRAME_DAMAGED;
            return;
        }
        v->status = v->visitor(v->argument, &frame, payload);
        if (v->status != LW_OK)
            return;
        v->any = true;
        v->bytes += frame.size;
    }
}

int lw_range_visit(const lw_range *range, uint64_t max_bytes, lw_entry_visitor *visitor, void *argument, lw_error *error)
{
    visit v = {.max_bytes = max_bytes, .any = range->bounded, .visitor = visitor, .argument = argument, .status = LW_OK};
    for (size_t i = 0; i < range->count && !v.full; i++) {
        v.span = &range->spans[i];
        v.index = v.span->first;
        v.outcome = FOUND;
        int failed = lw_guarded(visit_span, &v);
        bool recycled = range->beside != NULL && lw_segment_was_recycled(v.span->segment);
        if (recycled || failed || v.outcome != FOUND)
            doubt(range->beside);
        if (recycled)
            return fail_recycled(v.index, error);
        if (failed)
            return fail_unreadable(v.span->segment, failed, v.index, error);
        if (v.outcome != FOUND)
            return fail_damaged(v.span, v.outcome, v.offset, v.index, error);
        if (v.status != LW_OK)
            return v.status;
    }
    return LW_OK;
}

/* ---- one entry ---- */

typedef struct lookup {
    lw_span span; /* of the one entry */
    uint64_t index;
    uint32_t item; /* of the offset index, where that is not in the mapping */
    const lw_entry *entry; /* to compare with, or NULL: then only the frame's header is touched */
    found outcome;
    bool equal;
    lw_frame frame;
    uint64_t offset;
} lookup;

/* With `lock` or accept_lock held; the index is one that the log holds. */
static void aim(lookup *l, const lw_index *runs, uint64_t index)
{
    lw_segment *segment = lw_index_find(runs, index)->segment;
    l->index = index;
    l->span = (lw_span){segment, index, index + 1, NULL};
    if (segment->sealed)
        return;
    l->item = segment->index_items[index - segment->index_first];
    l->span.items = &l->item;
}

static bool equals(const lw_frame *frame, const uint8_t *payload, const lw_entry *entry)
{
    return frame->kind == entry->kind && frame->size == entry->size &&
           (frame->size == 0 || memcmp(payload, entry->payload, frame->size) == 0);
}

static void lookup_run(void *argument)
{
    lookup *l = argument;
    if (l->span.items == NULL && !mapped_index_is_sound(l->span.segment)) {
        l->outcome = INDEX_DAMAGED;
        return;
    }
    l->outcome = find_frame(&l->span, l->index, &l->frame, &l->offset);
    if (l->outcome != FOUND || l->entry == NULL)
        return;
    const uint8_t *payload = l->span.segment->base + l->offset + LW_FRAME_HEADER_SIZE;
    l->equal = equals(&l->frame, payload, l->entry);
    if (!l->equal && l->frame.payload_check != lw_crc32c(0, payload, (size_t)lw_align8(l->frame.size)))
        l->outcome = FRAME_DAMAGED;
}

/* The segment is pinned, or kept by accept_lock. `beside` as in lw_range. */
static int look_up(lookup *l, lw_wal *beside, lw_error *error)
{
    int failed = lw_guarded(lookup_run, l);
    bool recycled = beside != NULL && lw_segment_was_recycled(l->span.segment);
    if (recycled || failed || l->outcome != FOUND)
        doubt(beside);
    if (recycled)
        return fail_recycled(l->index, error);
    if (failed)
        return fail_unreadable(l->span.segment, failed, l->index, error);
    return l->outcome == FOUND ? LW_OK : fail_damaged(&l->span, l->outcome, l->offset, l->index, error);
}

static bool holds(const lw_bounds *bounds, uint64_t index)
{
    return index >= bounds->first && index < bounds->next;
}

static bool term_in_memory(const lw_bounds *bounds, uint64_t index, uint64_t *term)
{
    if (bounds->has_boundary && index == bounds->boundary.index)
        *term = bounds->boundary.term;
    else if (holds(bounds, index) && index == bounds->next - 1)
        *term = bounds->last_term;
    else
        return false;
    return true;
}

static int look_up_pinned(lw_wal *wal, lookup *l, lw_error *error)
{
    int status = look_up(l, wal->options.read_only ? wal : NULL, error);
    lw_segment_unpin(l->span.segment);
    return status;
}

int lw_read_term(lw_wal *wal, uint64_t index, uint64_t *term, lw_error *error)
{
    lookup l;
    const lw_bounds *bounds = &wal->state.bounds;
    l.entry = NULL;
    *term = 0;
    if (index == 0)
        return LW_OK;
    (void)pthread_mutex_lock(&wal->lock);
    bool known = term_in_memory(bounds, index, term);
    bool held = !known && holds(bounds, index);
    if (held) {
        aim(&l, &wal->index, index);
        lw_segment_pin(l.span.segment);
    }
    (void)pthread_mutex_unlock(&wal->lock);
    if (!held)
        return known ? LW_OK : LW_NOT_FOUND;
    int status = look_up_pinned(wal, &l, error);
    if (status == LW_OK)
        *term = l.frame.term;
    return status;
}

static int look_up_header(lw_wal *wal, uint64_t index, lookup *l, uint64_t *segment, lw_error *error)
{
    l->entry = NULL;
    (void)pthread_mutex_lock(&wal->lock);
    bool held = holds(&wal->state.bounds, index);
    if (held) {
        aim(l, &wal->index, index);
        lw_segment_pin(l->span.segment);
    }
    (void)pthread_mutex_unlock(&wal->lock);
    if (!held)
        return LW_NOT_FOUND;
    *segment = l->span.segment->identity.number;
    return look_up_pinned(wal, l, error);
}

int lw_read_place(lw_wal *wal, uint64_t index, lw_position *place, lw_error *error)
{
    lookup l;
    uint64_t segment;
    int status = look_up_header(wal, index, &l, &segment, error);
    if (status == LW_OK)
        *place = (lw_position){segment, l.offset};
    return status;
}

int lw_read_size(lw_wal *wal, uint64_t index, uint64_t *size, lw_error *error)
{
    lookup l;
    uint64_t segment;
    int status = look_up_header(wal, index, &l, &segment, error);
    if (status == LW_OK)
        *size = l.frame.size;
    return status;
}

/* ---- for the writer ---- */

int lw_reader_term(lw_wal *wal, uint64_t index, uint64_t *term, lw_error *error)
{
    lookup l = {.entry = NULL};
    if (term_in_memory(&wal->state.bounds, index, term))
        return LW_OK;
    if (!holds(&wal->state.bounds, index))
        return LW_NOT_FOUND;
    aim(&l, &wal->index, index);
    int status = look_up(&l, NULL, error);
    if (status == LW_OK)
        *term = l.frame.term;
    return status;
}

int lw_reader_compare(lw_wal *wal, const lw_entry *entry, lw_comparison *comparison, lw_error *error)
{
    lookup l = {.entry = entry};
    aim(&l, &wal->index, entry->index);
    int status = look_up(&l, NULL, error);
    if (status == LW_OK)
        *comparison = l.frame.term != entry->term ? LW_OTHER_TERM : l.equal ? LW_SAME : LW_SAME_TERM_ONLY;
    return status;
}
