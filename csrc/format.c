#include "format.h"

#include <assert.h>
#include <string.h>

#include "crc32c.h"
#include "step.h"

enum { VERSION = 1, CHECK_OFFSET = 12, FIXED_PART_SIZE = 192 };

static const char *const page_magic[] = {"LWHEADER", "LWFOOTER", "LWCLOSED"};
static const char lock_magic[] = "LWLOGID\n";

enum state_flags { HAS_BOUNDARY = 1, HAS_HARD_STATE = 2, HAS_VOTE = 4 };

static void save16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void save32(uint8_t *at, uint32_t value)
{
    save16(at, (uint16_t)value);
    save16(at + 2, (uint16_t)(value >> 16));
}

static void save64(uint8_t *at, uint64_t value)
{
    save32(at, (uint32_t)value);
    save32(at + 4, (uint32_t)(value >> 32));
}

static uint16_t load16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static uint32_t load32(const uint8_t *at)
{
    return (uint32_t)load16(at) | (uint32_t)load16(at + 2) << 16;
}

static uint64_t load64(const uint8_t *at)
{
    return (uint64_t)load32(at) | (uint64_t)load32(at + 4) << 32;
}


static uint32_t check_around(const uint8_t *bytes, size_t size)
{
    static const uint8_t zeros[4];
    uint32_t crc = lw_crc32c(0, bytes, CHECK_OFFSET);
    crc = lw_crc32c(crc, zeros, sizeof zeros);
    return lw_crc32c(crc, bytes + CHECK_OFFSET + 4, size - CHECK_OFFSET - 4);
}

static lw_decoded decode_fixed_part(const uint8_t *bytes, size_t size, const char *magic)
{
    if (memcmp(bytes, magic, 8) != 0 || load32(bytes + CHECK_OFFSET) != check_around(bytes, size))
        return LW_DAMAGED;
    return load32(bytes + 8) == VERSION ? LW_VALID : LW_NEWER_VERSION;
}

static void encode_fixed_part(uint8_t *bytes, size_t size, const char *magic)
{
    memcpy(bytes, magic, 8);
    save32(bytes + 8, VERSION);
    save32(bytes + CHECK_OFFSET, 0);
    save32(bytes + CHECK_OFFSET, check_around(bytes, size));
}

/* ---- pages ---- */

static void state_encode(const lw_state *state, uint8_t *bytes)
{
    const lw_bounds *bounds = &state->bounds;
    const lw_hard_state *hard = &state->hard_state;
    bytes[72] = (uint8_t)((bounds->has_boundary ? HAS_BOUNDARY : 0) | (state->has_hard_state ? HAS_HARD_STATE : 0) |
                          (state->has_hard_state && hard->has_vote ? HAS_VOTE : 0));
    save64(bytes + 80, bounds->first);
    save64(bytes + 88, bounds->next);
    save64(bytes + 96, bounds->last_term);
    if (bounds->has_boundary) {
        save64(bytes + 104, bounds->boundary.index);
        save64(bytes + 112, bounds->boundary.term);
    }
    if (!state->has_hard_state)
        return;
    save64(bytes + 120, hard->term);
    save64(bytes + 128, hard->commit_index);
    save16(bytes + 136, hard->vote_size);
    save16(bytes + 138, hard->extra_size);
    memcpy(bytes + FIXED_PART_SIZE, hard->vote, hard->vote_size);
    memcpy(bytes + FIXED_PART_SIZE + hard->vote_size, hard->extra, hard->extra_size);
}

static bool state_decode(lw_state *state, const uint8_t *bytes)
{
    lw_bounds *bounds = &state->bounds;
    lw_hard_state *hard = &state->hard_state;
    memset(state, 0, sizeof *state);
    bounds->first = load64(bytes + 80);
    bounds->next = load64(bytes + 88);
    bounds->last_term = load64(bytes + 96);
    bounds->has_boundary = (bytes[72] & HAS_BOUNDARY) != 0;
    bounds->boundary = (lw_log_id){load64(bytes + 104), load64(bytes + 112)};
    state->has_hard_state = (bytes[72] & HAS_HARD_STATE) != 0;
    hard->term = load64(bytes + 120);
    hard->commit_index = load64(bytes + 128);
    hard->has_vote = (bytes[72] & HAS_VOTE) != 0;
    hard->vote_size = load16(bytes + 136);
    hard->extra_size = load16(bytes + 138);
    if (hard->vote_size > LW_MAX_VOTE || hard->extra_size > LW_MAX_EXTRA || (hard->vote_size > 0 && !hard->has_vote))
        return false;
    memcpy(hard->vote, bytes + FIXED_PART_SIZE, hard->vote_size);
    memcpy(hard->extra, bytes + FIXED_PART_SIZE + hard->vote_size, hard->extra_size);
    bool starts_well = !bounds->has_boundary || bounds->first == bounds->boundary.index + 1;
    return starts_well && bounds->first >= 1 && bounds->first <= bounds->next;
}

