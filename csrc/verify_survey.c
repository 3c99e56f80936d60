#include "verify.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- what is noted ---- */

/* NULL: no memory. */
static lw_needed *note(lw_verify *v, uint64_t number)
{
    if (v->needed_count == v->needed_capacity) {
        size_t more = v->needed_capacity == 0 ? 16 : v->needed_capacity * 2;
        lw_needed *grown = realloc(v->needed, more * sizeof *grown);
        if (grown == NULL)
            return NULL;
        v->needed = grown;
        v->needed_capacity = more;
    }
    lw_needed *needed = &v->needed[v->needed_count++];
    *needed = (lw_needed){.number = number, .lowest = v->lowest, .limit = v->limit, .lowest_is_lost = v->lowest_is_lost};
    return needed;
}

/* What reading the present segment counts as progress, if it is not damaged. */
static void note_bytes(lw_verify *v, lw_needed *needed)
{
    const lw_pages *p = &v->here;
    if (v->is_tail)
        needed->bytes = p->mark.end + p->mark.index_count * LW_INDEX_ITEM_SIZE;
    else if (p->has_footer)
        needed->bytes = p->footer.end + p->footer.index_count * LW_INDEX_ITEM_SIZE + LW_PAGE_SIZE;
    else
        needed->bytes = p->size;
    v->bytes_left += needed->bytes;
}

int lw_verify_note_closed_tail(lw_verify *v)
{
    lw_placed ignored;
    lw_needed *needed = note(v, v->here.number);
    if (needed == NULL)
        return lw_verify_no_memory(v);
    note_bytes(v, needed);
    v->tail_is_last = true;
    int status = lw_verify_place(v, &ignored);
    v->progress.entries = 0;
    v->damage_count = 0;
    lw_verify_let_go(v);
    v->tail = v->here;
    return status;
}

/* ---- segments that are missing ---- */

/* False in the first pass: perhaps the segment was purged after the tail was read. Then the next pass reads the PURGE. */
static bool is_missing_indeed(lw_verify *v, uint64_t number)
{
    bool again = v->missing_number != 0 && number >= v->missing_number;
    if (!again)
        v->missing_number = number;
    return again;
}

/* Passes over the segments from `number` down to the next one that has a file, or to the first. */
static int pass_missing(lw_verify *v, uint64_t number, size_t below)
{
    if (!is_missing_indeed(v, number))
        return LW_NOT_FOUND;
    lw_needed *needed = note(v, number);
    if (needed == NULL)
        return lw_verify_no_memory(v);
    needed->missing_from = below > 0 ? v->numbers[below - 1] + 1 : 1;
    v->lowest_is_lost = true;
    v->here.number = needed->missing_from; /* the next step goes on before it */
    v->here.has_identity = false;
    return LW_OK;
}

int lw_verify_missing(lw_verify *v, const lw_needed *needed)
{
    char what[128];
    uint64_t first = v->first;
    uint64_t others = needed->number - needed->missing_from;
    (void)snprintf(what, sizeof what, others > 0 ? "this segment and %llu before it are missing" : "the segment is missing",
                   (unsigned long long)others);
    lw_damage *damage = lw_verify_add(v, LW_FOUND_MISSING_SEGMENT, needed->number, 0, true, what);
    if (damage == NULL)
        return lw_verify_no_memory(v);
    int status = lw_verify_first_behind(v, needed->missing_from - 1, &first);
    lw_damage_range(damage, first, v->lowest - 1);
    v->is_ready = true;
    return status;
}

/* ---- the survey ---- */

static int end_survey(lw_verify *v)
{
    v->phase = LW_VERIFY_OBSOLETE;
    if (v->lowest <= v->first || v->lowest_is_lost)
        return LW_OK;
    lw_damage *damage = lw_verify_add(v, LW_FOUND_CHAIN, v->here.number, 0, true, "entries that the log counts are in no segment");
    if (damage == NULL)
        return lw_verify_no_memory(v);
    lw_damage_range(damage, v->first, v->lowest - 1);
    v->is_ready = true;
    return LW_OK;
}

/* Notes which entries the present segment holds. Reading it counts them, and adds what is found, unless that is done already. */
int lw_verify_survey_end(lw_verify *v)
{
    lw_placed at;
    uint64_t entries = v->progress.entries;
    int status = lw_verify_place(v, &at);
    v->progress.entries = entries;
    if (status == LW_OK && lw_verify_is_done(v, v->here.number))
        v->progress.entries += at.visible_next - at.visible_first - lw_verify_lost_before(v, v->here.number, &at);
    v->damage_count = 0;
    v->is_surveyed = false;
    v->phase = LW_VERIFY_SURVEY;
    lw_verify_let_go(v);
    return status;
}

int lw_verify_survey(lw_verify *v)
{
    uint64_t number = v->here.number - 1;
    if (v->lowest <= v->first || number == 0)
        return end_survey(v);
    size_t below = v->number_count;
    while (below > 0 && v->numbers[below - 1] > number)
        below--;
    if (below == 0 || v->numbers[below - 1] != number)
        return pass_missing(v, number, below);
    v->is_tail = false;
    v->has_after = v->here.number == number + 1 && v->here.has_identity;
    v->after = v->here;
    int status = lw_pages_load(v, number, &v->here);
    if (status == LW_NOT_FOUND) { /* purged after the names were read, it seems: that is seen at the end of the pass */
        v->gone_next = v->lowest;
        v->phase = LW_VERIFY_OBSOLETE;
        return LW_OK;
    }
    lw_needed *needed = status == LW_OK ? note(v, number) : NULL;
    if (needed == NULL)
        return status == LW_OK ? lw_verify_no_memory(v) : status;
    if (!lw_verify_is_done(v, number))
        note_bytes(v, needed);
    v->is_surveyed = true;
    v->reads_frames = v->is_whole = v->is_closed = false;
    return v->here.has_footer ? lw_verify_survey_end(v) : lw_verify_segment_begin(v);
}
