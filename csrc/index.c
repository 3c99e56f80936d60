#include "index.h"

#include <stdlib.h>
#include <string.h>

lw_run lw_no_runs[1];

int lw_index_grown(const lw_index *index, lw_index *grown)
{
    size_t capacity = index->count < 8 ? 16 : index->count * 2;
    lw_run *memory = malloc(capacity * sizeof *memory);
    if (memory == NULL)
        return LW_NO_MEMORY;
    if (index->count > 0)
        memcpy(memory, lw_index_runs(index), index->count * sizeof *memory);
    *grown = (lw_index){memory, 0, index->count, capacity};
    return LW_OK;
}

int lw_index_reserve(lw_index *index)
{
    lw_index grown;
    if (lw_index_has_room(index))
        return LW_OK;
    if (lw_index_grown(index, &grown) != LW_OK)
        return LW_NO_MEMORY;
    free(index->memory);
    *index = grown;
    return LW_OK;
}

/* How many runs lie wholly before `wanted`. */
static size_t runs_before(const lw_index *index, uint64_t wanted)
{
    const lw_run *runs = lw_index_runs(index);
    size_t low = 0;
    size_t high = index->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (runs[middle].next <= wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void lw_index_append(lw_index *index, lw_segment *segment, uint64_t first, uint64_t next)
{
    if (first == next)
        return;
    lw_run *end = lw_index_runs(index) + index->count;
    if (index->count > 0 && end[-1].segment == segment) {
        end[-1].next = next;
    } else {
        *end = (lw_run){segment, first, next};
        index->count++;
    }
}

void lw_index_truncate(lw_index *index, uint64_t from)
{
    size_t kept = runs_before(index, from);
    lw_run *run = lw_index_runs(index) + kept;
    if (kept == index->count)
        return;
    if (run->first < from) {
        run->next = from;
        kept++;
    }
    index->count = kept;
}

void lw_index_purge(lw_index *index, uint64_t first)
{
    size_t gone = runs_before(index, first);
    index->start += gone;
    index->count -= gone;
    if (index->count > 0 && lw_index_runs(index)->first < first)
        lw_index_runs(index)->first = first;
}

const lw_run *lw_index_find(const lw_index *index, uint64_t wanted)
{
    size_t before = runs_before(index, wanted);
    const lw_run *run = lw_index_runs(index) + before;
    return before < index->count && run->first <= wanted ? run : NULL;
}

const lw_run *lw_index_of_segment(const lw_index *index, uint64_t number)
{
    const lw_run *runs = lw_index_runs(index);
    size_t low = 0;
    size_t high = index->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (runs[middle].segment->identity.number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return runs + low;
}

void lw_index_free(lw_index *index)
{
    free(index->memory);
    *index = (lw_index){0};
}
