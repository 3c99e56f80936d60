/*
 * The only file that knows byte offsets: docs/format.md in C. Nothing here allocates, blocks or touches a file.
 */
#ifndef LW_FORMAT_H
#define LW_FORMAT_H

#include <stdbool.h>
#include <string.h>

#include "logwal.h"

enum {
    LW_PAGE_SIZE = 4096,
    LW_MARK_OFFSET = 4096,
    LW_FRAMES_OFFSET = 8192,
    LW_FRAME_HEADER_SIZE = 40,
    LW_COMMIT_PAYLOAD_SIZE = 40,
    LW_COMMIT_FRAME_SIZE = LW_FRAME_HEADER_SIZE + LW_COMMIT_PAYLOAD_SIZE,
    LW_EPOCH_PAYLOAD_SIZE = 16,
    LW_EPOCH_FRAME_SIZE = LW_FRAME_HEADER_SIZE + LW_EPOCH_PAYLOAD_SIZE,
    LW_HARD_STATE_MAX_SIZE = 2 + LW_MAX_VOTE + LW_MAX_EXTRA,
    LW_INDEX_ITEM_SIZE = 4,
    LW_LOCK_SIZE = 32,
    LW_LOG_ID_SIZE = 16,
    LW_NAME_SIZE = 24, /* of a file's name, with its closing zero */
};

#ifndef LW_MIN_SEGMENT_SIZE /* the crash tests have smaller ones, so that they roll more often */
#define LW_MIN_SEGMENT_SIZE 65536
#endif
#define LW_MAX_SEGMENT_SIZE ((uint64_t)1 << 35) /* an offset index item counts 8 bytes */
#define LW_MAX_INDEX (UINT64_MAX - 1)
#define LW_NO_OVERRIDE UINT64_MAX

#define LW_COMMIT_MAGIC "LWCM"
#define LW_LOCK_NAME "LOCK"
#define LW_SEGMENT_SUFFIX ".wal"
#define LW_SPARE_SUFFIX ".spare"

/* Which entries there are. */
typedef struct lw_bounds {
    uint64_t first;
    uint64_t next; /* first = next: no entries */
    uint64_t last_term; /* of the entry next - 1, else of the boundary, else 0 */
    lw_log_id boundary;
    bool has_boundary;
} lw_bounds;

/* What the records up to some place amount to. */
typedef struct lw_state {
    lw_bounds bounds;
    bool has_hard_state;
    lw_hard_state hard_state;
} lw_state;

typedef struct lw_identity {
    uint8_t log_id[LW_LOG_ID_SIZE];
    uint64_t number;
    uint64_t nonce;
} lw_identity;

typedef enum lw_page_type { LW_HEADER, LW_FOOTER, LW_CLOSE_MARK } lw_page_type;

typedef struct lw_page {
    lw_page_type type;
    lw_identity identity;
    uint64_t size;
    lw_position watermark;
    lw_state state;
    uint32_t check; /* set by decoding and encoding */
    /* header */
    uint64_t predecessor;
    uint32_t predecessor_check;
    /* footer and close mark */
    uint64_t end;
    uint32_t chain;
    uint64_t index_first;
    uint64_t index_count;
    uint64_t lowest_override;
    uint32_t index_check;
} lw_page;

typedef enum lw_frame_type {
    LW_ENTRY_FRAME = 1,
    LW_TRUNCATE_FRAME,
    LW_PURGE_FRAME,
    LW_RESET_FRAME,
    LW_HARD_STATE_FRAME,
    LW_EPOCH_FRAME,
    LW_COMMIT_FRAME,
} lw_frame_type;

typedef struct lw_frame {
    uint32_t check;
    uint32_t previous;
    uint32_t size; /* of the payload */
    uint32_t payload_check;
    lw_frame_type type;
    uint8_t kind;
    uint64_t index;
    uint64_t term;
} lw_frame;

typedef struct lw_commit {
    uint64_t start;
    uint64_t next;
    lw_position watermark;
} lw_commit;

typedef enum lw_decoded { LW_VALID, LW_DAMAGED, LW_NEWER_VERSION } lw_decoded;

