/*
 * libFuzzer on every decoder of csrc/format.h: whatever the bytes, no touch outside of them, and what is accepted encodes
 * to what was read. Built by tests/fuzz/run; once with the real checksums, once with crc_stub.c, behind which all pass.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"

static void decode_page(const uint8_t *data, size_t size)
{
    uint8_t bytes[LW_PAGE_SIZE] = {0};
    lw_page page;
    memcpy(bytes, data, size < sizeof bytes ? size : sizeof bytes);
    for (lw_page_type type = LW_HEADER; type <= LW_CLOSE_MARK; type++)
        if (lw_page_decode(&page, type, bytes) == LW_VALID) {
            uint8_t again[LW_PAGE_SIZE];
            lw_page copy;
            lw_page_encode(&page, again);
            assert(lw_page_decode(&copy, type, again) == LW_VALID);
            assert(copy.size == page.size && copy.state.bounds.next == page.state.bounds.next);
        }
}

static void decode_frame(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size + 1); /* so that a touch behind it is seen */
    lw_frame frame;
    lw_hard_state hard_state;
    assert(exact != NULL);
    memcpy(exact, data, size);
    if (lw_frame_decode(&frame, 0, exact, size)) {
        assert(lw_frame_size(frame.size) <= size);
        if (frame.type == LW_HARD_STATE_FRAME && lw_hard_state_decode(&hard_state, &frame, exact + LW_FRAME_HEADER_SIZE))
            assert(hard_state.vote_size <= LW_MAX_VOTE && hard_state.extra_size <= LW_MAX_EXTRA);
    }
    free(exact);
}

static void decode_small_things(const uint8_t *data, size_t size)
{
    uint8_t bytes[64] = {0};
    uint8_t log_id[LW_LOG_ID_SIZE];
    char name[65] = {0};
    lw_identity identity = {.number = 1};
    lw_commit commit;
    uint64_t number;
    memcpy(bytes, data, size < sizeof bytes ? size : sizeof bytes);
    memcpy(name, bytes, sizeof bytes);
    (void)lw_lock_decode(log_id, bytes);
    (void)lw_commit_decode(&commit, &identity, LW_FRAMES_OFFSET, bytes);
    if (lw_segment_name_parse(name, LW_SEGMENT_SUFFIX, &number)) {
        char again[LW_NAME_SIZE];
        lw_segment_name(number, LW_SEGMENT_SUFFIX, again);
        assert(strcmp(name, again) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode_page(data, size);
    decode_frame(data, size);
    decode_small_things(data, size);
    return 0;
}
