/*
 * A Raft log on disk: the public C interface. Rules:
 *
 *  1. Every function that can fail returns an lw_status and fills the lw_error it was given; on LW_OK the lw_error is
 *     untouched.
 *  2. A handle may be used by any number of threads at once. lw_wal_free alone must be the last call.
 *  3. What a pointer argument points to is copied or done with before the call returns.
 *  4. A write is *accepted* when it has its place in the log: readers see it, and it survives the death of the process. It is
 *     *durable* when an fdatasync that covers it has succeeded: it survives power loss. A ticket stands for a write;
 *     tickets are given out in the order in which writes are accepted.
 *  5. After fork the child's calls all return LW_CLOSED; the parent is not affected.
 */
#ifndef LOGWAL_H
#define LOGWAL_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */
typedef enum lw_status {
    LW_OK = 0,
    LW_PENDING,
    LW_INVALID_ENTRY,
    LW_ENTRY_TOO_LARGE,
    LW_CONFLICT,
    LW_PURGED,
    LW_CORRUPTION,
    LW_UNSUPPORTED_FORMAT,
    LW_LOCKED,
    LW_DISK_FULL,
    LW_SYNC_FAILED,
    LW_CLOSED,
    LW_READ_ONLY,
    LW_IO,
    LW_NO_MEMORY,
    LW_NOT_FOUND,
    LW_TIMED_OUT,
    LW_OUT_OF_RANGE,
    LW_BUSY,
    LW_QUEUE_FULL,
    LW_LOG_NOT_FOUND
} lw_status;

/* What went wrong. Fields that are not known are 0 or empty; indices are known where has_index is 1. */
typedef struct lw_error {
    int status;
    int sys_errno;
    int has_index;
    int has_offset;
    uint64_t index;      /* or the first of a range */
    uint64_t last_index; /* the same, or the last of a range */
    uint64_t offset;     /* in bytes, in `file` */
    char file[48];
    char detail[232];
} lw_error;

typedef enum lw_operation { LW_PERSIST, LW_TRUNCATE, LW_REPLACE, LW_PURGE, LW_RESET } lw_operation;

enum { LW_MAX_VOTE = 255, LW_MAX_EXTRA = 2048 };

typedef struct lw_log_id {
    uint64_t index;
    uint64_t term;
} lw_log_id;

/* A place in the log; ordered by segment, then offset. */
typedef struct lw_position {
    uint64_t segment;
    uint64_t offset;
} lw_position;

typedef struct lw_entry {
    uint64_t index;
    uint64_t term;
    const void *payload;
    uint64_t size; /* of the payload, in bytes */
    uint8_t kind;
} lw_entry;

typedef struct lw_hard_state {
    uint64_t term;
    uint64_t commit_index;
    uint8_t has_vote;
    uint16_t vote_size;
    uint16_t extra_size;
    uint8_t vote[255];
    uint8_t extra[2048];
} lw_hard_state;

/* One write, atomic as a whole. Which fields count depends on the operation. */
typedef struct lw_batch {
    lw_operation operation;
    lw_log_id at;                    /* PURGE: the cutoff. TRUNCATE, REPLACE: .index is the first index dropped */
    const lw_entry *entries;         /* PERSIST, REPLACE */
    size_t count;
    const lw_hard_state *hard_state; /* PERSIST: NULL, or saved in the same batch */
} lw_batch;

typedef struct lw_options {
    uint64_t segment_bytes;
    uint64_t max_entry_bytes;
    uint64_t max_queue_bytes; /* of writes that wait for a rotation */
    uint32_t spare_segments;
    uint32_t sync_interval_ms; /* 0: no sync is started that nobody asked for */
    uint8_t create;
    uint8_t read_only;
} lw_options;

typedef struct lw_stats {
    uint64_t entries; /* accepted since open; so are bytes (of payload) and batches */
    uint64_t bytes;
    uint64_t batches;
    uint64_t syncs;
    uint64_t synced_entries;
    uint64_t sync_p50_ns;
    uint64_t sync_p99_ns;
    uint64_t sync_max_ns;
    uint64_t segments;
    uint64_t spares;
    uint64_t recovery_ns;
    uint64_t recovered_entries;
    uint64_t cut_bytes;   /* at open: torn off the tail */
    uint64_t cut_batches; /* of these, batches whose COMMIT could still be recognised */
    uint64_t walked_bytes; /* frames read one by one, at open or by the last refresh */
    uint64_t removal_failures; /* files that nothing needs and that could not be removed */
    int removal_errno;         /* of the last of them */
    uint64_t rotations_waited; /* since open: for which no successor was ready */
    uint64_t queue_bytes;      /* of writes that wait for a rotation */
} lw_stats;

typedef struct lw_segment_info {
    uint64_t number;
    uint64_t size;
    uint64_t end; /* of the frames, a byte offset */
    uint64_t first_index; /* of the entries that are visible */
    uint64_t next_index;
    int sealed;
} lw_segment_info;

