/*
 * One log, one oracle: every step calls the core, holds its answer against the oracle, and keeps count of what was
 * acknowledged. A step that finds something wrong ends the program with status 1 and the history's seed.
 */
#ifndef CRASH_SESSION_H
#define CRASH_SESSION_H

#include "disk.h"
#include "life.h"
#include "model.h"
#include "sim.h"
#include "step.h"
#include "verify.h"

enum { TINY_SEGMENT = 24576, MAX_BATCH = 64 };

typedef struct session {
    model model;
    lw_wal *wal;
    lw_options options;
    uint64_t term;     /* of the next new entries */
    uint64_t ticket;   /* of the last write */
    bool power_held;   /* since the log was last open: what was accepted has to be there */
    bool poisoned;     /* a call has told of a failed sync */
    bool untouched;    /* opened for writing, and nothing was written since */
    bool fails;        /* operations are made to fail in this life of the process */
    bool copied;       /* a copy with holes: an open for which there is no space changes nothing */
    bool garbled;      /* a sector was torn or garbled: what a close was storing then looks damaged */
    unsigned profile;  /* of payload sizes */
    unsigned aside;    /* threads that use the handle */
    uint64_t opens;    /* a reader's answer counts only while the log stays open */
    uint64_t crashes;
    const char *history; /* how to run it again */
    bool verifies;       /* who reads beside the writer verifies the log */
    bool verbose;
} session;

extern session s;

__attribute__((format(printf, 1, 2), noreturn)) void fail(const char *format, ...);
__attribute__((format(printf, 1, 2))) void tell(const char *format, ...);

void session_begin(void); /* an empty disk, an empty log */
bool session_open(void);  /* false: it failed as it may, where operations are made to fail */
/* Of a log with damage: an error that changed nothing, or a state with at least so many writes. */
void session_open_damaged(size_t least);
bool session_close(void);
void session_open_locked(void); /* by another writer, who keeps this one out */
/* The process ends as it stands: by kill, or with the power. */
void session_crash(bool power, disk_survival);
void session_crash_but(unsigned last_sectors); /* see disk_power_cut_but */

/* Steps. Each returns the status of the core. */
int step_write(const lw_batch *, const char *what);
int step_append(size_t count);
int step_persist(uint64_t first, uint64_t term, size_t count); /* any overlap; the payloads follow from index and term */
int step_persist_sized(uint64_t first, uint64_t term, size_t count, uint64_t size);
int step_with_hard_state(size_t count, uint64_t vote);
int step_replace(uint64_t from, size_t count); /* with the next term */
int step_truncate(uint64_t from);
int step_purge(uint64_t index, uint64_t term);
int step_reset(void);
int step_wait(void);       /* for the last write */
void step_wait_aside(void); /* the same, in a thread of its own */
void step_sync_aside(void); /* the core's own thread is asked to */
void step_idle(void);      /* nothing is written for long enough for a COMMIT alone */
int step_wait_durable(uint64_t index);
void step_check(void);     /* reads everything */
void step_read_beside(void); /* a read-only handle, in a thread of its own */
uint64_t last_index(void);

#endif
