/*
 * Opening a log beside a writer, and looking again. Nothing is locked, so what is read may be at odds with itself because the
 * writer appended, rotated or purged meanwhile. Two rules keep that from being taken for damage: what the writer purged while the
 * segments were read is made good by following the tail to where the purge is recorded; and what still looks like damage, or
 * like a missing file, is an error only where two judgements, one after the other, saw the very same.
 */
#ifndef LW_READ_ONLY_H
#define LW_READ_ONLY_H

#include "log.h"

/* Fills an empty read-only handle, which nobody else uses yet. `known`: segments that are mapped already, which are taken over
 * where they are the same; or NULL. */
int lw_read_log(lw_wal *view, const lw_segment_list *known, lw_error *);

#endif
