/*
 * The segments of a log, oldest first. Appending and taking the oldest cost the same however many there are; growing is done in
 * two steps, so that the copying needs no lock.
 */
#ifndef LW_SEGMENT_LIST_H
#define LW_SEGMENT_LIST_H

#include "segment.h"

typedef struct lw_segment_list {
    lw_segment **memory;
    size_t start; /* in `memory`, of the oldest */
    size_t count;
    size_t capacity;
} lw_segment_list;

extern lw_segment *lw_no_segments[1]; /* C adds nothing to NULL, not even 0 */

static inline lw_segment **lw_segment_list_items(const lw_segment_list *list)
{
    return list->memory == NULL ? lw_no_segments : list->memory + list->start;
}

static inline bool lw_segment_list_has_room(const lw_segment_list *list)
{
    return list->start + list->count < list->capacity;
}

/* A copy with room for one more. */
int lw_segment_list_grown(const lw_segment_list *, lw_segment_list *grown);
/* Puts the copy of `before` in the place of the list, from which the oldest may have been taken since. Returns the memory to
 * free. */
lw_segment **lw_segment_list_replace(lw_segment_list *, const lw_segment_list *before, const lw_segment_list *grown);
/* Makes room in place; for who shares the list with nobody. */
int lw_segment_list_reserve(lw_segment_list *);
void lw_segment_list_append(lw_segment_list *, lw_segment *);
lw_segment *lw_segment_list_take_oldest(lw_segment_list *);
/* The place of the first segment whose number is above `number`. */
size_t lw_segment_list_after(const lw_segment_list *, uint64_t number);
/* Unpins all, and frees the list. */
void lw_segment_list_release(lw_segment_list *);

#endif
