/* Making files that can become segments: allocated, filled, synced, and only then named. */
#ifndef LW_PREPARE_H
#define LW_PREPARE_H

#include "format.h"
#include "fs.h"

/* LW_FILL: all blocks are written, so that a later sync of a store writes no metadata. LW_HURRY: they are allocated alone, in a
 * moment, and each first sync of one costs more; where the file system cannot do that they are filled all the same. */
typedef enum lw_pace { LW_FILL, LW_HURRY, LW_STOP } lw_pace;

/* Asked between the steps of filling: may do something else meanwhile. LW_HURRY: a write waits. LW_STOP: ECANCELED. */
typedef lw_pace lw_pause(void *argument);

typedef struct lw_making {
    uint64_t size;   /* of the file, in bytes; a multiple of LW_PAGE_SIZE */
    lw_pace pace;    /* to begin with */
    uint64_t filled; /* afterwards: bytes that were written, not only allocated */
    lw_pause *pause; /* may be NULL */
    void *argument;  /* of `pause` */
} lw_making;

/* Makes <number>.spare, synced. Removes it again where it fails. Filling takes long (65-110 ms for 64 MiB), so it syncs and
 * pauses every 256 KiB. */
int lw_prepare_make(lw_fs *, uint64_t number, lw_making *, lw_error *);
/* fs->reserve, but 0 where the system cannot: then the blocks are hoped for. */
int lw_reserve(lw_fs *, lw_file *, uint64_t offset, uint64_t size);
/* Zeroes the header and close mark pages of <number>.spare or a successor that was never used; all its blocks are there;
 * synced. */
int lw_prepare_wipe(lw_fs *, const char *name, lw_error *);
/* Gives a filled or wiped spare the name of segment `number`; the directory is synced. */
int lw_prepare_name(lw_fs *, uint64_t spare, uint64_t number, lw_error *);
/* Fills the successor `name`, not yet used, from its byte `present` to `size`. */
int lw_prepare_extend(lw_fs *, const char *name, uint64_t present, uint64_t size, lw_error *);

#endif
