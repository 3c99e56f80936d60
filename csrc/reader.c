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
    range->recyclable = wal->options.read_only;
    range->count = 0;
    range->spans = range->inline_spans;
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
    bool any;
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

static int fail_damaged(const visit *v, lw_error *error)
{
    char name[LW_NAME_SIZE];
    const lw_span *span = v->span;
    lw_segment_name_of(span->segment, name);
    if (v->outcome == INDEX_DAMAGED)
        return lw_fail_corrupt(error, name, lw_index_offset(span->segment->size, span->segment->index_count), span->first,
                               span->next - 1, "the offset index of the segment is damaged");
    return lw_fail_corrupt(error, name, v->offset, v->index, v->index, "entry %llu is damaged",
                           (unsigned long long)v->index);
}

int lw_range_visit(const lw_range *range, uint64_t max_bytes, lw_entry_visitor *visitor, void *argument, lw_error *error)
{
    visit v = {.max_bytes = max_bytes, .visitor = visitor, .argument = argument, .status = LW_OK};
    for (size_t i = 0; i < range->count && !v.full; i++) {
        v.span = &range->spans[i];
        v.index = v.span->first;
        v.outcome = FOUND;
        int failed = lw_guarded(visit_span, &v);
        if (range->recyclable && lw_segment_was_recycled(v.span->segment))
            return lw_fail_index(error, LW_PURGED, v.index, "the writer has purged these entries; refresh() to go on");
        if (failed) {
            char name[LW_NAME_SIZE];
            lw_segment_name_of(v.span->segment, name);
            (void)lw_fail_errno(error, failed, name, "the mapped file could not be read");
            error->has_index = 1;
            error->index = error->last_index = v.index;
            return LW_IO;
        }
        if (v.outcome != FOUND)
            return fail_damaged(&v, error);
        if (v.status != LW_OK)
            return v.status;
    }
    return LW_OK;
}

/* ---- for the writer ---- */

typedef struct lookup {
    lw_span span;
    uint64_t index;
    const lw_entry *entry; /* to compare with, or NULL */
    found outcome;
    bool equal;
    lw_frame frame;
    uint64_t offset;
} lookup;

static bool equals(const lw_frame *frame, const uint8_t *payload, const lw_entry *entry)
{
    return frame->kind == entry->kind && frame->size == entry->size &&
           (frame->size == 0 || memcmp(payload, entry->payload, frame->size) == 0);
}

static void lookup_run(void *argument)
{
    lookup *l = argument;
    const lw_segment *segment = l->span.segment;
    if (segment->sealed && !mapped_index_is_sound(l->span.segment)) {
        l->outcome = INDEX_DAMAGED;
        return;
    }
    l->outcome = find_frame(&l->span, l->index, &l->frame, &l->offset);
    if (l->outcome != FOUND || l->entry == NULL)
        return;
    const uint8_t *payload = segment->base + l->offset + LW_FRAME_HEADER_SIZE;
    l->equal = equals(&l->frame, payload, l->entry);
    if (!l->equal && l->frame.payload_check != lw_crc32c(0, payload, (size_t)lw_align8(l->frame.size)))
        l->outcome = FRAME_DAMAGED;
}

/* The index is one that the log holds. */
static int look_up(lw_wal *wal, uint64_t index, lookup *l, lw_error *error)
{
    const lw_run *run = lw_index_find(&wal->index, index);
    lw_segment *segment = run->segment;
    char name[LW_NAME_SIZE];
    lw_segment_name_of(segment, name);
    l->index = index;
    l->span = (lw_span){segment, segment->index_first, run->next, segment->index_items};
    int failed = lw_guarded(lookup_run, l);
    if (failed)
        return lw_fail_errno(error, failed, name, "the mapped file could not be read");
    if (l->outcome != FOUND)
        return lw_fail_corrupt(error, name, l->offset, index, index, "entry %llu is damaged", (unsigned long long)index);
    return LW_OK;
}

int lw_reader_term(lw_wal *wal, uint64_t index, uint64_t *term, lw_error *error)
{
    const lw_bounds *bounds = &wal->state.bounds;
    lookup l = {.entry = NULL};
    if (bounds->has_boundary && index == bounds->boundary.index) {
        *term = bounds->boundary.term;
        return LW_OK;
    }
    if (index < bounds->first || index >= bounds->next)
        return LW_NOT_FOUND;
    if (index == bounds->next - 1) {
        *term = bounds->last_term;
        return LW_OK;
    }
    int status = look_up(wal, index, &l, error);
    if (status == LW_OK)
        *term = l.frame.term;
    return status;
}

int lw_reader_compare(lw_wal *wal, const lw_entry *entry, lw_comparison *comparison, lw_error *error)
{
    lookup l = {.entry = entry};
    int status = look_up(wal, entry->index, &l, error);
    if (status == LW_OK)
        *comparison = l.frame.term != entry->term ? LW_OTHER_TERM : l.equal ? LW_SAME : LW_SAME_TERM_ONLY;
    return status;
}
