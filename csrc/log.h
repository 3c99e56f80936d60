/*
 * The log in memory, shared by the files that write it (accept), make it durable (syncer), look after its files (keeper) and
 * read it (reader). wal.c puts them together.
 *
 * Locks, in the order in which they are taken:
 *   accept_lock   one writer at a time, from checking a batch to publishing it; held by a roll, and so across its sync
 *   lock          everything that is marked "lock"; held for moments, never across I/O or a touch of a mapping
 * `state.bounds`, `index`, `tail` and the tail's own fields are changed under both, so either is enough to read them.
 */
#ifndef LW_LOG_H
#define LW_LOG_H

#include <pthread.h>

#include "histogram.h"
#include "index.h"

enum {
    LW_MAX_SUBSCRIBERS = 64,
    /* Left free behind entries, so that on a full disk a purge or reset still has a place to be written. */
    LW_CONTROL_RESERVE = 4096,
};

typedef struct lw_subscriber {
    int descriptor; /* -1: free */
    bool armed;
} lw_subscriber;

/* A write that waits for a roll, with copies of all it points to. */
typedef struct lw_queued {
    struct lw_queued *next;
    uint64_t ticket;
    lw_batch batch;
    lw_hard_state hard_state;
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
    lw_segment **segments; /* oldest first; the last is the tail */
    size_t segment_count;
    size_t segment_capacity;
    lw_segment *tail;
    bool tail_is_spent;       /* another batch as the last one would not fit: the next sync may as well seal it */
    uint64_t last_ticket;     /* given out */
    uint64_t accepted_ticket; /* all up to it are accepted or refused */
    lw_queued *queue_first;
    lw_queued **queue_end;
    lw_refusal *refusals;

    /* lock: what is durable */
    lw_position durable;
    uint64_t durable_ticket;
    uint64_t durable_index;
    uint64_t durable_floor; /* first - 1, as far as that is durable: what a purge that is only accepted raised does not count */
    uint64_t syncing_index; /* what durable_index becomes when the running sync succeeds */
    uint64_t syncing_floor;
    bool sync_running;
    bool failed; /* a sync failed: nothing is acknowledged any more */
    int failed_errno;
    uint64_t failed_segment; /* whose sync it was */
    uint64_t wanted_ticket; /* the thread is to sync up to here */
    uint64_t first_unsynced_ns; /* when the oldest accepted write that is not durable came */

    /* lock: files */
    uint64_t successor;       /* its number, when it is ready; 0: not yet */
    bool successor_to_wipe;   /* its file has its name, but may hold a part of a header that never counted */
    uint64_t successor_size;  /* of it, in bytes that are allocated */
    bool successor_wanted;    /* a roll waits for it */
    uint64_t prepare_tries;
    bool preparing;           /* a file is being made */
    lw_error prepare_error;   /* of the last try, until the next; status LW_OK: none */
    uint64_t *spares;         /* .spare files that can be used again */
    size_t spare_count;
    uint64_t next_spare;      /* number for the name of the next one that is made */
    uint64_t removal_wanted;  /* passes over the files that nothing needs: asked for, */
    uint64_t removal_done;    /* done, so that the names are gone, */
    uint64_t removal_freed;   /* and the space is there again */

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
    bool stopping; /* the threads end */
    bool threads_running;
    pthread_t syncer;
    pthread_t keeper;
    lw_subscriber subscribers[LW_MAX_SUBSCRIBERS];

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
/* Makes room for one segment more. Needs `lock`. */
int lw_reserve_segment(lw_wal *);
/* With `lock` held: the error of a log that failed; of one that failed or closed, or LW_OK. */
int lw_fail_synced(const lw_wal *, lw_error *);
int lw_check_usable(lw_wal *, lw_error *);
/* With `lock` held: the positions that are read without it. */
void lw_show_positions(lw_wal *);
/* With `lock` held: true when the next segment has to be made. Not at once after a roll, so that a purge can give its
 * file, but long before the tail is full. */
bool lw_wants_successor(const lw_wal *);
/* Around every public call: LW_CLOSED once the log is closed or in a forked child. Every entered call is left. */
int lw_enter(lw_wal *, lw_error *);
void lw_leave(lw_wal *);

#endif
