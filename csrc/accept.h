/*
 * Accepting a write: check it against the log, build its frames in the tail, publish. Whatever fails before publishing
 * leaves the log as it was.
 */
#ifndef LW_ACCEPT_H
#define LW_ACCEPT_H

#include "log.h"

/* For holders of accept_lock. `ticket` is the highest given out to a write that comes before all that are queued. LW_OK:
 * accepted; or nothing was left to write, and the ticket is durable when all that came before it is. LW_PENDING: the tail
 * has no room, and *segment_bytes is the size of a segment that has. */
int lw_accept(lw_wal *, const lw_batch *, uint64_t ticket, uint64_t *segment_bytes, lw_error *);
/* The same for a ticket whose write came to nothing: durable when all that came before it is. */
void lw_accept_nothing(lw_wal *, uint64_t ticket);
/* For a holder of accept_lock: appends a COMMIT alone, which stores the durable position as a watermark, into the mapping. It has no
 * ticket, and no statistic counts it. False where it has no room or cannot be stored: then the log is as it was. */
bool lw_accept_commit_alone(lw_wal *);
/* Against max_entry_bytes; needs no lock. */
int lw_check_size(const lw_wal *, const lw_entry *, lw_error *);

#endif
