/*
 * A read-only handle goes on from where it stopped: the frames that were appended to the tail since, then the segments that
 * follow it. What it costs follows from what was appended, not from what the log or the tail holds.
 */
#ifndef LW_FOLLOW_H
#define LW_FOLLOW_H

#include "log.h"

/* With accept_lock held, of a read-only handle that has a tail. LW_OK: the handle shows the log as it is now, and *moved tells
 * whether anything was new. LW_PENDING: what the handle knows is not what is there, so the whole log has to be judged. Or
 * LW_NO_MEMORY. */
int lw_follow(lw_wal *, bool *moved, lw_error *);

#endif
