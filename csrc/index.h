/*
 * From an index to its place: runs of entries, ascending and without a gap, each within one segment. What a truncate or
 * replace in a younger segment overrode is cut from the runs, so each run is what is visible of its segment.
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
    lw_run *runs;
    size_t count;
    size_t capacity;
} lw_index;

/* Makes room for one run more, so that append cannot fail. */
int lw_index_reserve(lw_index *);
void lw_index_append(lw_index *, lw_segment *, uint64_t first, uint64_t next);
/* Drops `from` and all after it; a segment that loses its last entry is marked dead by `ticket`. */
void lw_index_truncate(lw_index *, uint64_t from, uint64_t ticket);
/* Drops all before `first`. */
void lw_index_purge(lw_index *, uint64_t first, uint64_t ticket);
/* The run that holds `index`, or NULL. */
const lw_run *lw_index_find(const lw_index *, uint64_t index);
void lw_index_free(lw_index *);

#endif
