/*
 * Reading a segment's frames in order, batch by batch, from its header's state; and looking ahead behind the place where
 * they end. This is all of recovery that depends on bytes which a crash may have left in any form.
 */
#ifndef LW_WALK_H
#define LW_WALK_H

#include "durable.h"
#include "segment.h"

typedef struct lw_walk {
    lw_segment *segment; /* gets end, chain, offset index */
    lw_state state;      /* in: before the first frame; out: after the last whole batch */
    lw_position watermark; /* the highest seen so far; the caller starts it with the header's and the close mark's */
    lw_position last_stored; /* out: the watermark of the last COMMIT; 0, 0: there is none */
    uint64_t work_end; /* out: behind the last batch that is more than a COMMIT alone; 0: there is none */
    lw_durable *durable;   /* goes along with it; NULL: not asked for */
    uint64_t reached;      /* out: behind the last frame whose header is valid, perhaps in a batch that is not whole */
    bool out_of_memory;
} lw_walk;

typedef struct lw_look_ahead {
    const lw_segment *segment; /* identity, base and size are used; where the nonce is unknown, has_seed is false */
    bool has_seed;
    uint64_t from;
    uint64_t to;     /* 0: the end of the frames' area */
    lw_position end; /* of the last whole batch in the log */
    /* out */
    bool contradicted; /* a COMMIT that stands alone knew of something durable behind `end` */
    uint64_t contradiction_offset;
    uint64_t known_next; /* the highest next index that such a COMMIT knew */
    uint64_t frames_end; /* behind the last frame or COMMIT recognised; `from` if there is none */
    uint64_t commits;
    bool holds_work; /* something recognised there is more than a COMMIT alone, which no caller waits for */
    uint64_t lowest_index; /* that an ENTRY or TRUNCATE frame recognised has; 2^64-1: none has */
} lw_look_ahead;

/* Reads one batch from the segment's end on; false where it is not whole, and then nothing has changed. Touches the mapping. */
bool lw_walk_batch(lw_walk *);
/* Both touch the mapping: they are bodies for lw_guarded. */
void lw_walk_run(void *walk);
void lw_look_ahead_run(void *look_ahead);

/* Whether the last frame before segment->end is the COMMIT that was read there. Touches the mapping, inside lw_guarded. */
bool lw_walk_end_holds(const lw_segment *);

#endif
