/*
 * One entry, copied straight to where its caller wants it. The caller asks for the size, makes room, and then copies: it holds
 * nothing of the log while it makes room. The entry may be replaced in between, so the copy is told the size again.
 */
#include <string.h>

#include "reader.h"

int lw_wal_payload_size(lw_wal *wal, uint64_t index, uint64_t *size, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_read_size(wal, index, size, error);
    lw_leave(wal);
    return status;
}

typedef struct copying {
    uint8_t *payload;
    uint64_t size;
    lw_entry *entry;
    bool done;
} copying;

static int copy_entry(void *argument, const lw_frame *frame, const uint8_t *payload)
{
    copying *c = argument;
    if (frame->size != c->size)
        return LW_NOT_FOUND;
    memcpy(c->payload, payload, frame->size);
    *c->entry = (lw_entry){frame->index, frame->term, c->payload, frame->size, frame->kind};
    c->done = true;
    return LW_OK;
}

int lw_wal_copy_entry(lw_wal *wal, uint64_t index, uint8_t *payload, uint64_t size, lw_entry *entry, lw_error *error)
{
    lw_range range;
    copying c = {.payload = payload, .size = size, .entry = entry};
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_range_open(wal, index, index, &range, error);
    if (status == LW_OK) {
        status = lw_range_visit(&range, UINT64_MAX, copy_entry, &c, error);
        lw_range_close(&range);
    }
    lw_leave(wal);
    return status == LW_OK && !c.done ? LW_NOT_FOUND : status;
}
