/*
 * The order of writes. A write is accepted at once where it can be; where the tail is full it is copied into a queue, which
 * the sync thread accepts in order after rolling. While anything is queued, everything else queues behind it.
 */
#ifndef LW_QUEUE_H
#define LW_QUEUE_H

#include "log.h"

/* See lw_wal_submit. */
int lw_submit(lw_wal *, const lw_batch *, lw_patience, uint64_t *ticket, lw_error *);
/* For the sync thread, holding neither lock: accepts all that is queued. */
void lw_drain_queue(lw_wal *);
/* For whoever syncs, holding neither lock: seals a tail that is spent, so that its last batches and its footer share one
 * sync, and the next write finds a new segment. False where nothing was done, since a writer is at work. */
bool lw_roll_ahead(lw_wal *);
/* With `lock` held: the error that a ticket was refused with, told once; LW_OK where it was not refused. */
int lw_take_refusal(lw_wal *, uint64_t ticket, lw_error *);
/* At the end of the handle's life. */
void lw_free_queue(lw_wal *);

#endif
