/*
 * One segment file, mapped whole: its identity, where its frames end, and its offset index - in memory while it is written,
 * in the mapped footer once sealed.
 *
 * A segment is counted: the log holds one pin as long as the segment belongs to it, each reader one while it copies.
 * Nothing is unmapped under a pin. All other fields belong to whoever holds the log's locks (log.h).
 *
 * Only what is written to needs its file: a sealed segment has none, so that a log of any length needs few descriptors.
 */
#ifndef LW_SEGMENT_H
#define LW_SEGMENT_H

#include "format.h"
#include "fs.h"

typedef struct lw_segment {
    lw_fs *fs;
    lw_file *file;  /* NULL once sealed, and for readers once recovered */
    uint32_t syncs; /* that use `file` at this moment: it stays open for them */
    uint8_t *base;
    uint64_t size;
    uint64_t mapped; /* bytes of it, from its start */
    lw_identity identity;
    uint32_t seed;
    uint32_t pins; /* atomic */
    bool sealed;
    bool is_sparse; /* the tail of a copy that left out zeros, where no space was for all its blocks; accept_lock */
    uint64_t end;   /* of the frames */
    uint32_t chain; /* check of the last frame, or the seed */
    uint32_t header_check;
    uint32_t footer_check; /* sealed */
    /* The offset index: entries [index_first, index_first + index_count) */
    uint64_t index_first;
    uint64_t index_count;
    uint64_t lowest_override;
    uint32_t *index_items; /* NULL once sealed */
    uint64_t index_capacity;
    uint32_t index_check;   /* sealed */
    uint32_t index_checked; /* sealed, atomic: the mapped items were held against index_check once */
    struct lw_segment *next_obsolete; /* for the keeper, once the log has let it go */
} lw_segment;

/* Opens and maps. Takes the file over, also on failure. `size` is what to map. */
int lw_segment_map(lw_fs *, lw_file *, const char *name, uint64_t size, bool writable, lw_segment **, lw_error *);
void lw_segment_pin(lw_segment *);
void lw_segment_unpin(lw_segment *); /* the last one unmaps, closes and frees: never with a lock held */
void lw_segment_close_file(lw_segment *);
/* Unmaps a part of a segment of which the caller has the only pin. False where all is unmapped: then unpin it. */
bool lw_segment_unmap_step(lw_segment *);
bool lw_segment_pinned_by_reader(const lw_segment *);

/* For readers beside a writer: true where the file has been used again, or cut, since its header was read. */
bool lw_segment_was_recycled(const lw_segment *);

void lw_segment_name_of(const lw_segment *, char name[LW_NAME_SIZE]);
void lw_segment_set_identity(lw_segment *, const lw_identity *);

/* The offset index in memory. reserve makes room for `more` items, so that push cannot fail. */
int lw_segment_reserve(lw_segment *, uint64_t more);
void lw_segment_push(lw_segment *, uint64_t index, uint64_t offset);
void lw_segment_cut(lw_segment *, uint64_t from); /* forgets the items of `from` and later */

/* Bytes that the offset index of `count` entries takes at the end of the file, before the footer. */
static inline uint64_t lw_index_size(uint64_t count)
{
    return lw_align8(count * LW_INDEX_ITEM_SIZE);
}

/* Where the items of a sealed or closed segment stand in its file. */
static inline uint64_t lw_index_offset(uint64_t size, uint64_t count)
{
    return size - LW_PAGE_SIZE - count * LW_INDEX_ITEM_SIZE;
}

/* Stores the offset index, and the page that describes it: LW_FOOTER at the end, LW_CLOSE_MARK at its place. The three are
 * separate because a sync stands between index and close mark. Touch the mapping: inside lw_guarded. */
void lw_segment_store_index(lw_segment *);
void lw_segment_store_page(lw_segment *, lw_page *);
/* A header, footer or close mark with what the segment knows of itself; the caller adds state and watermark. */
void lw_segment_describe(const lw_segment *, lw_page_type, lw_page *);

#endif
