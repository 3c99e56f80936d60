#include "index.h"

#include <stdlib.h>
#include <string.h>

int lw_index_reserve(lw_index *index)
{
    if (index->count < index->capacity)
        return LW_OK;
    size_t capacity = index->capacity == 0 ? 16 : index->capacity * 2;
    lw_run *runs = realloc(index->runs, capacity * sizeof *runs);
    if (runs == NULL)
        return LW_NO_MEMORY;
    index->runs = runs;
    index->capacity = capacity;
    return LW_OK;
}

void lw_index_append(lw_index *index, lw_segment *segment, uint64_t first, uint64_t next)
{
    if (first == next)
        return;
    lw_run *last = index->count == 0 ? NULL : &index->runs[index->count - 1];
    if (last != NULL && last->segment == segment)
        last->next = next;
    else
        index->runs[index->count++] = (lw_run){segment, first, next};
}

void lw_index_truncate(lw_index *index, uint64_t from, uint64_t ticket)
{
    while (index->count > 0) {
        lw_run *last = &index->runs[index->count - 1];
        if (from > last->first) {
            if (from < last->next)
                last->next = from;
            return;
        }
        last->segment->dead_ticket = ticket;
        index->count--;
    }
}

void lw_index_purge(lw_index *index, uint64_t first, uint64_t ticket)
{
    size_t gone = 0;
    while (gone < index->count && index->runs[gone].next <= first)
        index->runs[gone++].segment->dead_ticket = ticket;
    index->count -= gone;
    if (index->count == 0)
        return;
    memmove(index->runs, index->runs + gone, index->count * sizeof *index->runs);
    if (index->runs[0].first < first)
        index->runs[0].first = first;
}

const lw_run *lw_index_find(const lw_index *index, uint64_t wanted)
{
    size_t low = 0;
    size_t high = index->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (index->runs[middle].next <= wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low < index->count && index->runs[low].first <= wanted ? &index->runs[low] : NULL;
}

void lw_index_free(lw_index *index)
{
    free(index->runs);
    *index = (lw_index){0};
}