void lw_page_encode(lw_page *page, uint8_t bytes[LW_PAGE_SIZE])
{
    memset(bytes, 0, LW_PAGE_SIZE);
    memcpy(bytes + 16, page->identity.log_id, LW_LOG_ID_SIZE);
    save64(bytes + 32, page->identity.number);
    save64(bytes + 40, page->size);
    save64(bytes + 48, page->identity.nonce);
    save64(bytes + 56, page->watermark.segment);
    save64(bytes + 64, page->watermark.offset);
    state_encode(&page->state, bytes);
    if (page->type == LW_HEADER) {
        save64(bytes + 144, page->predecessor);
        save32(bytes + 152, page->predecessor_check);
    } else {
        save64(bytes + 144, page->end);
        save32(bytes + 152, page->chain);
        save64(bytes + 160, page->index_first);
        save64(bytes + 168, page->index_count);
        save64(bytes + 176, page->lowest_override);
        save32(bytes + 184, page->index_check);
    }
    encode_fixed_part(bytes, LW_PAGE_SIZE, page_magic[page->type]);
    page->check = load32(bytes + CHECK_OFFSET);
}

static bool layout_is_sound(const lw_page *page)
{
    if (page->size < LW_MIN_SEGMENT_SIZE || page->size > LW_MAX_SEGMENT_SIZE || page->size % LW_PAGE_SIZE != 0)
        return false;
    if (page->type == LW_HEADER)
        return true;
    uint64_t area_end = page->size - LW_PAGE_SIZE;
    return page->end >= LW_FRAMES_OFFSET && page->end % 8 == 0 && page->end <= area_end &&
           page->index_count <= (area_end - page->end) / LW_INDEX_ITEM_SIZE;
}

lw_decoded lw_page_decode(lw_page *page, lw_page_type type, const uint8_t bytes[LW_PAGE_SIZE])
{
    lw_decoded decoded = decode_fixed_part(bytes, LW_PAGE_SIZE, page_magic[type]);
    if (decoded != LW_VALID)
        return decoded;
    memset(page, 0, sizeof *page);
    page->type = type;
    page->check = load32(bytes + CHECK_OFFSET);
    memcpy(page->identity.log_id, bytes + 16, LW_LOG_ID_SIZE);
    page->identity.number = load64(bytes + 32);
    page->size = load64(bytes + 40);
    page->identity.nonce = load64(bytes + 48);
    page->watermark = (lw_position){load64(bytes + 56), load64(bytes + 64)};
    if (type == LW_HEADER) {
        page->predecessor = load64(bytes + 144);
        page->predecessor_check = load32(bytes + 152);
    } else {
        page->end = load64(bytes + 144);
        page->chain = load32(bytes + 152);
        page->index_first = load64(bytes + 160);
        page->index_count = load64(bytes + 168);
        page->lowest_override = load64(bytes + 176);
        page->index_check = load32(bytes + 184);
    }
    return state_decode(&page->state, bytes) && layout_is_sound(page) ? LW_VALID : LW_DAMAGED;
}

uint32_t lw_page_check(const uint8_t bytes[LW_PAGE_SIZE])
{
    return load32(bytes + CHECK_OFFSET);
}

void lw_lock_encode(const uint8_t log_id[LW_LOG_ID_SIZE], uint8_t bytes[LW_LOCK_SIZE])
{
    memcpy(bytes + 16, log_id, LW_LOG_ID_SIZE);
    encode_fixed_part(bytes, LW_LOCK_SIZE, lock_magic);
}

lw_decoded lw_lock_decode(uint8_t log_id[LW_LOG_ID_SIZE], const uint8_t bytes[LW_LOCK_SIZE])
{
    lw_decoded decoded = decode_fixed_part(bytes, LW_LOCK_SIZE, lock_magic);
    if (decoded == LW_VALID)
        memcpy(log_id, bytes + 16, LW_LOG_ID_SIZE);
    return decoded;
}

