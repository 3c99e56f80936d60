/* Making files that can become segments: allocated, filled, synced, and only then named. */
#ifndef LW_PREPARE_H
#define LW_PREPARE_H

#include "format.h"
#include "fs.h"

/* Asked now and then by work that takes long: may do something else meanwhile; false ends the work early with ECANCELED. */
typedef bool lw_pause(void *argument);

/* Makes <number>.spare of `size` bytes, all blocks written. Removes it again where it fails. Blocks long (65-110 ms for
 * 64 MiB), so it syncs and pauses every 256 KiB. `pause` may be NULL. */
int lw_prepare_fill(lw_fs *, uint64_t number, uint64_t size, lw_pause *pause, void *argument, lw_error *);
/* Zeroes the header and close mark pages of <number>.spare or a successor that was never used; synced. */
int lw_prepare_wipe(lw_fs *, const char *name, lw_error *);
/* Gives a filled or wiped spare the name of segment `number`; the directory is synced. */
int lw_prepare_name(lw_fs *, uint64_t spare, uint64_t number, lw_error *);
/* Fills the successor `name`, not yet used, from its byte `present` to `size`. */
int lw_prepare_extend(lw_fs *, const char *name, uint64_t present, uint64_t size, lw_error *);

#endif
