/*
 * The order of writes. A write is accepted at once where it can be; where the tail is full it is copied into a queue, which
 * is accepted in order after a rotation. While anything is queued, everything else queues behind it. Where the rotation finds no
 * successor the queue waits, and nobody waits with it: the keeper says when the file is there.
 */
#ifndef LW_QUEUE_H
#define LW_QUEUE_H

#include "log.h"

/* See lw_wal_submit. */
int lw_submit(lw_wal *, const lw_batch *, lw_patience, uint64_t *ticket, lw_error *);
/* Holding neither lock: accepts what is queued, up to a write that has to wait for a successor. */
void lw_drain_queue(lw_wal *);
/* Waits until a write may be queued. deadline_ns on lw_now_ns, 0: none. */
int lw_wait_for_room(lw_wal *, uint64_t deadline_ns, lw_error *);
/* For whoever syncs, holding neither lock: seals a tail that is spent, so that its last batches and its footer share one
 * sync, and the next write finds a new segment. False where nothing was done, since a writer is at work. */
bool lw_roll_ahead(lw_wal *);
/* With `lock` held: the error that a ticket was refused with, told once; LW_OK where it was not refused. */
int lw_take_refusal(lw_wal *, uint64_t ticket, lw_error *);
/* At the end of the handle's life. */
void lw_free_queue(lw_wal *);

#endif