/* ---- frames ---- */

uint32_t lw_seed(const lw_identity *identity)
{
    uint8_t bytes[LW_LOG_ID_SIZE + 16];
    memcpy(bytes, identity->log_id, LW_LOG_ID_SIZE);
    save64(bytes + LW_LOG_ID_SIZE, identity->number);
    save64(bytes + LW_LOG_ID_SIZE + 8, LW_STEP(SEED) ? identity->nonce : 0);
    return lw_crc32c(0, bytes, sizeof bytes);
}

void lw_frame_encode(lw_frame *frame, uint32_t seed, uint8_t bytes[LW_FRAME_HEADER_SIZE])
{
    save32(bytes + 4, frame->previous);
    save32(bytes + 8, frame->size);
    save32(bytes + 12, frame->payload_check);
    save64(bytes + 16, (uint64_t)frame->type | (uint64_t)frame->kind << 8);
    save64(bytes + 24, frame->index);
    save64(bytes + 32, frame->term);
    frame->check = lw_crc32c(seed, bytes + 4, LW_FRAME_HEADER_SIZE - 4);
    save32(bytes, frame->check);
}

static bool keeps_its_row(const lw_frame *frame)
{
    switch (frame->type) {
    case LW_ENTRY_FRAME:
        return frame->index >= 1 && frame->index <= LW_MAX_INDEX;
    case LW_TRUNCATE_FRAME:
        return frame->kind == 0 && frame->index >= 1 && frame->size == 0;
    case LW_PURGE_FRAME:
        return frame->kind <= 1 && frame->index >= 1 && frame->index <= LW_MAX_INDEX && frame->size == 0;
    case LW_RESET_FRAME:
        return frame->kind == 0 && frame->index == 0 && frame->term == 0 && frame->size == 0;
    case LW_HARD_STATE_FRAME:
        return frame->kind <= 1 && frame->size >= 2 && frame->size <= LW_HARD_STATE_MAX_SIZE;
    case LW_EPOCH_FRAME:
        return frame->kind == 0 && frame->index == 0 && frame->term == 0 && frame->size == LW_EPOCH_PAYLOAD_SIZE;
    case LW_COMMIT_FRAME:
        return frame->kind == 0 && frame->index == 0 && frame->term == 0 && frame->size == LW_COMMIT_PAYLOAD_SIZE;
    }
    return false;
}

bool lw_frame_decode(lw_frame *frame, uint32_t seed, const uint8_t *bytes, uint64_t room)
{
    if (room < LW_FRAME_HEADER_SIZE)
        return false;
    if (!lw_may_be_frame(bytes))
        return false;
    frame->check = load32(bytes);
    if (frame->check != lw_crc32c(seed, bytes + 4, LW_FRAME_HEADER_SIZE - 4))
        return false;
    frame->previous = load32(bytes + 4);
    frame->size = load32(bytes + 8);
    frame->payload_check = load32(bytes + 12);
    frame->type = (lw_frame_type)bytes[16];
    frame->kind = bytes[17];
    frame->index = load64(bytes + 24);
    frame->term = load64(bytes + 32);
    return keeps_its_row(frame) && lw_align8(frame->size) <= room - LW_FRAME_HEADER_SIZE;
}

static uint32_t stands_alone_check(const lw_identity *identity, uint64_t offset, const uint8_t *payload)
{
    uint8_t bytes[LW_LOG_ID_SIZE + 16];
    memcpy(bytes, identity->log_id, LW_LOG_ID_SIZE);
    save64(bytes + LW_LOG_ID_SIZE, identity->number);
    save64(bytes + LW_LOG_ID_SIZE + 8, offset);
    return lw_crc32c(lw_crc32c(0, bytes, sizeof bytes), payload, 32);
}

void lw_commit_encode(const lw_commit *commit, const lw_identity *identity, uint64_t offset,
                      uint8_t bytes[LW_COMMIT_PAYLOAD_SIZE])
{
    save64(bytes, commit->start);
    save64(bytes + 8, commit->next);
    save64(bytes + 16, commit->watermark.segment);
    save64(bytes + 24, commit->watermark.offset);
    save32(bytes + 32, stands_alone_check(identity, offset, bytes));
    memcpy(bytes + 36, LW_COMMIT_MAGIC, 4);
}

