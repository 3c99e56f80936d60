/*
 * The log in memory, shared by the files that write it (accept), make it durable (syncer), look after its files (keeper) and
 * read it (reader). wal.c puts them together.
 *
 * Locks, in the order in which they are taken:
 *   accept_lock   one writer at a time, from checking a batch to publishing it; held by a rotation, and so across its sync,
 *                 but never while a file is made, removed or unmapped
 *   lock          everything that is marked "lock"; held for moments: never across I/O, a touch of a mapping or a loop over all
 *                 segments
 * `state.bounds`, `index`, `tail` and the tail's own fields are changed under both, so either is enough to read them.
 */
#ifndef LW_LOG_H
#define LW_LOG_H

#include <pthread.h>

#include "durable.h"
#include "histogram.h"
#include "index.h"
#include "segment_list.h"

enum {
    /* Left free behind entries, so that on a full disk a purge or reset still has a place to be written. */
    LW_CONTROL_RESERVE = 4096,
};

typedef struct lw_subscriber {
    struct lw_subscriber *next;
    int descriptor;
    bool armed;
} lw_subscriber;

/* A write that waits for a roll, with copies of all it points to. */
typedef struct lw_queued {
    struct lw_queued *next;
    uint64_t ticket;
    size_t size; /* of all the copies, in bytes */
    lw_batch batch;
} lw_queued;

/* What a queued write was refused with, until its caller asks. */
typedef struct lw_refusal {
    struct lw_refusal *next;
    uint64_t ticket;
    lw_error error;
} lw_refusal;

struct lw_wal {
    lw_fs *fs;
    lw_options options;
    uint8_t log_id[LW_LOG_ID_SIZE];
    lw_file *lock_file;       /* locked; NULL: neither it nor the directory is */
    bool dir_is_locked;
    struct lw_wal *next_locked; /* of the logs that hold locks: lock.c */
    struct lw_wal **locked_from; /* what points to this one in that list */
    unsigned fork_generation;

    pthread_mutex_t accept_lock;
    bool needs_epoch;   /* accept_lock: nothing was written since the log was opened */
    bool mark_is_valid; /* accept_lock: the tail's close mark describes its end, so what comes next has to clear it */
    bool mark_is_touched; /* accept_lock: and a write that was refused may have done so */
    uint8_t *collected; /* accept_lock: frames of a large batch, on their way to the file; NULL until there is one */

    pthread_mutex_t lock;
    pthread_cond_t moved;       /* lock: anything that a caller may wait for */
    pthread_cond_t syncer_work; /* lock */
    pthread_cond_t keeper_work; /* lock */

    /* lock: what is accepted */
    lw_state state;
    lw_index index;
    lw_segment_list segments; /* the last is the tail */
    lw_segment *tail;
    bool tail_is_spent;       /* another batch as the last one would not fit: the next sync may as well seal it */
    uint64_t last_ticket;     /* given out */
    uint64_t accepted_ticket; /* all up to it are accepted or refused */
    lw_queued *queue_first;
    lw_queued **queue_end;
    uint64_t queue_bytes;
    uint64_t rotation_bytes;  /* size of the successor that the first in the queue waits for; 0: it waits for none */
    lw_error rotation_error;  /* why that could not be made; status LW_OK: not yet tried */
    lw_refusal *refusals;

    /* lock: what is durable */
    lw_position durable;
    lw_position stored_watermark; /* the highest in the tail that covers a part of it; 0, 0: none does */
    lw_durable proven; /* accept_lock: what a read-only handle goes on from */
    uint64_t headerless; /* accept_lock: the segment behind a sealed tail, which a refresh found without a header; else 0 */
    uint64_t looked_to; /* accept_lock: how far a refresh looked behind the tail's end for damage; 0: not beyond the next bytes */
    bool in_doubt; /* atomic: a read of a read-only handle failed, so the next refresh judges the whole log */
    uint64_t durable_ticket;
    uint64_t durable_index;
    uint64_t durable_floor; /* first - 1, as far as that is durable: what a purge that is only accepted raised does not count */
    uint64_t syncing_index; /* what durable_index becomes when the running sync succeeds */
    uint64_t syncing_floor;
    uint64_t durable_oldest; /* number of the oldest segment that what is durable needs */
    uint64_t syncing_oldest;
    bool sync_running;
    bool failed; /* a sync failed: nothing is acknowledged any more */
    int failed_errno;
    uint64_t failed_segment; /* whose sync it was */
    uint64_t wanted_ticket; /* the thread is to sync up to here */
    uint64_t first_unsynced_ns; /* when the oldest accepted write that is not durable came */
    bool awaits_idle;       /* the sync thread wakes at idle_at_ns, and then looks whether a COMMIT alone is due */
    uint64_t idle_at_ns;

