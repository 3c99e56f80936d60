/* Opening a log on any lw_fs: what lw_wal_open does once it has the directory, and what tests do with a double. */
#ifndef LW_LIFE_H
#define LW_LIFE_H

#include "fs.h"
#include "logwal.h"

/* Takes the lw_fs over, also on failure. */
int lw_wal_open_on(lw_fs *, const lw_options *, lw_wal **, lw_error *);

#endif
