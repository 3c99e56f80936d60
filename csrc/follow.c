#include "follow.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "reserve.h"
#include "walk.h"

enum {
    /* So far behind the end a refresh looks for a COMMIT that knows of more than could be read. */
    LOOK_SIZE = 64 << 10,
    DROP_STEP = 64, /* segments let go under `lock` at a time */
};

/* What was appended to the tail since the last look. `fresh` has the tail's mapping, and an offset index of its own, which holds the
 * new entries only: the tail's may be read by others meanwhile. */
typedef struct growth {
    const lw_segment *tail;
    lw_segment fresh;
    lw_walk walk;
    bool holds;         /* the file is the one that was read before, and so is the last batch */
    uint64_t known_end; /* something knows of frames up to here */
    uint64_t looked_to; /* as in lw_wal */
    uint8_t mark[LW_PAGE_SIZE];
    uint8_t footer[LW_PAGE_SIZE];
} growth;

/* ---- reading; in lw_guarded ---- */

static void look_behind(growth *g, uint64_t from)
{
    if (from >= g->fresh.size - LW_PAGE_SIZE)
        return;
    lw_look_ahead look = {.segment = &g->fresh, .from = from, .to = from + LOOK_SIZE + LW_COMMIT_FRAME_SIZE,
                          .end = {g->fresh.identity.number, g->fresh.end}};
    lw_look_ahead_run(&look);
    if (look.contradicted && g->known_end <= look.contradiction_offset)
        g->known_end = look.contradiction_offset + LW_COMMIT_FRAME_SIZE;
}

/* Behind the end, behind the frames that lead on from there, and a part of the rest, another one each time: damage to what was
 * appended is found, and the cost has a bound. */
static void look_for_damage(growth *g)
{
    uint64_t end = g->fresh.end;
    look_behind(g, end);
    if (g->walk.reached > end + LOOK_SIZE)
        look_behind(g, g->walk.reached);
    uint64_t from = g->looked_to > end + LOOK_SIZE ? g->looked_to : end + LOOK_SIZE;
    look_behind(g, from);
    g->looked_to = from + LOOK_SIZE < g->fresh.size ? from + LOOK_SIZE : 0;
}

static void grow_run(void *argument)
{
    growth *g = argument;
    const uint8_t *base = g->tail->base;
    g->holds = lw_page_check(base) == g->tail->header_check && lw_walk_end_holds(g->tail);
    if (!g->holds)
        return;
    lw_walk_run(&g->walk);
    look_for_damage(g);
    memcpy(g->mark, base + LW_MARK_OFFSET, LW_PAGE_SIZE);
    memcpy(g->footer, base + g->tail->size - LW_PAGE_SIZE, LW_PAGE_SIZE);
}

/* Behind what was just seen to know of more: if a writer is at work, it can be read by now. */
static void grow_again_run(void *argument)
{
    growth *g = argument;
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    lw_walk_run(&g->walk);
}

static bool page_is_ours(const growth *g, lw_page_type type, const uint8_t bytes[LW_PAGE_SIZE], lw_page *page)
{
    return lw_page_decode(page, type, bytes) == LW_VALID && page->identity.number == g->tail->identity.number &&
           page->identity.nonce == g->tail->identity.nonce && page->size == g->tail->size &&
           memcmp(page->identity.log_id, g->tail->identity.log_id, LW_LOG_ID_SIZE) == 0;
}

static void believe_watermark(growth *g, const lw_page *page)
{
    if (lw_position_before(g->walk.watermark, page->watermark))
        g->walk.watermark = page->watermark;
    if (g->walk.watermark.segment == g->tail->identity.number)
        lw_durable_raise(g->walk.durable, g->walk.watermark.offset);
}

static bool ends_at(const growth *g, const lw_page *page)
{
    return page->end == g->fresh.end && page->chain == g->fresh.chain;
}

/* Reads on. LW_PENDING where something contradicts what was read. *footer is the tail's where it is sealed, else its end is 0;
 * *closed: its close mark describes the end. */
