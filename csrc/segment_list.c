#include "segment_list.h"

#include <stdlib.h>
#include <string.h>

lw_segment *lw_no_segments[1];

int lw_segment_list_grown(const lw_segment_list *list, lw_segment_list *grown)
{
    size_t capacity = list->count < 8 ? 16 : list->count * 2;
    lw_segment **memory = malloc(capacity * sizeof *memory);
    if (memory == NULL)
        return LW_NO_MEMORY;
    if (list->count > 0)
        memcpy(memory, lw_segment_list_items(list), list->count * sizeof *memory);
    *grown = (lw_segment_list){memory, 0, list->count, capacity};
    return LW_OK;
}

lw_segment **lw_segment_list_replace(lw_segment_list *list, const lw_segment_list *before, const lw_segment_list *grown)
{
    lw_segment **old = list->memory;
    *list = (lw_segment_list){grown->memory, list->start - before->start, list->count, grown->capacity};
    return old;
}

int lw_segment_list_reserve(lw_segment_list *list)
{
    lw_segment_list grown;
    if (lw_segment_list_has_room(list))
        return LW_OK;
    if (lw_segment_list_grown(list, &grown) != LW_OK)
        return LW_NO_MEMORY;
    free(list->memory);
    *list = grown;
    return LW_OK;
}

void lw_segment_list_append(lw_segment_list *list, lw_segment *segment)
{
    lw_segment_list_items(list)[list->count++] = segment;
}

lw_segment *lw_segment_list_take_oldest(lw_segment_list *list)
{
    lw_segment *oldest = lw_segment_list_items(list)[0];
    list->start++;
    list->count--;
    return oldest;
}

size_t lw_segment_list_after(const lw_segment_list *list, uint64_t number)
{
    lw_segment **items = lw_segment_list_items(list);
    size_t low = 0;
    size_t high = list->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (items[middle]->identity.number <= number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void lw_segment_list_release(lw_segment_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        lw_segment_unpin(lw_segment_list_items(list)[i]);
    free(list->memory);
    *list = (lw_segment_list){0};
}
