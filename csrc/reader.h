/*
 * Reading entries back. A range is taken from one state of the log under the lock, with its segments pinned; the copying is
 * done without a lock, as bytes that were accepted never change until their segment is recycled, which a pin prevents.
 */
#ifndef LW_READER_H
#define LW_READER_H

#include "log.h"

enum { LW_INLINE_SPANS = 4, LW_INLINE_ITEMS = 64 };

typedef struct lw_span {
    lw_segment *segment; /* pinned */
    uint64_t first;
    uint64_t next;
    uint32_t *items; /* copy of the offset index; NULL: in the mapping */
} lw_span;

typedef struct lw_range {
    lw_wal *beside; /* a read-only handle: another process may recycle its segments. Else NULL */
    bool bounded; /* max_bytes holds for the first entry, too */
    size_t count;
    lw_span *spans;
    lw_span inline_spans[LW_INLINE_SPANS];
    uint32_t inline_items[LW_INLINE_ITEMS];
} lw_range;

/* Called once an entry, with its payload in the mapping: in lw_guarded, so whatever it makes must be reachable from
 * `argument`. A status other than LW_OK ends the visit. */
typedef int lw_entry_visitor(void *argument, const lw_frame *, const uint8_t *payload);

/* The entries first..last, clipped to what exists. Always close it. */
int lw_range_open(lw_wal *, uint64_t first, uint64_t last, lw_range *, lw_error *);
void lw_range_close(lw_range *);
/* Visits in order, each entry verified, until max_bytes of payload (UINT64_MAX: no limit), but at least one unless the range
 * was made `bounded`. */
int lw_range_visit(const lw_range *, uint64_t max_bytes, lw_entry_visitor *, void *argument, lw_error *);

/* One entry by the header of its frame, which has a check of its own: the payload is not touched, whatever its size. They
 * take `lock`. LW_NOT_FOUND where the log does not hold it. */
int lw_read_term(lw_wal *, uint64_t index, uint64_t *term, lw_error *); /* also of the boundary; 0 at index 0 */
int lw_read_place(lw_wal *, uint64_t index, lw_position *, lw_error *); /* where its frame begins */
int lw_read_size(lw_wal *, uint64_t index, uint64_t *size, lw_error *); /* of its payload, in bytes */

/* For holders of accept_lock: the term at `index`, where the log holds it or it is the boundary (else LW_NOT_FOUND). */
int lw_reader_term(lw_wal *, uint64_t index, uint64_t *term, lw_error *);

typedef enum lw_comparison { LW_SAME, LW_OTHER_TERM, LW_SAME_TERM_ONLY } lw_comparison;

/* For holders of accept_lock: an entry against the one that the log holds at its index. */
int lw_reader_compare(lw_wal *, const lw_entry *, lw_comparison *, lw_error *);

#endif
