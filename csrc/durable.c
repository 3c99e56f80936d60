#include "durable.h"

#include <stdlib.h>
#include <string.h>

enum { MARKS_A_BATCH = 2, LEAST_CAPACITY = 64 };

void lw_durable_begin(lw_durable *durable, const lw_bounds *bounds)
{
    durable->index = bounds->next - 1;
    durable->floor = bounds->first - 1;
    durable->watermark = 0;
    durable->start = durable->count = 0;
}

int lw_durable_reserve(lw_durable *durable)
{
    if (durable->start + durable->count + MARKS_A_BATCH <= durable->capacity)
        return LW_OK;
    size_t capacity = durable->count < LEAST_CAPACITY / 2 ? LEAST_CAPACITY : durable->count * 2;
    lw_durable_mark *marks = malloc(capacity * sizeof *marks);
    if (marks == NULL)
        return LW_NO_MEMORY;
    if (durable->count > 0)
        memcpy(marks, durable->marks + durable->start, durable->count * sizeof *marks);
    free(durable->marks);
    durable->marks = marks;
    durable->start = 0;
    durable->capacity = capacity;
    return LW_OK;
}

static void push(lw_durable *durable, uint64_t offset, uint64_t index)
{
    durable->marks[durable->start + durable->count++] = (lw_durable_mark){offset, index};
}

/* Takes over the marks that the watermark has reached. */
static void settle(lw_durable *durable)
{
    while (durable->count > 0 && durable->marks[durable->start].offset <= durable->watermark) {
        durable->index = durable->marks[durable->start++].index;
        durable->count--;
    }
    if (durable->count == 0)
        durable->start = 0;
}

void lw_durable_add(lw_durable *durable, uint64_t end, uint64_t kept, uint64_t last)
{
    uint64_t offset = 0;
    if (kept > last) /* a log that became blank may begin again at a lower index */
        kept = last;
    if (durable->index > kept)
        durable->index = kept;
    if (kept == 0)
        durable->floor = 0;
    while (durable->count > 0 && durable->marks[durable->start + durable->count - 1].index >= kept) {
        durable->count--;
        offset = durable->marks[durable->start + durable->count].offset;
    }
    if (offset > 0 && kept > durable->index)
        push(durable, offset, kept);
    uint64_t highest = durable->count > 0 ? durable->marks[durable->start + durable->count - 1].index : durable->index;
    if (last > highest)
        push(durable, end, last);
    settle(durable);
}

void lw_durable_raise(lw_durable *durable, uint64_t watermark)
{
    if (watermark > durable->watermark)
        durable->watermark = watermark;
    settle(durable);
}

void lw_durable_free(lw_durable *durable)
{
    free(durable->marks);
    *durable = (lw_durable){0};
}