static inline uint64_t lw_align8(uint64_t size)
{
    return (size + 7) & ~(uint64_t)7;
}

static inline uint64_t lw_frame_size(uint64_t payload_size)
{
    return LW_FRAME_HEADER_SIZE + lw_align8(payload_size);
}

static inline bool lw_position_before(lw_position a, lw_position b)
{
    return a.segment != b.segment ? a.segment < b.segment : a.offset < b.offset;
}

void lw_page_encode(lw_page *, uint8_t bytes[LW_PAGE_SIZE]);
lw_decoded lw_page_decode(lw_page *, lw_page_type, const uint8_t bytes[LW_PAGE_SIZE]);

/* The check that stands in a page, verified or not. */
uint32_t lw_page_check(const uint8_t bytes[LW_PAGE_SIZE]);

void lw_lock_encode(const uint8_t log_id[LW_LOG_ID_SIZE], uint8_t bytes[LW_LOCK_SIZE]);
lw_decoded lw_lock_decode(uint8_t log_id[LW_LOG_ID_SIZE], const uint8_t bytes[LW_LOCK_SIZE]);

/* What a segment's frame checks continue from. */
uint32_t lw_seed(const lw_identity *);

/* Cheap tests, which hold wherever a frame begins, or the payload of a COMMIT: behind a torn tail millions of offsets are tried. */
static inline bool lw_may_be_frame(const uint8_t bytes[LW_FRAME_HEADER_SIZE])
{
    static const uint8_t zeros[6];
    return bytes[16] >= LW_ENTRY_FRAME && bytes[16] <= LW_COMMIT_FRAME && memcmp(bytes + 18, zeros, sizeof zeros) == 0;
}

static inline bool lw_may_be_commit(const uint8_t payload[LW_COMMIT_PAYLOAD_SIZE])
{
    return memcmp(payload + 36, LW_COMMIT_MAGIC, 4) == 0;
}

/* Fills frame->check. */
void lw_frame_encode(lw_frame *, uint32_t seed, uint8_t bytes[LW_FRAME_HEADER_SIZE]);
/* True if the header's own check verifies and its type, zeros and size keep the format. Says nothing of the payload, nor
 * of the chain. `room` is what is left of the frames' area, the header included. */
bool lw_frame_decode(lw_frame *, uint32_t seed, const uint8_t *bytes, uint64_t room);

/* `offset` is that of the COMMIT's frame. */
void lw_commit_encode(const lw_commit *, const lw_identity *, uint64_t offset, uint8_t bytes[LW_COMMIT_PAYLOAD_SIZE]);
/* True if it stands alone. */
bool lw_commit_decode(lw_commit *, const lw_identity *, uint64_t offset, const uint8_t bytes[LW_COMMIT_PAYLOAD_SIZE]);

/* Returns the size. */
uint32_t lw_hard_state_encode(const lw_hard_state *, uint8_t bytes[LW_HARD_STATE_MAX_SIZE]);
bool lw_hard_state_decode(lw_hard_state *, const lw_frame *, const uint8_t *payload);

uint32_t lw_index_item_load(const uint8_t *items, uint64_t i);
void lw_index_item_save(uint8_t *items, uint64_t i, uint32_t value);

void lw_segment_name(uint64_t number, const char *suffix, char name[LW_NAME_SIZE]);
/* True if `name` is 16 hexadecimal digits (lower case) and the suffix. */
bool lw_segment_name_parse(const char *name, const char *suffix, uint64_t *number);

/* The bounds of a new log, and what each record does to them. That a record fits has been checked before. */
void lw_state_clear(lw_state *);
bool lw_bounds_blank(const lw_bounds *);
void lw_bounds_append(lw_bounds *, uint64_t index, uint64_t term);
/* `last_term` is that of the entry before `from`, where one stays. */
void lw_bounds_truncate(lw_bounds *, uint64_t from, uint64_t last_term);
void lw_bounds_purge(lw_bounds *, lw_log_id cutoff, bool all);
void lw_bounds_reset(lw_bounds *);

#endif
