/*
 * Who proves what: the parts of lw_recovery_judge. The newest valid header proves the segment before it, whole, by the check
 * of its footer; that one's header proves the one before; and so on. The newest segment itself is proven by nothing, so it
 * is read frame by frame, and what its frames end with is held against everything that was ever known to be durable: the
 * watermarks.
 *
 *     judge.c         the directory: which files there are, and which is the tail
 *     judge_tail.c    the tail, and the file that may stand behind it
 *     judge_sealed.c  the segments before it
 *     judge_files.c   one file at a time, for all of them
 *
 * Nothing here writes. Every function returns a status, and fills judge.error where it is not LW_OK, unless its line says
 * otherwise.
 */
#ifndef LW_JUDGE_H
#define LW_JUDGE_H

#include "recovery.h"

typedef struct lw_judge {
    lw_fs *fs;
    bool writable;
    const lw_segment_list *known; /* that a reader has mapped already, or NULL */
    lw_recovered *found;
    lw_error *error;
    uint64_t *numbers; /* of all segment files, ascending */
    size_t number_count;
    bool lock_damaged;
    bool successor_may_have_begun; /* the tail is sealed, or has lost its header: so the file behind it may have had one */
    lw_page header; /* of the segment that is looked at: the tail first, then the ones before it */
} lw_judge;

typedef struct lw_opened {
    uint64_t number;
    char name[LW_NAME_SIZE];
    lw_file *file;
    uint64_t size;
} lw_opened;

static inline uint64_t lw_min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t lw_max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* judge.c */

bool lw_judge_has(const lw_judge *, uint64_t number); /* whether there is a segment file of that number */

/* judge_files.c */

int lw_judge_open(lw_judge *, uint64_t number, bool writable, lw_opened *);
/* LW_OK also where the page is damaged: *decoded tells. */
int lw_judge_page(lw_judge *, const lw_opened *, uint64_t offset, lw_page_type, lw_page *, lw_decoded *decoded);
/* A page that verifies but is another file's is an error: nothing may be concluded from it. */
int lw_judge_identity(lw_judge *, const lw_opened *, const lw_page *);
bool lw_same_identity(const lw_identity *, const lw_identity *);
/* Takes over a sealed segment that is known with these pages, so that it is not mapped again. LW_NOT_FOUND where it is not. */
int lw_judge_reuse(lw_judge *, const lw_opened *, const lw_page *header, const lw_page *footer, lw_segment **);
/* Maps it and adds it to what was found. Takes the file over, also on failure. */
int lw_judge_map(lw_judge *, lw_opened *, const lw_page *header, bool writable, lw_segment **);
/* The lowest index that the frames of a segment with a valid header speak of, which may lie before those that it began
 * with. Best effort: for the range in an error that is reported anyway. */
uint64_t lw_judge_lowest(lw_judge *, const lw_page *header);
int lw_fail_short(lw_judge *, const lw_opened *, uint64_t size, uint64_t first, uint64_t last);
int lw_fail_newer(lw_judge *, const char *name);
int lw_fail_guarded(lw_judge *, const char *name);

/* judge_tail.c */

/* Reads the tail, whose header is judge.header, to its end. Takes the file over. */
int lw_judge_tail(lw_judge *, lw_opened *, lw_segment **);
/* Looks into a file whose header is not valid for anything that knew of a durable place behind `end`. */
int lw_judge_successor(lw_judge *, uint64_t number, lw_position end, uint64_t next);

/* judge_sealed.c */

/* Every index from first to next must map to a place: from the tail backwards until they all do. */
int lw_judge_sealed(lw_judge *, lw_segment *tail);

#endif
