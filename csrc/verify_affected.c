#include "verify.h"

#include <stdio.h>

#include "error.h"

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- which entries the log reads from the segment ---- */

void lw_verify_note_tail(lw_verify *v)
{
    const lw_pages *p = &v->here;
    if (v->is_closed) {
        v->state = p->mark.state;
    } else if (v->is_whole) {
        v->state = v->replay.walk.state;
    } else {
        v->state.bounds = v->scan.bounds;
        if (!v->reads_frames && p->has_header)
            v->state = p->header.state;
    }
    v->end = (lw_position){p->number, v->is_closed ? p->mark.end : v->segment != NULL ? v->segment->end : LW_FRAMES_OFFSET};
    v->first = v->state.bounds.first;
    v->lowest = v->limit = v->state.bounds.next;
    v->lowest_is_lost = false;
    v->progress.first_index = v->first;
    v->progress.next_index = v->state.bounds.next;
    v->progress.entries = 0;
}

static bool place(lw_verify *v, lw_placed *at)
{
    const lw_pages *p = &v->here;
    *at = (lw_placed){.lowest_override = LW_NO_OVERRIDE};
    if (v->is_tail ? v->is_closed : p->has_footer) {
        at->page = v->is_tail ? &p->mark : &p->footer;
        at->first = at->page->index_first;
        at->next = at->first + at->page->index_count;
        at->lowest_override = at->page->lowest_override;
        return true;
    }
    if (v->is_whole) {
        at->first = v->segment->index_first;
        at->next = at->first + v->segment->index_count;
        at->lowest_override = v->segment->lowest_override;
        return true;
    }
    if (!v->reads_frames || v->scan.lowest == UINT64_MAX)
        return false;
    at->first = at->lowest_override = v->scan.lowest;
    at->next = v->is_tail ? v->limit : max64(v->scan.bounds.next, at->first);
    return true;
}

int lw_verify_first_behind(lw_verify *v, uint64_t number, uint64_t *first)
{
    lw_page footer;
    bool has;
    int status = lw_pages_footer(v, number, &footer, &has);
    if (has && footer.state.bounds.next > *first && footer.state.bounds.next < v->lowest)
        *first = footer.state.bounds.next;
    return status;
}

/* The first entry that is lost with a segment, where no footer or close mark and no frame says it. */
static uint64_t first_lost(lw_verify *v)
{
    uint64_t first = v->first;
    if (v->here.has_header)
        return max64(first, min64(v->here.header.state.bounds.next, v->lowest));
    lw_error *error = v->error;
    lw_error ignored;
    v->error = &ignored;
    (void)lw_verify_first_behind(v, v->here.number - 1, &first);
    v->error = error;
    return first;
}

int lw_verify_place(lw_verify *v, lw_placed *at)
{
    if (!place(v, at)) {
        at->visible_first = first_lost(v);
        at->visible_next = max64(v->lowest, at->visible_first);
        v->lowest_is_lost = true;
        return LW_OK;
    }
    uint64_t next = min64(at->next, v->limit);
    bool any = at->first < next && next > v->first;
    at->visible_next = any ? next : v->lowest;
    at->visible_first = any ? max64(v->first, at->first) : v->lowest;
    bool gap = any && next < v->lowest && !v->lowest_is_lost;
    if (gap) {
        lw_damage *damage = lw_verify_add(v, LW_FOUND_CHAIN, v->here.number, 0, true,
                                          "entries that the log counts are in no segment");
        if (damage == NULL)
            return lw_verify_no_memory(v);
        lw_damage_range(damage, next, v->lowest - 1);
    }
    if (any) {
        v->lowest = at->visible_first;
        v->limit = min64(v->limit, at->first);
        v->lowest_is_lost = false;
        v->progress.entries += at->visible_next - at->visible_first;
    }
    v->limit = min64(v->limit, at->lowest_override);
    return LW_OK;
}

/* ---- which entries depend on damage among the frames ---- */

typedef struct dependents {
    const lw_verify *v;
    const lw_placed *at;
    lw_damage *damage;
    uint64_t first; /* out: the entries whose frames the damage touches */
    uint64_t next;
} dependents;

