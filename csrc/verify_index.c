#include "verify.h"

#include <errno.h>

#include "crc32c.h"
#include "error.h"

typedef struct index_look {
    const lw_segment *segment;
    const lw_page *page;
    bool compare;       /* with the places at which the replay found the entries */
    uint64_t purged_to; /* entries below may be in the offset index or not */
    uint32_t check;
    uint64_t different; /* the first item that differs; 2^64-1: none */
    bool any_flipped;   /* an item differs in one byte, and its neighbours do not */
    bool any_zero;      /* an item that differs is zero */
} index_look;

/* The bits in which an item differs from what the replay found. */
static uint32_t difference(const index_look *look, const uint8_t *items, uint64_t i)
{
    const lw_segment *segment = look->segment;
    uint64_t index = look->page->index_first + i;
    if (index >= segment->index_first && index - segment->index_first < segment->index_count)
        return segment->index_items[index - segment->index_first] ^ lw_index_item_load(items, i);
    return index >= look->purged_to ? UINT32_MAX : 0;
}

static bool is_in_one_byte(uint32_t bits)
{
    for (unsigned shift = 0; shift < 32; shift += 8)
        if ((bits & ~(UINT32_C(0xff) << shift)) == 0)
            return bits != 0;
    return false;
}

static void index_look_run(void *argument)
{
    index_look *look = argument;
    uint64_t count = look->page->index_count;
    const uint8_t *items = look->segment->base + lw_index_offset(look->segment->size, count);
    look->check = lw_crc32c(0, items, (size_t)(count * LW_INDEX_ITEM_SIZE));
    look->different = UINT64_MAX;
    uint32_t before = 0;
    uint32_t here = look->compare && count > 0 ? difference(look, items, 0) : 0;
    for (uint64_t i = 0; look->compare && i < count; i++) {
        uint32_t after = i + 1 < count ? difference(look, items, i + 1) : 0;
        if (here != 0 && look->different == UINT64_MAX)
            look->different = i;
        look->any_zero = look->any_zero || (here != 0 && lw_index_item_load(items, i) == 0);
        look->any_flipped = look->any_flipped || (before == 0 && after == 0 && is_in_one_byte(here));
        before = here;
        here = after;
    }
}

/* True where every entry that the frames hold, and that is not purged, is in the offset index. */
static bool is_complete(const lw_verify *v, const lw_page *page)
{
    const lw_segment *segment = v->segment;
    uint64_t purged_to = v->replay.walk.state.bounds.first;
    uint64_t first = segment->index_first > purged_to ? segment->index_first : purged_to;
    uint64_t next = segment->index_first + segment->index_count;
    return segment->index_count == 0 || first >= next ||
           (page->index_count > 0 && page->index_first <= first && page->index_first + page->index_count == next);
}

/* A writer that opens a closed log may write as far as the offset index, and store a longer one there, before its first sync. If a
 * power cut then loses its first batch, which zeroes the close mark, the mark describes an offset index that is overwritten in
 * part. That is no damage, and recovery does without. Damage changes one byte of an item, or leaves zeros. */
static bool is_overwritten(const lw_verify *v, const index_look *look)
{
    return v->is_tail && v->is_whole && !look->any_flipped && !look->any_zero;
}

int lw_verify_index(lw_verify *v, lw_placed *at)
{
    const lw_page *page = at->page;
    if (page == NULL || v->segment == NULL || !v->reads_frames)
        return LW_OK;
    index_look look = {.segment = v->segment, .page = page, .compare = v->is_whole,
                       .purged_to = v->replay.walk.state.bounds.first};
    uint64_t offset = lw_index_offset(v->segment->size, page->index_count);
    if (lw_guarded(index_look_run, &look))
        return lw_verify_add_unreadable(v, v->here.number, offset, EIO);
    if (look.different != UINT64_MAX)
        offset += look.different * LW_INDEX_ITEM_SIZE;
    bool same = look.different == UINT64_MAX && (!v->is_whole || is_complete(v, page));
    at->index_is_sound = look.check == page->index_check;
    if ((at->index_is_sound && same) || (!at->index_is_sound && is_overwritten(v, &look)))
        return LW_OK;
    bool is_needed = !v->is_tail || at->index_is_sound; /* recovery rebuilds that of a closed tail from the frames */
    const char *what = at->index_is_sound ? "the offset index does not name the places of the entries"
                       : is_needed        ? "the offset index is damaged"
                                          : "the offset index is damaged; recovery rebuilds it from the frames";
    lw_damage *damage = lw_verify_add(v, LW_FOUND_OFFSET_INDEX, v->here.number, offset, is_needed, what);
    return damage == NULL ? lw_verify_no_memory(v) : LW_OK;
}
