/* One writer a log: the lock on LOCK, and what becomes of it in a forked child. */
#ifndef LW_LOCK_H
#define LW_LOCK_H

#include "log.h"

/* Opens and locks LOCK. LW_LOCKED where another writer, in this process or another, has it. */
int lw_lock_take(lw_wal *, lw_error *);
void lw_lock_release(lw_wal *);
/* The handle belongs to this process: see lw_forked. */
void lw_lock_note_process(lw_wal *);
/* The same for what is no handle: names this process, and tells whether it is still the one that was named. */
unsigned lw_lock_process(void);
bool lw_lock_process_is(unsigned named);

#endif
