/* Opening a log on any lw_fs: what lw_wal_open does once it has the directory, and what tests do with a double. */
#ifndef LW_LIFE_H
#define LW_LIFE_H

#include "fs.h"
#include "logwal.h"

struct lw_recovered;

/* Takes the lw_fs over, also on failure. */
int lw_wal_open_on(lw_fs *, const lw_options *, lw_wal **, lw_error *);

/* An empty handle, without a directory; NULL: no memory. free: nothing of the log is left in it. */
lw_wal *lw_handle_make(const lw_options *);
void lw_handle_free(lw_wal *);
/* Takes over what recovery found, and leaves the rest for lw_recovered_free. */
int lw_adopt(lw_wal *, struct lw_recovered *, lw_error *);

#endif