bool lw_commit_decode(lw_commit *commit, const lw_identity *identity, uint64_t offset,
                      const uint8_t bytes[LW_COMMIT_PAYLOAD_SIZE])
{
    if (!lw_may_be_commit(bytes) || load32(bytes + 32) != stands_alone_check(identity, offset, bytes))
        return false;
    commit->start = load64(bytes);
    commit->next = load64(bytes + 8);
    commit->watermark = (lw_position){load64(bytes + 16), load64(bytes + 24)};
    return true;
}

uint32_t lw_hard_state_encode(const lw_hard_state *hard, uint8_t bytes[LW_HARD_STATE_MAX_SIZE])
{
    save16(bytes, hard->vote_size);
    memcpy(bytes + 2, hard->vote, hard->vote_size);
    memcpy(bytes + 2 + hard->vote_size, hard->extra, hard->extra_size);
    return 2u + hard->vote_size + hard->extra_size;
}

bool lw_hard_state_decode(lw_hard_state *hard, const lw_frame *frame, const uint8_t *payload)
{
    uint16_t vote_size = load16(payload);
    if (vote_size > LW_MAX_VOTE || vote_size > frame->size - 2 || (vote_size > 0 && frame->kind == 0) ||
        frame->size - 2 - vote_size > LW_MAX_EXTRA)
        return false;
    memset(hard, 0, sizeof *hard);
    hard->term = frame->term;
    hard->commit_index = frame->index;
    hard->has_vote = frame->kind;
    hard->vote_size = vote_size;
    hard->extra_size = (uint16_t)(frame->size - 2 - vote_size);
    memcpy(hard->vote, payload + 2, vote_size);
    memcpy(hard->extra, payload + 2 + vote_size, hard->extra_size);
    return true;
}

uint32_t lw_index_item_load(const uint8_t *items, uint64_t i)
{
    return load32(items + i * LW_INDEX_ITEM_SIZE);
}

void lw_index_item_save(uint8_t *items, uint64_t i, uint32_t value)
{
    save32(items + i * LW_INDEX_ITEM_SIZE, value);
}

/* ---- names ---- */

void lw_segment_name(uint64_t number, const char *suffix, char name[LW_NAME_SIZE])
{
    for (int digit = 15; digit >= 0; digit--, number >>= 4)
        name[digit] = "0123456789abcdef"[number & 0xf];
    size_t size = strlen(suffix);
    assert(16 + size < LW_NAME_SIZE);
    memcpy(name + 16, suffix, size + 1);
}

bool lw_segment_name_parse(const char *name, const char *suffix, uint64_t *number)
{
    if (strlen(name) != 16 + strlen(suffix) || strcmp(name + 16, suffix) != 0)
        return false;
    *number = 0;
    for (int i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = strchr(digits, name[i]);
        if (digit == NULL || *digit == '\0')
            return false;
        *number = *number << 4 | (uint64_t)(digit - digits);
    }
    return *number > 0;
}

/* ---- bounds ---- */

static void clear_bounds(lw_bounds *bounds)
{
    memset(bounds, 0, sizeof *bounds);
    bounds->first = bounds->next = 1;
}

void lw_state_clear(lw_state *state)
{
    memset(state, 0, sizeof *state);
    clear_bounds(&state->bounds);
}

bool lw_bounds_blank(const lw_bounds *bounds)
{
    return bounds->first == bounds->next && !bounds->has_boundary;
}

void lw_bounds_append(lw_bounds *bounds, uint64_t index, uint64_t term)
{
    if (lw_bounds_blank(bounds))
        bounds->first = index;
    bounds->next = index + 1;
    bounds->last_term = term;
}

static void no_entries(lw_bounds *bounds)
{
    bounds->first = bounds->next = bounds->has_boundary ? bounds->boundary.index + 1 : 1;
    bounds->last_term = bounds->has_boundary ? bounds->boundary.term : 0;
}

void lw_bounds_truncate(lw_bounds *bounds, uint64_t from, uint64_t last_term)
{
    if (from <= bounds->first) {
        no_entries(bounds);
        return;
    }
    bounds->next = from;
    bounds->last_term = last_term;
}

void lw_bounds_purge(lw_bounds *bounds, lw_log_id cutoff, bool all)
{
    bounds->has_boundary = true;
    bounds->boundary = cutoff;
    if (all || cutoff.index + 1 >= bounds->next)
        no_entries(bounds);
    else
        bounds->first = cutoff.index + 1;
}

void lw_bounds_reset(lw_bounds *bounds)
{
    bounds->has_boundary = false;
    bounds->boundary = (lw_log_id){0, 0};
    no_entries(bounds);
}
