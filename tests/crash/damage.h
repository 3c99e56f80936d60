#ifndef CRASH_DAMAGE_H
#define CRASH_DAMAGE_H

#include <stdint.h>

/* A random history that ends well, one place of what is durable beyond doubt damaged: an error that changes nothing on
 * disk, or every entry as it was. */
void damage_history(uint64_t seed);

/* A segment that was sealed twice, replaced by a copy of what it was after the first time. */
void damage_old_copy(void);

#endif
