#include "reserve.h"

#include <stdlib.h>

/* Only holders of accept_lock change the index, so it is copied without `lock`. */
int lw_reserve_run_now(lw_wal *wal)
{
    lw_index grown;
    if (lw_index_grown(&wal->index, &grown) != LW_OK)
        return LW_NO_MEMORY;
    (void)pthread_mutex_lock(&wal->lock);
    lw_index before = wal->index;
    wal->index = grown;
    (void)pthread_mutex_unlock(&wal->lock);
    lw_index_free(&before);
    return LW_OK;
}

/* Meanwhile only the keeper changes the list, and only its start. */
int lw_reserve_segment(lw_wal *wal)
{
    lw_segment_list grown;
    (void)pthread_mutex_lock(&wal->lock);
    lw_segment_list before = wal->segments;
    (void)pthread_mutex_unlock(&wal->lock);
    if (lw_segment_list_has_room(&before))
        return LW_OK;
    if (lw_segment_list_grown(&before, &grown) != LW_OK)
        return LW_NO_MEMORY;
    (void)pthread_mutex_lock(&wal->lock);
    lw_segment **old = lw_segment_list_replace(&wal->segments, &before, &grown);
    (void)pthread_mutex_unlock(&wal->lock);
    free(old);
    return LW_OK;
}