    /* lock: files */
    lw_segment *successor;    /* mapped, named, and without a header; NULL: not ready yet */
    bool successor_to_wipe;   /* a file has its name, but may hold a part of a header that never counted */
    bool preparing;           /* a file is being made */
    lw_error prepare_error;   /* of the last try, until the next; status LW_OK: none */
    uint64_t *spares;         /* .spare files that can be used again */
    size_t spare_count;
    uint64_t tail_began_ns;   /* when it became the tail, in this process */
    uint64_t fill_ns;         /* what it took to fill a file of segment_bytes, the last time; 0: not known */
    lw_segment *obsolete;     /* removed, but not yet unmapped; the keeper's alone */
    uint64_t removed_below;   /* segments of smaller numbers have lost their names, or could not */

    /* atomic copies, for who reads without a lock */
    uint64_t shown_first;
    uint64_t shown_last;
    uint64_t shown_durable;
    uint64_t shown_durable_ticket;
    uint64_t shown_sync_ns;   /* one sync, of late */
    uint64_t shown_synced_ns; /* when the last one ended */
    unsigned calls; /* in progress */
    bool closing;   /* no new calls */
    bool draining;  /* who has the turn drains the queue, and may be rolling */

    /* lock: life */
    bool closed;   /* waiters give up */
    bool replaced; /* another directory stands where the log was opened */
    bool released; /* close is done */
    bool stopping; /* the threads end */
    bool threads_running;
    pthread_t syncer;
    pthread_t keeper;
    lw_subscriber *subscribers;

    /* lock */
    lw_stats stats;
    lw_histogram sync_times;
    uint64_t synced_entries_at; /* stats.entries when the last sync began */
};

/* True where the handle was inherited by a forked child; and the error for that. */
bool lw_forked(const lw_wal *);
int lw_fail_forked(lw_error *);
/* deadline_ns on lw_now_ns; 0: none. May return early. */
void lw_cond_wait_until(pthread_cond_t *, pthread_mutex_t *, uint64_t deadline_ns);
/* With `lock` held: wakes all who wait for something to move, threads and subscribed descriptors. */
void lw_announce(lw_wal *);
/* With `lock` held: from now on nothing is acknowledged; all who wait hear of it, and the queue is refused. Where it failed before,
 * the first failure is kept. `segment`: whose sync it was; 0: none's. */
void lw_fail_log(lw_wal *, int sys_errno, uint64_t segment);
/* With `lock` held: the error of a log that failed; of one that failed or closed, or LW_OK. */
int lw_fail_synced(const lw_wal *, lw_error *);
int lw_check_usable(lw_wal *, lw_error *);
/* With `lock` held: the same for a write, which the directory's place may forbid as well. */
int lw_check_writable(lw_wal *, lw_error *);
/* With accept_lock held, and not `lock`: an error, from now on for every write, where another directory has taken the place of
 * this one. */
int lw_check_place(lw_wal *, lw_error *);
/* With `lock` held: the positions that are read without it. */
void lw_show_positions(lw_wal *);
/* With `lock` held: true when the next segment has to be made. */
bool lw_wants_successor(const lw_wal *);
/* With `lock` held: the number of the oldest segment that holds something visible, else of the tail. */
uint64_t lw_oldest_needed(const lw_wal *);
/* With `lock` held: true while the first write in the queue has to wait for a successor. */
bool lw_waits_for_successor(const lw_wal *);
/* Around every public call: LW_CLOSED once the log is closed or in a forked child. Every entered call is left. */
int lw_enter(lw_wal *, lw_error *);
void lw_leave(lw_wal *);

#endif
