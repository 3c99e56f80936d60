/*
 * From accepted to durable. One fdatasync runs at a time for the whole log: segment and position are taken together before
 * it, and published only after it succeeded. Whoever needs one does it, where none is running: a caller that waits, or
 * the sync thread for those who do not. All that was accepted meanwhile shares the next.
 */
#ifndef LW_SYNCER_H
#define LW_SYNCER_H

#include "log.h"

/* Waits until `ticket` is accepted, or durable. Where it `helps` it syncs itself if that is needed, however long that takes.
 * deadline_ns on lw_now_ns, 0: none. */
int lw_wait_ticket(lw_wal *, uint64_t ticket, bool durable, bool helps, uint64_t deadline_ns, lw_error *);
/* Whether a sync is likely to be short: the last one was, a moment ago. */
bool lw_syncs_are_short(const lw_wal *);
/* LW_PENDING, LW_OK or the error; with `lock` held. Neither asks whether the write was refused: see queue.h. */
int lw_ticket_status(lw_wal *, uint64_t ticket, bool durable, lw_error *);

/* With `lock` held: has the sync thread sync up to there. */
void lw_want_durable(lw_wal *, uint64_t ticket);

/* Waits until the tail's header is durable: by syncing where no sync has covered it yet. */
int lw_sync_header(lw_wal *, lw_error *);

/* Seals the tail, if there is one, and makes the successor, which has to be ready, the tail. Needs accept_lock. */
int lw_rotate(lw_wal *, lw_error *);

/* Writes the close mark, unless the one there is still right. No calls may be in progress. */
int lw_close_tail(lw_wal *, lw_error *);

void *lw_syncer_main(void *wal);

#endif