typedef struct lw_wal lw_wal;

/* Recovers (blocks for it) and opens. A relative path is taken from the working directory now. */
int lw_wal_open(const char *path, const lw_options *, lw_wal **, lw_error *);
/* Flushes, then releases thread, descriptors, mappings and lock, even if the flush fails. Later calls do nothing. */
int lw_wal_close(lw_wal *, lw_error *);
/* Frees the handle; one that was not closed is abandoned: released without a flush. */
void lw_wal_free(lw_wal *);

/* What to do while another thread copies its batch into the log: wait a moment, and then queue a copy; or return LW_BUSY. */
typedef enum lw_patience { LW_QUEUE, LW_TRY } lw_patience;

/* LW_OK: accepted. LW_PENDING: copied into a queue, since the write meets a rotation, or others that wait for one; it
 * is accepted in its turn, when the rotation is done. LW_QUEUE_FULL: there is no room in that queue. Never waits for the disk.
 * Any status but the first two means that nothing was done.
 * A PERSIST without entries and hard state writes nothing, and its ticket covers all that came before: a flush. */
int lw_wal_submit(lw_wal *, const lw_batch *, lw_patience, uint64_t *ticket, lw_error *);
/* LW_PENDING until the write is accepted (or durable, if asked for), then LW_OK, or the error that refused it: told once, so
 * only whoever submitted the ticket asks. */
int lw_wal_poll(lw_wal *, uint64_t ticket, int durable, lw_error *);
/* The same for a write that was accepted at once, or of somebody else: not told what was refused. */
int lw_wal_poll_accepted(lw_wal *, uint64_t ticket, int durable, lw_error *);
/* The same, but waits; durable: and starts an fdatasync where none is on the way. timeout_ns < 0: as long as it takes. */
int lw_wal_wait(lw_wal *, uint64_t ticket, int durable, int64_t timeout_ns, lw_error *);
/* The same for a thread that has to look at signals: returns LW_TIMED_OUT after slice_ns, to be called again, and does a sync
 * itself only where the last one was short and a moment ago, as no signal ends an fdatasync. */
int lw_wal_wait_slice(lw_wal *, uint64_t ticket, int durable, int64_t slice_ns, lw_error *);
/* The same until all up to the ticket is durable, for who did not submit it, and is not told whether it was refused. */
int lw_wal_wait_synced_slice(lw_wal *, uint64_t ticket, int64_t slice_ns, lw_error *);
uint64_t lw_wal_durable_ticket(lw_wal *);
/* What one fdatasync took of late, about, and when the last one ended, on lw_now_ns; 0 before the first. */
uint64_t lw_wal_sync_ns(lw_wal *);
uint64_t lw_wal_synced_ns(lw_wal *);
uint64_t lw_now_ns(void); /* CLOCK_MONOTONIC */
/* Waits until files that a durable purge, reset or truncate made useless are gone, but for the blocks of large ones, which the
 * system takes back soon after. timeout_ns < 0: as long as it takes; else LW_TIMED_OUT. */
int lw_wal_wait_removed(lw_wal *, int64_t timeout_ns, lw_error *);
/* After LW_QUEUE_FULL: waits until a write may be queued again. timeout_ns as above. */
int lw_wal_wait_room(lw_wal *, int64_t timeout_ns, lw_error *);

/* Writes 8 bytes to the descriptor once each time something moves (writes queued were accepted, writes became durable, the
 * log failed or closed) after lw_wal_arm was called for it. The descriptor stays the caller's. */
int lw_wal_subscribe(lw_wal *, int descriptor, lw_error *);
void lw_wal_unsubscribe(lw_wal *, int descriptor);
/* Arms the descriptor for who waits until the ticket is accepted, or durable; then an fdatasync is started on the thread
 * where none is on the way. Where it is so already, it is told at once: nothing is missed between a look and the arming. */
void lw_wal_arm(lw_wal *, int descriptor, uint64_t ticket, int durable);

uint64_t lw_wal_first_index(lw_wal *);
uint64_t lw_wal_last_index(lw_wal *);
uint64_t lw_wal_durable_index(lw_wal *);
/* LW_OK or LW_NOT_FOUND. From memory, or from the header of the entry's frame. */
int lw_wal_term(lw_wal *, uint64_t index, uint64_t *term, lw_error *);
int lw_wal_boundary(lw_wal *, lw_log_id *, lw_error *);
int lw_wal_hard_state(lw_wal *, lw_hard_state *, lw_error *);
/* Waits until `index` is durable. LW_OUT_OF_RANGE beyond the last index, LW_CONFLICT if it was replaced meanwhile. */
int lw_wal_wait_durable(lw_wal *, uint64_t index, int64_t timeout_ns, lw_error *);
/* The same in two steps, for who does not want to block: the ticket to wait for, and after it the check. */
int lw_wal_durable_target(lw_wal *, uint64_t index, uint64_t *ticket, lw_position *place, lw_error *);
int lw_wal_check_durable(lw_wal *, uint64_t index, const lw_position *place, lw_error *);

