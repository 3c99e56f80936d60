/*
 * Recovery: judge a directory, changing nothing; then act on the judgement. docs/format.md has the rules and their numbers.
 */
#ifndef LW_RECOVERY_H
#define LW_RECOVERY_H

#include "durable.h"
#include "index.h"
#include "segment_list.h"

typedef struct lw_recovered {
    uint8_t log_id[LW_LOG_ID_SIZE];
    bool lock_missing; /* the LOCK file has no id */
    bool is_new;       /* no header yet: segment 1 is to be made, or has no byte that counts */
    lw_state state;
    /* Oldest first; the last is the tail. All are mapped, the tail for writing in a writable open. */
    lw_segment_list segments;
    lw_index index;
    lw_position watermark;  /* the highest that was found */
    lw_durable durable;     /* what the log itself proves */
    bool closed_cleanly;    /* the tail's close mark describes its end */
    bool watermark_is_stored; /* nothing lies behind the watermark that a COMMIT in the tail stores, but that COMMIT */
    uint64_t cut_bytes;     /* torn: to be zeroed, from the tail's end */
    bool cut_holds_work;    /* frames that a caller's write was made of were recognised there */
    uint64_t cut_batches;
    uint64_t walked_bytes;
    uint64_t successor; /* number of a prepared successor, or 0 */
    bool successor_is_filled; /* all its blocks were written by lw_recovery_make */
    uint64_t *leftovers; /* numbers of segments that nothing needs, ascending */
    size_t leftover_count;
    uint64_t *spares;
    size_t spare_count;
    uint64_t removal_failures; /* leftovers that could not be removed */
    int removal_errno;         /* of the last of them */
    uint32_t names; /* a checksum of the numbers of all segment files */
    /* Judged for reading, and the tail is sound, but one of the segments before it is not, or is gone. What was found until then
     * is here all the same: a writer may just have purged what is missing. */
    bool is_partial;
} lw_recovered;

static inline lw_segment *lw_recovered_tail(const lw_recovered *found)
{
    return lw_segment_list_items(&found->segments)[found->segments.count - 1];
}

/* Reads only. Fills `recovered` also on failure: always free it. `known`: the segments that a reader has mapped already, which
 * are taken over where they are the same; or NULL. */
int lw_recovery_judge(lw_fs *, bool writable, const lw_segment_list *known, lw_recovered *, lw_error *);
/* Of a new log: segment 1, its name, and the log id in `lock_file`, each durable; then found->successor is 1. */
int lw_recovery_make(lw_fs *, lw_file *lock_file, uint64_t size, lw_recovered *, lw_error *);
/* Of any other: makes durable what judge found, and zeroes what a torn tail left. */
int lw_recovery_act(lw_fs *, lw_file *lock_file, lw_recovered *, lw_error *);
void lw_recovered_free(lw_recovered *);

#endif
