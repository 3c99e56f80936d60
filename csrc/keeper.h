/*
 * The log's files: the next segment made ahead, so that no write waits for 64 MiB of zeros; old ones used again or removed,
 * once a durable record has made them useless. One thread, apart from the sync thread because what it does takes long; it goes
 * in small steps, and the most urgent comes first.
 */
#ifndef LW_KEEPER_H
#define LW_KEEPER_H

#include "log.h"

/* At open: maps the file that stands ready for segment `number`, of `size` bytes, as the successor. */
int lw_keeper_map_successor(lw_wal *, uint64_t number, uint64_t size, bool is_filled, lw_error *);
/* With `lock` held: it has become the tail. */
void lw_keeper_successor_taken(lw_wal *);
/* A part of a header may have been stored in it: it has to be wiped before it is tried again. */
void lw_keeper_successor_torn(lw_wal *);
/* With `lock` held: a sync has succeeded, so files may have become useless. */
void lw_keeper_notice_durable(lw_wal *);
/* Waits until those are gone. deadline_ns on lw_now_ns, 0: none. */
int lw_keeper_wait_removed(lw_wal *, uint64_t deadline_ns, lw_error *);
/* At open: which .spare files to keep. The rest are removed. */
int lw_keeper_adopt_spares(lw_wal *, const uint64_t *spares, size_t count, lw_error *);
/* At the end, when the thread has ended: unmaps what it had still to unmap. */
void lw_keeper_release(lw_wal *);

void *lw_keeper_main(void *wal);

#endif