/* The entries first..last, clipped to what exists, from one state of the log; stops at max_bytes of payload, never before
 * one entry (UINT64_MAX: no limit). They are packed in one buffer, each at a multiple of 8: index, term, size, kind (8 bytes
 * each), payload. The buffer is the caller's: lw_buffer_free. */
int lw_wal_read(lw_wal *, uint64_t first, uint64_t last, uint64_t max_bytes, uint8_t **buffer, size_t *size, size_t *count,
                lw_error *);
void lw_buffer_free(uint8_t *buffer);

/* What may be read on an event loop's own thread, in bytes of payload: to verify and copy it takes about as long as to have
 * another thread do it. */
enum { LW_LARGE_ENTRY_BYTES = 1 << 20 };
/* From the header of the entry's frame. LW_NOT_FOUND where the log does not hold it. */
int lw_wal_payload_size(lw_wal *, uint64_t index, uint64_t *size, lw_error *);
/* Into memory of the caller's, without a buffer between. LW_NOT_FOUND where the log does not hold an entry at `index` whose
 * payload has this very size: it was replaced since the caller asked for that. */
int lw_wal_copy_entry(lw_wal *, uint64_t index, uint8_t *payload, uint64_t size, lw_entry *entry, lw_error *);

/* Read-only handles: shows the log as of now; costs what was appended since. LW_IO with EAGAIN: the log changes faster than it can be
 * read. Where it fails the handle shows what it showed before, or a later state of the log. */
int lw_wal_refresh(lw_wal *, lw_error *);
/* LW_OK while the handle is open, in the process that opened it. */
int lw_wal_check_open(lw_wal *, lw_error *);
/* 1 in a child that was forked since the handle was opened: it holds nothing of the log. */
int lw_wal_is_forked(const lw_wal *);
void lw_wal_stats(lw_wal *, lw_stats *);
/* Fills at most `capacity` rows with the segments whose numbers are above `after`, oldest first; returns how many it filled. */
size_t lw_wal_segments(lw_wal *, uint64_t after, lw_segment_info *, size_t capacity);

/* Verification: reads everything that the log in a directory relies on, also where it does not open, and changes nothing. */
typedef enum lw_finding_kind {
    LW_FOUND_LOCK,
    LW_FOUND_HEADER,
    LW_FOUND_CLOSE_MARK,
    LW_FOUND_FRAME,
    LW_FOUND_COMMIT,
    LW_FOUND_CHAIN, /* each is valid, but they do not go together */
    LW_FOUND_OFFSET_INDEX,
    LW_FOUND_FOOTER,
    LW_FOUND_SHORT_FILE,
    LW_FOUND_MISSING_SEGMENT,
    LW_FOUND_FOREIGN_FILE,
    LW_FOUND_UNREADABLE /* the system reports an error */
} lw_finding_kind;

typedef struct lw_finding {
    int kind;
    int needed;    /* what the log holds now, or its next recovery, depends on it */
    int has_index;
    uint64_t segment; /* 0: none, as LOCK is none */
    uint64_t offset;  /* in bytes, in `file` */
    uint64_t first_index;
    uint64_t last_index; /* 2^64-1: not known */
    char file[48];
    char detail[184];
} lw_finding;

typedef struct lw_verify_progress {
    uint64_t bytes;       /* verified so far */
    uint64_t total_bytes; /* as far as known by now */
    uint64_t segments;
    uint64_t entries;     /* found whole so far, of first_index..next_index - 1 */
    uint64_t first_index; /* this and next_index are 0 until they are known */
    uint64_t next_index;
} lw_verify_progress;

typedef struct lw_verify lw_verify;

/* `wal`: a handle, whose closing ends the verification, and which must outlive it; or NULL. */
int lw_verify_open(const char *path, lw_wal *wal, lw_verify **, lw_error *);
/* LW_OK: a finding. LW_PENDING: none yet, call again: a call reads about 4 MiB, and as much again where it meets damage.
 * LW_NOT_FOUND: that was all. Any other status ends the verification. One thread at a time. */
int lw_verify_next(lw_verify *, lw_finding *, lw_verify_progress *, lw_error *);
/* Ends it early: the calls that follow give what was found until now, and then LW_NOT_FOUND. */
int lw_verify_stop(lw_verify *, lw_error *);
void lw_verify_free(lw_verify *);

uint32_t lw_crc32c(uint32_t crc, const void *data, size_t size);
uint32_t lw_crc32c_portable(uint32_t crc, const void *data, size_t size);

/* CPython: appends to the list at `list` the functions that csrc/python makes for this handle. `owner` is kept alive as
 * long as they are. All but the first are addresses of objects (id()). Returns how many functions; 0 elsewhere. */
int lw_python_bind(lw_wal *, size_t owner, size_t list, size_t entry_type, size_t make_error);
/* cffi: end */

#endif
