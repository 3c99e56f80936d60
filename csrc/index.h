/*
 * From an index to its place: runs of entries, ascending and without a gap, each within one segment. What a truncate or
 * replace in a younger segment overrode is cut from the runs, so each run is what is visible of its segment.
 *
 * The log changes it under both of its locks, so either is enough to read it; no function takes longer with more runs than a
 * binary search does, but for lw_index_reserve, which copies them outside of `lock`.
 */
#ifndef LW_INDEX_H
#define LW_INDEX_H

#include "segment.h"

typedef struct lw_run {
    lw_segment *segment; /* not pinned: the log holds it */
    uint64_t first;
    uint64_t next;
} lw_run;

typedef struct lw_index {
    lw_run *memory;
    size_t start; /* in `memory`, of the first run */
    size_t count;
    size_t capacity;
} lw_index;

extern lw_run lw_no_runs[1]; /* C adds nothing to NULL, not even 0 */

static inline lw_run *lw_index_runs(const lw_index *index)
{
    return index->memory == NULL ? lw_no_runs : index->memory + index->start;
}

static inline bool lw_index_has_room(const lw_index *index)
{
    return index->start + index->count < index->capacity;
}

/* A copy of the index with room for one run more, so that append cannot fail. The copy's owner puts it in the place of the
 * index, and frees the old one's memory. */
int lw_index_grown(const lw_index *, lw_index *grown);
/* Makes room in place; for who shares the index with nobody. */
int lw_index_reserve(lw_index *);
void lw_index_append(lw_index *, lw_segment *, uint64_t first, uint64_t next);
/* Drops `from` and all after it. */
void lw_index_truncate(lw_index *, uint64_t from);
/* Drops all before `first`. */
void lw_index_purge(lw_index *, uint64_t first);
/* The run that holds `index`, or NULL. */
const lw_run *lw_index_find(const lw_index *, uint64_t index);
/* The first run of a segment with this number or a higher one; the end of the runs where there is none. */
const lw_run *lw_index_of_segment(const lw_index *, uint64_t number);
void lw_index_free(lw_index *);

#endif
