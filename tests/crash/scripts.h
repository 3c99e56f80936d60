#ifndef CRASH_SCRIPTS_H
#define CRASH_SCRIPTS_H

#include <stdint.h>

/* Every scripted history, dying at every one of its events, with each survival, and then at every event of the recovery.
 * `schedules`: how many orders of threads are tried. `depth` 0: recovery is not killed; else for so many survivals. */
void scripts_run(uint64_t schedules, uint64_t depth);
/* One of them again; the words: NAME FAILING SCHEDULE DEATH END RECOVERY_DEATH, as a failure names them. */
int scripts_replay(char **words);

#endif
