/*
 * What a log itself proves to be durable: the highest index whose entry, and all before it, lie below the highest watermark and
 * were not cut since. It is kept batch by batch as the tail is replayed, so that a reader that goes on where it stopped need not
 * look at older frames again.
 */
#ifndef LW_DURABLE_H
#define LW_DURABLE_H

#include "format.h"

typedef struct lw_durable_mark {
    uint64_t offset;
    uint64_t index;
} lw_durable_mark;

typedef struct lw_durable {
    uint64_t index;
    uint64_t floor;     /* first - 1, as far as that is proven: a reset, or a cut of all entries, takes it to 0 */
    uint64_t watermark; /* an offset in the tail: all before it is durable */
    /* What `index` becomes when the watermark reaches an offset; both ascend. Of batches above the watermark only. */
    lw_durable_mark *marks;
    size_t start;
    size_t count;
    size_t capacity;
} lw_durable;

/* A new tail, of whose header all is durable. The watermark is at its start. */
void lw_durable_begin(lw_durable *, const lw_bounds *);
/* Room for what one batch adds. A status. */
int lw_durable_reserve(lw_durable *);
/* A batch that ends at `end`: of what was there before, it leaves the indices up to `kept`; then the last index is `last`. */
void lw_durable_add(lw_durable *, uint64_t end, uint64_t kept, uint64_t last);
void lw_durable_raise(lw_durable *, uint64_t watermark);
void lw_durable_free(lw_durable *);

#endif
