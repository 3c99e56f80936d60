/*
 * Room for one more run in a log's index, and for one more segment in its list: made before anything changes, so that what comes
 * after it cannot fail for want of memory. The caller holds accept_lock and not `lock`. They give LW_OK or LW_NO_MEMORY.
 */
#ifndef LW_RESERVE_H
#define LW_RESERVE_H

#include "log.h"

int lw_reserve_run_now(lw_wal *);
static inline int lw_reserve_run(lw_wal *wal)
{
    return lw_index_has_room(&wal->index) ? LW_OK : lw_reserve_run_now(wal);
}
int lw_reserve_segment(lw_wal *);

#endif