static uint64_t item_at_or_after(const lw_segment *segment, const lw_page *page, uint64_t offset)
{
    const uint8_t *items = segment->base + lw_index_offset(segment->size, page->index_count);
    uint64_t low = 0;
    uint64_t high = page->index_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if ((uint64_t)lw_index_item_load(items, middle) * 8 < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void dependents_run(void *argument)
{
    dependents *d = argument;
    const lw_finding *finding = &d->damage->finding;
    const lw_page *page = d->at->page;
    d->first = page->index_first + item_at_or_after(d->v->segment, page, finding->offset);
    d->next = page->index_first + item_at_or_after(d->v->segment, page, finding->offset + d->damage->size);
}

static void resolve_by_neighbours(lw_verify *v, const lw_placed *at, lw_damage *damage)
{
    lw_finding *finding = &damage->finding;
    bool is_visible = finding->has_index && finding->first_index >= at->visible_first && finding->first_index < at->visible_next;
    if (damage->type == 0 && damage->before != 0)
        lw_damage_range(damage, damage->before + 1, damage->after != 0 ? damage->after - 1 : UINT64_MAX);
    finding->needed = v->is_tail || damage->type == 0 || (damage->type == LW_ENTRY_FRAME && is_visible);
}

static void resolve(lw_verify *v, const lw_placed *at, lw_damage *damage)
{
    lw_finding *finding = &damage->finding;
    if (!damage->is_frame)
        return;
    if (at->page == NULL || !at->index_is_sound) {
        resolve_by_neighbours(v, at, damage);
        return;
    }
    dependents d = {.v = v, .at = at, .damage = damage};
    if (lw_guarded(dependents_run, &d)) {
        resolve_by_neighbours(v, at, damage);
        return;
    }
    d.first = max64(d.first, at->visible_first);
    d.next = min64(d.next, at->visible_next);
    finding->needed = v->is_tail || d.first < d.next;
    if (d.first < d.next)
        lw_damage_range(damage, d.first, d.next - 1);
    else if (v->is_tail && damage->type == LW_ENTRY_FRAME) /* the entry was replaced, but recovery reads its frame */
        finding->has_index = 0;
}

/* No page says where an unclosed tail ends. Damage that no watermark covers cannot be told from a torn batch. */
static bool is_torn_end(const lw_verify *v, const lw_damage *damage, bool is_first)
{
    if (!damage->is_frame || v->replay.until != 0 || v->is_whole)
        return false;
    lw_position here = {v->here.number, damage->finding.offset};
    bool reaches_limit = damage->finding.offset + damage->size >= v->here.size - LW_PAGE_SIZE;
    if (v->is_tail)
        return !is_first && !lw_position_before(here, v->scan.watermark);
    return reaches_limit && damage->type == 0;
}

static void say_what_depends(const lw_verify *v, lw_damage *damage)
{
    lw_finding *finding = &damage->finding;
    size_t size = strlen(finding->detail);
    const char *depends = !finding->needed                                         ? "; nothing depends on it any more"
                          : !v->is_tail || (v->is_closed && finding->has_index)    ? ""
                          : v->is_closed ? "; the log opens, but not after its next unclean stop"
                                         : "; recovery does not get past it, so the log does not open";
    if (damage->is_frame)
        (void)snprintf(finding->detail + size, sizeof finding->detail - size, "%s", depends);
}

static bool joins(const lw_damage *a, const lw_damage *b)
{
    const lw_finding *left = &a->finding;
    const lw_finding *right = &b->finding;
    return a->is_frame && b->is_frame && left->kind == LW_FOUND_FRAME && right->kind == left->kind &&
           left->offset + a->size == right->offset && left->needed == right->needed && left->has_index && right->has_index &&
           left->last_index + 1 == right->first_index;
}

static void join(lw_damage *first, const lw_damage *next)
{
    first->finding.last_index = next->finding.last_index;
    first->size += next->size;
    (void)snprintf(first->finding.detail, sizeof first->finding.detail, "entries are damaged");
}

void lw_verify_affected(lw_verify *v, const lw_placed *at)
{
    size_t kept = 0;
    bool is_first = true;
    for (size_t i = 0; i < v->damage_count; i++) {
        lw_damage damage = v->damage[i];
        if (is_torn_end(v, &damage, is_first))
            continue;
        is_first = is_first && !damage.is_frame;
        resolve(v, at, &damage);
        if (kept > 0 && joins(&v->damage[kept - 1], &damage))
            join(&v->damage[kept - 1], &damage);
        else
            v->damage[kept++] = damage;
    }
    v->damage_count = kept;
    for (size_t i = 0; i < kept; i++)
        say_what_depends(v, &v->damage[i]);
}

/* True for damage outside the frames that every entry of the segment depends on. */
static bool takes_all(const lw_verify *v, const lw_damage *damage)
{
    const lw_finding *finding = &damage->finding;
    if (!finding->needed || finding->has_index || damage->is_frame || finding->segment != v->here.number)
        return false;
    return finding->kind == LW_FOUND_HEADER || finding->kind == LW_FOUND_FOOTER || finding->kind == LW_FOUND_OFFSET_INDEX ||
           finding->kind == LW_FOUND_CHAIN || finding->kind == LW_FOUND_SHORT_FILE || finding->kind == LW_FOUND_FOREIGN_FILE ||
           finding->kind == LW_FOUND_UNREADABLE;
}

static uint64_t lost_with(const lw_finding *finding, const lw_placed *at)
{
    if (!finding->needed || !finding->has_index || at->visible_first >= at->visible_next)
        return 0;
    uint64_t first = max64(finding->first_index, at->visible_first);
    uint64_t last = min64(finding->last_index, at->visible_next - 1);
    return first <= last ? last - first + 1 : 0;
}

uint64_t lw_verify_lost_before(const lw_verify *v, uint64_t number, const lw_placed *at)
{
    uint64_t lost = 0;
    for (size_t i = 0; i < v->all_told_count; i++)
        if (v->all_told[i].finding.segment == number)
            lost += lost_with(&v->all_told[i].finding, at);
    return min64(lost, at->visible_next - at->visible_first);
}

void lw_verify_count_entries(lw_verify *v, const lw_placed *at)
{
    uint64_t lost = 0;
    uint64_t visible = at->visible_next - at->visible_first;
    for (size_t i = 0; i < v->damage_count; i++) {
        lw_finding *finding = &v->damage[i].finding;
        if (takes_all(v, &v->damage[i]) && v->is_tail && !v->reads_frames)
            lw_damage_range(&v->damage[i], v->state.bounds.next, UINT64_MAX); /* behind what the header counts */
        else if (takes_all(v, &v->damage[i]) && visible > 0)
            lw_damage_range(&v->damage[i], at->visible_first, at->visible_next - 1);
        lost += lost_with(finding, at);
    }
    v->progress.entries -= min64(min64(lost, visible), v->progress.entries);
}
