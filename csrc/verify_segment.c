#include "verify.h"

#include <stdlib.h>

#include "error.h"

/* ---- beginning ---- */

/* The state before the first frame is in the footer of the segment before, too. */
static int start_from_footer(lw_verify *v, lw_state *state)
{
    lw_page footer;
    bool has;
    int status = lw_pages_footer(v, v->here.number - 1, &footer, &has);
    v->knows_start = has || v->here.number == 1; /* blank */
    if (has)
        *state = footer.state;
    return status;
}

typedef struct mark_look {
    const lw_segment *segment;
    const lw_page *mark;
    bool goes_on;
} mark_look;

static void mark_look_run(void *argument)
{
    mark_look *look = argument;
    const lw_segment *segment = look->segment;
    lw_frame frame;
    uint64_t end = look->mark->end;
    look->goes_on = lw_frame_decode(&frame, segment->seed, segment->base + end, segment->size - LW_PAGE_SIZE - end) &&
                    frame.previous == look->mark->chain;
}

/* Where the frames must end; 0: not known. */
static uint64_t expected_end(lw_verify *v)
{
    const lw_pages *p = &v->here;
    uint64_t area_end = p->size - LW_PAGE_SIZE;
    if (v->is_tail) {
        mark_look look = {.segment = v->segment, .mark = &p->mark};
        bool may_be_closed = p->has_mark && p->mark.size == p->size && !p->has_footer;
        v->is_closed = may_be_closed && lw_guarded(mark_look_run, &look) == 0 && !look.goes_on;
        return v->is_closed ? p->mark.end : 0;
    }
    if (p->has_footer)
        return p->footer.end;
    lw_position known = v->has_after && v->after.has_header ? v->after.header.watermark : (lw_position){0, 0};
    bool fits = known.segment == p->number && known.offset >= LW_FRAMES_OFFSET && known.offset <= area_end && known.offset % 8 == 0;
    return fits ? known.offset : 0;
}

static void begin_frames(lw_verify *v, const lw_state *start)
{
    lw_segment *segment = v->segment;
    uint64_t until = expected_end(v);
    v->reads_frames = true;
    v->replay = (lw_replay){.until = until, .walk = {.segment = segment, .state = *start}};
    v->replay.wants_mark = v->is_tail && !v->here.has_mark && !v->here.mark_is_zero;
    if (v->here.has_header)
        v->replay.walk.watermark = v->here.header.watermark;
    v->scan = (lw_scan){.verify = v, .segment = segment, .at = LW_FRAMES_OFFSET, .until = until, .chain = segment->chain,
                        .chain_is_known = true, .lowest = UINT64_MAX, .bounds = start->bounds};
    v->phase = v->knows_start ? LW_VERIFY_REPLAY : LW_VERIFY_SCAN;
}

int lw_verify_segment_begin(lw_verify *v)
{
    lw_pages *p = &v->here;
    lw_state start;
    lw_state_clear(&start);
    v->damage_count = v->told = 0;
    v->counted = 0;
    v->segment = NULL;
    v->reads_frames = v->is_whole = v->is_closed = v->knows_start = false;
    v->phase = LW_VERIFY_SEGMENT;
    if (lw_pages_are_cut(p) || !p->has_identity || !lw_pages_have_room(p))
        return LW_OK;
    if (!v->is_tail || !p->has_mark || v->tail_is_last) /* else it may be a closed tail, to be read last */
        v->fs->will_read(v->fs, p->file, p->size);
    int status = lw_segment_map(v->fs, p->file, p->name, p->size, false, &v->segment, v->error);
    p->file = NULL; /* it belongs to the segment now */
    if (status != LW_OK)
        return status;
    lw_segment_close_file(v->segment);
    lw_segment_set_identity(v->segment, &p->identity);
    v->segment->header_check = p->header_check;
    if (p->has_header) {
        start = p->header.state;
        v->knows_start = true;
    } else {
        status = start_from_footer(v, &start);
    }
    if (status == LW_OK)
        begin_frames(v, &start);
    return status;
}

/* ---- the end ---- */

/* LW_NOT_FOUND where the file has changed since its pages were read. */
static int check_current(lw_verify *v)
{
    lw_pages *now = malloc(sizeof *now);
    if (now == NULL)
        return lw_verify_no_memory(v);
    int status = v->segment != NULL && lw_segment_was_recycled(v->segment) ? LW_NOT_FOUND
                                                                           : lw_pages_load(v, v->here.number, now);
    if (status == LW_OK) {
        if (now->header_check != v->here.header_check || memcmp(now->mark_bytes, v->here.mark_bytes, LW_PAGE_SIZE) != 0 ||
            now->has_header != v->here.has_header || now->has_footer != v->here.has_footer ||
            now->file_size != v->here.file_size) /* a successor that was made larger, say */
            status = LW_NOT_FOUND;
        lw_pages_close(v, now);
    }
    free(now);
    return status;
}

int lw_verify_segment_stop(lw_verify *v)
{
    lw_placed at;
    lw_verify_progress before = v->progress;
    v->is_whole = false;
    if (v->is_tail && !v->tail_is_last)
        lw_verify_note_tail(v);
    int status = lw_verify_place(v, &at);
    if (status == LW_OK)
        status = lw_verify_index(v, &at);
    if (status == LW_OK)
        lw_verify_affected(v, &at);
    v->progress = before; /* the segment is not verified */
    return status == LW_OK ? check_current(v) : status;
}

int lw_verify_segment_end(lw_verify *v)
{
    lw_placed at;
    if (v->is_tail && !v->tail_is_last)
        lw_verify_note_tail(v);
    int status = lw_verify_place(v, &at);
    if (status == LW_OK)
        status = lw_verify_pages(v);
    if (status == LW_OK)
        status = lw_verify_index(v, &at);
    if (status != LW_OK)
        return status;
    lw_verify_affected(v, &at);
    lw_verify_count_entries(v, &at);
    return v->damage_count > 0 ? check_current(v) : LW_OK;
}