static int grow(lw_wal *wal, growth *g, lw_page *footer, bool *closed, lw_error *error)
{
    lw_page mark;
    lw_segment *tail = wal->tail;
    g->tail = tail;
    g->known_end = 0;
    g->looked_to = wal->looked_to;
    g->fresh = (lw_segment){.base = tail->base, .size = tail->size, .identity = tail->identity, .seed = tail->seed,
                            .end = tail->end, .chain = tail->chain, .lowest_override = LW_NO_OVERRIDE};
    g->walk = (lw_walk){.segment = &g->fresh, .state = wal->state, .watermark = wal->durable, .durable = &wal->proven};
    if (lw_guarded(grow_run, g) != 0 || !g->holds)
        return LW_PENDING;
    wal->looked_to = g->looked_to;
    bool marked = page_is_ours(g, LW_CLOSE_MARK, g->mark, &mark);
    bool sealed = page_is_ours(g, LW_FOOTER, g->footer, footer);
    if (marked && mark.end > g->known_end)
        g->known_end = mark.end;
    if (sealed && footer->end > g->known_end)
        g->known_end = footer->end;
    if (g->known_end > g->fresh.end && !g->walk.out_of_memory && lw_guarded(grow_again_run, g) != 0)
        return LW_PENDING;
    if (g->walk.out_of_memory)
        return lw_fail_errno(error, ENOMEM, NULL, "refresh");
    if (g->known_end > g->fresh.end || lw_segment_was_recycled(tail) || (sealed && !ends_at(g, footer)))
        return LW_PENDING;
    *closed = marked && ends_at(g, &mark);
    if (marked)
        believe_watermark(g, &mark);
    if (sealed)
        believe_watermark(g, footer);
    else
        footer->end = 0;
    return LW_OK;
}

/* ---- showing what was read ---- */

/* With `lock` held. What was cut comes first: of the new entries, those that were cut are not there any more. */
static void add_entries(lw_wal *wal, const lw_segment *fresh)
{
    lw_segment *tail = wal->tail;
    if (fresh->lowest_override != LW_NO_OVERRIDE) {
        lw_segment_cut(tail, fresh->lowest_override);
        lw_index_truncate(&wal->index, fresh->lowest_override);
    }
    if (fresh->index_count > 0) {
        if (tail->index_count == 0)
            tail->index_first = fresh->index_first;
        memcpy(tail->index_items + tail->index_count, fresh->index_items,
               (size_t)fresh->index_count * sizeof *fresh->index_items);
        tail->index_count += fresh->index_count;
        lw_index_append(&wal->index, tail, fresh->index_first, fresh->index_first + fresh->index_count);
    }
    tail->end = fresh->end;
    tail->chain = fresh->chain;
}

