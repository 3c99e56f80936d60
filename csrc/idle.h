/*
 * What was durable when a process was killed is proven only by what is stored in the log: watermarks. Each COMMIT stores one, so
 * the last batch before a pause has none that covers it. Therefore the sync thread appends a COMMIT alone when 100 ms have passed
 * since the last sync, and the durable position is ahead of every watermark in the tail.
 */
#ifndef LW_IDLE_H
#define LW_IDLE_H

#include "log.h"

/* With `lock` held, after each sync: has the sync thread wake when the log may be idle. A signal only where it sleeps without
 * that, so after each idle COMMIT once. */
void lw_idle_notice_durable(lw_wal *);
/* The same when the sync thread starts. */
void lw_idle_begin(lw_wal *);
/* With `lock` held, which is let go meanwhile: when its time has come, looks whether a COMMIT alone is due, and appends it. */
void lw_idle_look(lw_wal *);

#endif