static int publish(lw_wal *wal, const growth *g, bool closed, lw_error *error)
{
    int status = lw_reserve_run(wal);
    (void)pthread_mutex_lock(&wal->lock);
    if (status == LW_OK)
        status = lw_segment_reserve(wal->tail, g->fresh.index_count);
    if (status == LW_OK) {
        wal->stats.walked_bytes += g->fresh.end - wal->tail->end;
        if (g->fresh.end > wal->tail->end) /* what looked torn was a write under way */
            wal->stats.cut_bytes = wal->stats.cut_batches = 0;
        add_entries(wal, &g->fresh);
        wal->state = g->walk.state;
        lw_index_purge(&wal->index, wal->state.bounds.first);
        wal->durable = g->walk.watermark;
        if (closed)
            wal->proven.floor = wal->state.bounds.first - 1;
        wal->durable_index = wal->proven.index;
        wal->durable_floor = wal->proven.floor;
        lw_show_positions(wal);
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return status == LW_OK ? LW_OK : lw_fail_errno(error, ENOMEM, NULL, "refresh");
}

/* ---- the next segment ---- */

static bool same_bounds(const lw_bounds *a, const lw_bounds *b)
{
    return a->first == b->first && a->next == b->next && a->last_term == b->last_term &&
           a->has_boundary == b->has_boundary && a->boundary.index == b->boundary.index &&
           a->boundary.term == b->boundary.term;
}

static bool continues(const lw_wal *wal, const lw_page *header, const lw_page *footer, uint64_t size)
{
    const lw_segment *tail = wal->tail;
    return memcmp(header->identity.log_id, wal->log_id, LW_LOG_ID_SIZE) == 0 &&
           header->identity.number == tail->identity.number + 1 && header->predecessor == tail->identity.number &&
           header->predecessor_check == footer->check && header->size <= size &&
           same_bounds(&header->state.bounds, &wal->state.bounds) && footer->index_count == tail->index_count &&
           (tail->index_count == 0 || footer->index_first == tail->index_first);
}

/* Opens the segment behind the sealed tail. *out is NULL where it has no header yet. */
static int open_next(lw_wal *wal, const lw_page *footer, lw_page *header, lw_segment **out, lw_error *error)
{
    uint8_t bytes[LW_PAGE_SIZE];
    char name[LW_NAME_SIZE];
    lw_file *file;
    uint64_t size = 0;
    *out = NULL;
    lw_segment_name(wal->tail->identity.number + 1, LW_SEGMENT_SUFFIX, name);
    if (wal->fs->open(wal->fs, name, 0, &file) != 0)
        return LW_PENDING;
    int failed = wal->fs->size(wal->fs, file, &size);
    if (!failed)
        failed = wal->fs->read(wal->fs, file, 0, bytes, sizeof bytes);
    bool begun = !failed && lw_page_decode(header, LW_HEADER, bytes) == LW_VALID;
    if (!begun || !continues(wal, header, footer, size)) {
        wal->fs->close(wal->fs, file);
        return failed || begun ? LW_PENDING : LW_OK;
    }
    int status = lw_segment_map(wal->fs, file, name, header->size, false, out, error);
    if (status != LW_OK)
        return status == LW_NO_MEMORY ? status : LW_PENDING;
    lw_segment_close_file(*out);
    lw_segment_set_identity(*out, &header->identity);
    (*out)->header_check = header->check;
    return LW_OK;
}

/* The header of the next segment proves the tail whole, so from now on the tail is what its footer says. */
static void adopt_next(lw_wal *wal, const lw_page *footer, const lw_page *header, lw_segment *next)
{
    lw_segment *old = wal->tail;
    uint32_t *items = old->index_items;
    lw_durable_begin(&wal->proven, &header->state.bounds);
    wal->looked_to = 0;
    (void)pthread_mutex_lock(&wal->lock);
    old->sealed = true;
    old->index_items = NULL;
    old->footer_check = footer->check;
    old->index_first = footer->index_first;
    old->index_check = footer->index_check;
    old->lowest_override = footer->lowest_override;
    lw_segment_list_append(&wal->segments, next);
    wal->tail = next;
    if (lw_position_before(wal->durable, header->watermark))
        wal->durable = header->watermark;
    wal->durable_index = wal->proven.index;
    wal->durable_floor = wal->proven.floor;
    lw_show_positions(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    free(items);
}

static int move_on(lw_wal *wal, const lw_page *footer, bool *moved, lw_error *error)
{
    lw_page header;
    lw_segment *next;
    int status = open_next(wal, footer, &header, &next, error);
    *moved = status == LW_OK && next != NULL;
    if (status == LW_OK && next == NULL)
        wal->headerless = wal->tail->identity.number + 1;
    if (!*moved)
        return status;
    if (lw_reserve_segment(wal) != LW_OK) {
        lw_segment_unpin(next);
        return lw_fail_errno(error, ENOMEM, NULL, "refresh");
    }
    adopt_next(wal, footer, &header, next);
    return LW_OK;
}

/* ---- all of it ---- */

/* The last COMMIT, and the header of the frame behind it. */
enum { AROUND_END = LW_COMMIT_FRAME_SIZE + LW_FRAME_HEADER_SIZE };

/* What tells a segment file from a copy of it that somebody writes on. */
typedef struct marks {
    uint8_t around_end[AROUND_END];
    uint8_t footer[LW_PAGE_SIZE];
} marks;

typedef struct marks_look {
    const lw_segment *segment;
    marks mapped;
} marks_look;

static void marks_look_run(void *argument)
{
    marks_look *look = argument;
    const lw_segment *segment = look->segment;
    memcpy(look->mapped.around_end, segment->base + segment->end - LW_COMMIT_FRAME_SIZE, AROUND_END);
    memcpy(look->mapped.footer, segment->base + segment->size - LW_PAGE_SIZE, LW_PAGE_SIZE);
}

static int read_marks(const lw_wal *wal, lw_file *file, marks *named)
{
    const lw_segment *tail = wal->tail;
    int failed = wal->fs->read(wal->fs, file, tail->end - LW_COMMIT_FRAME_SIZE, named->around_end, AROUND_END);
    return failed ? failed : wal->fs->read(wal->fs, file, tail->size - LW_PAGE_SIZE, named->footer, LW_PAGE_SIZE);
}

/* A copy that was put in the place of the file has the same header, but it ends elsewhere, or is written on or sealed where the mapped
 * one is not. The mapping is read after `named`, since a writer may append between the two. */
static bool is_copy(const lw_wal *wal, const marks *named)
{
    static const uint8_t unsealed[LW_PAGE_SIZE];
    marks_look look = {.segment = wal->tail};
    if (lw_guarded(marks_look_run, &look) != 0)
        return true;
    size_t size = lw_may_be_frame(named->around_end + LW_COMMIT_FRAME_SIZE) ? AROUND_END : LW_COMMIT_FRAME_SIZE;
    return memcmp(named->around_end, look.mapped.around_end, size) != 0 ||
           (memcmp(named->footer, unsealed, LW_PAGE_SIZE) != 0 && memcmp(named->footer, look.mapped.footer, LW_PAGE_SIZE) != 0);
}

/* Whether the tail's name still stands for the file that is mapped. */
static bool tail_is_named(lw_wal *wal)
{
    uint8_t bytes[LW_PAGE_SIZE];
    marks named;
    char name[LW_NAME_SIZE];
    lw_file *file;
    uint64_t size = 0;
    lw_segment_name_of(wal->tail, name);
    if (wal->fs->open(wal->fs, name, 0, &file) != 0)
        return false;
    int failed = wal->fs->size(wal->fs, file, &size);
    if (!failed)
        failed = wal->fs->read(wal->fs, file, 0, bytes, sizeof bytes);
    if (!failed && size >= wal->tail->size)
        failed = read_marks(wal, file, &named);
    wal->fs->close(wal->fs, file);
    return !failed && size >= wal->tail->size && lw_page_check(bytes) == wal->tail->header_check && !is_copy(wal, &named);
}

/* Lets go of segments that hold nothing visible any more. */
static void drop_purged(lw_wal *wal)
{
    lw_segment *dropped;
    do {
        dropped = NULL;
        (void)pthread_mutex_lock(&wal->lock);
        const lw_segment *needed = wal->index.count > 0 ? lw_index_runs(&wal->index)->segment : wal->tail;
        for (int i = 0; i < DROP_STEP && lw_segment_list_items(&wal->segments)[0] != needed; i++) {
            lw_segment *oldest = lw_segment_list_take_oldest(&wal->segments);
            oldest->next_obsolete = dropped;
            dropped = oldest;
        }
        (void)pthread_mutex_unlock(&wal->lock);
        for (lw_segment *segment = dropped, *next; segment != NULL; segment = next) {
            next = segment->next_obsolete;
            lw_segment_unpin(segment);
        }
    } while (dropped != NULL);
}

int lw_follow(lw_wal *wal, bool *moved, lw_error *error)
{
    bool rotated;
    bool any_rotated = false;
    *moved = false;
    wal->headerless = 0;
    do {
        growth g;
        lw_page footer;
        bool closed = false;
        rotated = false;
        int status = grow(wal, &g, &footer, &closed, error);
        if (status == LW_OK) {
            *moved = *moved || g.fresh.end > wal->tail->end;
            status = publish(wal, &g, closed, error);
        }
        free(g.fresh.index_items);
        if (status == LW_OK && footer.end > 0)
            status = move_on(wal, &footer, &rotated, error);
        if (status != LW_OK)
            return status;
        any_rotated = any_rotated || rotated;
    } while (rotated);
    *moved = *moved || any_rotated;
    drop_purged(wal);
    return any_rotated || tail_is_named(wal) ? LW_OK : LW_PENDING;
}
