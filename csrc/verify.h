/*
 * Verification: reads everything that a log relies on, checks it, and names what is damaged. It writes nothing and takes no lock,
 * so it works beside a writer, and on a log that does not open.
 *
 *     verify.c            the order
 *     verify_directory.c  which files there are, LOCK, and which file is the last segment
 *     verify_survey.c     which older segments the log needs, and what verifying each needs to know of younger ones
 *     verify_pages.c      header, close mark and footer of one segment file
 *     verify_frames.c     the frames of one segment: replayed while they are whole, then one by one behind damage
 *     verify_index.c      the offset index of one segment
 *     verify_affected.c   which entries a segment holds, and which of them depend on what is damaged
 *     verify_segment.c    one segment, from mapping it to its list of findings
 *     verify_findings.c   the list of findings
 *
 * The order: the directory; the survey, which reads only pages, from the last segment back to the one that holds the first index;
 * then the frames, the offset index and the footer of each segment, from the oldest one on. So findings come in log order. What the
 * log holds has to be known before the survey. The close mark of a closed log says it. In a log that is not closed only the frames
 * of the last segment do, so there that segment is read, and its findings are told, before all others. The survey, too, reads the
 * frames of a segment that has lost its footer. It forgets what it finds in them: the segment is read again in its turn.
 *
 * The findings of a segment are collected first. They are told only if the file is still what it was at the beginning; else the
 * segment is read again. Where the last segment or the directory has changed, verification begins again with the directory.
 * Segments that are done are not read a second time, and no finding is told twice.
 *
 * A writer's purge takes away the very segments that are next. A segment that is gone is passed over, so a purge that goes on does
 * not hold verification up. At the end of such a pass, what the log holds is read once more: the entries of what is gone must be
 * purged by now. Else verification begins again, and finds the segment missing.
 */
#ifndef LW_VERIFY_H
#define LW_VERIFY_H

#include "fs.h"
#include "walk.h"

/* The pages of a file with a segment's name. A page is present (has_...) if it verifies and belongs to this log and this number. */
typedef struct lw_pages {
    uint64_t number;
    char name[LW_NAME_SIZE];
    lw_file *file; /* open, or NULL */
    uint64_t file_size;
    uint64_t size; /* of the segment, at most that of the file; a multiple of LW_PAGE_SIZE */
    bool has_header;
    bool has_mark;
    bool has_footer;
    bool mark_is_zero;
    bool is_foreign; /* the header verifies, but belongs to another log or another number */
    int unreadable; /* an errno value: the system cannot read the file; 0: it can */
    bool has_identity; /* from any of the three pages */
    lw_identity identity;
    uint32_t header_check; /* as the header has it, verified or not */
    lw_page header;
    lw_page mark;
    lw_page footer;
    uint8_t mark_bytes[LW_PAGE_SIZE];
} lw_pages;

/* A finding, with what is needed to find out which entries depend on it. */
typedef struct lw_damage {
    lw_finding finding;
    uint64_t size;   /* of what is damaged, in bytes, from finding.offset on; 0: unknown */
    bool is_frame;   /* among the frames: the offset index tells which entries depend on it */
    int type;        /* of the frame, an lw_frame_type; 0: its header does not verify */
    uint64_t before; /* index of the last entry recognised before it; 0: none */
    uint64_t after;  /* index of the first entry recognised behind it; 0: none */
} lw_damage;

/* Replaying the frames of a segment, batch by batch. */
typedef struct lw_replay {
    lw_walk walk;
    uint64_t until;        /* where the frames must end; 0: not known */
    uint64_t stop_at;      /* in: pauses at the first batch from here on */
    bool stopped;          /* no whole batch begins where the replay has come to */
    uint64_t early_commit; /* offset of a batch whose watermark lies ahead of the batch; 0: none */
    bool wants_mark;       /* the close mark page may be torn */
    bool has_epoch;
    lw_page mark_at_epoch; /* if wants_mark: the close mark that described the frames before the last EPOCH */
} lw_replay;

/* Reading frames one by one, going on behind what is damaged. */
typedef struct lw_scan {
    struct lw_verify *verify; /* gets the findings */
    const lw_segment *segment;
    uint64_t at;
    uint64_t until;
    uint64_t stop_at;
    uint64_t seek_from; /* where the bytes begin in which no frame is recognised; 0: not seeking */
    uint32_t chain;
    bool chain_is_known;
    bool done;
    uint64_t last_entry;
    uint64_t batch_first; /* of the entries since the last COMMIT; 0: none */
    uint64_t lowest;      /* index of an ENTRY or TRUNCATE; 2^64-1: none */
    lw_bounds bounds;     /* approximate, since damaged frames are left out */
    lw_position watermark; /* the highest seen */
    bool out_of_memory;
} lw_scan;

typedef enum lw_verify_phase {
    LW_VERIFY_DIRECTORY,
    LW_VERIFY_TAIL, /* begins with the last segment */
    LW_VERIFY_REPLAY,
    LW_VERIFY_SCAN,
    LW_VERIFY_SEGMENT,
    LW_VERIFY_BEHIND,   /* the files behind the last segment */
    LW_VERIFY_SURVEY,   /* the pages of the next older segment */
    LW_VERIFY_OBSOLETE, /* the files before the oldest segment that is needed */
    LW_VERIFY_NEEDED,   /* begins with the next segment that the survey has noted */
    LW_VERIFY_DONE
} lw_verify_phase;

/* A segment that the log needs, or a stretch of missing ones, and what the younger segments say of it. */
typedef struct lw_needed {
    uint64_t number;       /* of missing ones: the last */
    uint64_t missing_from; /* the first of missing ones; 0: the segment is there */
    uint64_t bytes;        /* that are left to read of it, as its pages say */
    uint64_t lowest;       /* these are what lw_verify has under the same names */
    uint64_t limit;
    bool lowest_is_lost;
} lw_needed;

struct lw_verify {
    lw_fs *fs;
    lw_wal *wal;
    unsigned process;
    lw_error *error; /* of the running call */
    lw_verify_phase phase;
    lw_verify_progress progress;
    unsigned restarts;
    unsigned rereads; /* of the present segment */
    bool may_repeat;  /* something may be read that was read before */
    /* the directory */
    uint64_t *numbers; /* of all segment files, ascending */
    size_t number_count;
    size_t tail_at; /* in `numbers` */
    uint8_t log_id[LW_LOG_ID_SIZE];
    bool has_log_id;
    bool lock_is_damaged;
    lw_decoded lock_decoded;
    /* the findings of the present segment; `told` of them, once they are ready */
    lw_damage *damage;
    size_t damage_count;
    size_t damage_capacity;
    size_t told;
    bool is_ready;
    lw_damage *all_told; /* every finding that was told */
    size_t all_told_count;
    size_t all_told_capacity;
    /* the present segment */
    lw_pages here;
    lw_pages after; /* of its successor, if has_after */
    bool has_after;
    lw_segment *segment;
    bool is_tail;
    bool is_surveyed;  /* only to find out which entries it holds */
    bool is_closed;    /* the tail was closed: its close mark says where it ends */
    bool knows_start;  /* the state before the first frame is known */
    bool is_whole;     /* all frames up to the end were replayed */
    bool reads_frames; /* false: the segment is not mapped, or could not be read */
    uint64_t counted;  /* bytes of the present segment in progress.bytes */
    lw_replay replay;
    lw_scan scan;
    /* what the log holds */
    lw_state state;
    lw_position end;
    uint64_t first;
    uint64_t lowest;     /* every entry from this index on was found in a segment */
    uint64_t limit;      /* entries of older segments from this index on were replaced */
    bool lowest_is_lost; /* damage hides whether a segment holds the entry before `lowest` */
    /* the survey's result */
    lw_needed *needed; /* newest first */
    size_t needed_count; /* of those that are not done */
    size_t needed_capacity;
    uint64_t bytes_left; /* of all of them */
    bool tail_is_last;   /* the tail is closed, and among them */
    lw_pages tail;       /* if so: as it was then */
    uint64_t gone_next;  /* the entries of segments that have gone meanwhile are below; 0: none has gone */
    /* across restarts */
    uint64_t done_low; /* the segments done_low..done_high are done; none where low > high */
    uint64_t done_high;
    uint64_t purged_next;       /* a whole pass is over, and it remains to see that the entries below are purged; 0: no */
    lw_verify_progress so_far;  /* if so: at the end of that pass */
    uint64_t missing_number;    /* the lowest segment that was missing in an earlier pass; 0: none */
    uint64_t missing_successor; /* the successor of the tail that was missing in an earlier pass; 0: none */
};

/* Where the entries of a segment are: as its footer or close mark says, else as its frames show. */
typedef struct lw_placed {
    uint64_t first;
    uint64_t next;
    uint64_t lowest_override;
    const lw_page *page; /* describes the offset index; NULL: there is none in the file */
    bool index_is_sound;
    uint64_t visible_first; /* entries that the log reads from this segment */
    uint64_t visible_next;
} lw_placed;

/* Functions that return a status fill v->error where it is not LW_OK. LW_NOT_FOUND means that files changed meanwhile. */

/* ---- verify.c ---- */

/* Takes the lw_fs over, also on failure. */
int lw_verify_open_on(lw_fs *, lw_wal *, lw_verify **, lw_error *);
/* The present segment was read as far as this. */
void lw_verify_count(lw_verify *, uint64_t bytes);
/* Lets go of the present segment and its file. */
void lw_verify_let_go(lw_verify *);
/* True for a segment that an earlier pass has verified. */
bool lw_verify_is_done(const lw_verify *, uint64_t number);

/* ---- verify_findings.c ---- */

/* Adds a finding in the file of that number (0: LOCK). NULL: no memory. */
lw_damage *lw_verify_add(lw_verify *, lw_finding_kind, uint64_t number, uint64_t offset, bool needed, const char *what);
/* Sets the entries concerned; none where first > last. */
void lw_damage_range(lw_damage *, uint64_t first, uint64_t last);
int lw_verify_no_memory(lw_verify *);
/* LW_OK with the next finding that is ready; LW_NOT_FOUND where none is left. */
int lw_verify_tell(lw_verify *, lw_finding *);

/* ---- verify_directory.c ---- */

/* Reads names and LOCK, and finds the last segment: v->tail_at, v->here. *have is false where no file is a segment; then the
 * findings say all. */
int lw_verify_directory(lw_verify *, bool *have);
/* The files behind the last segment, of which one may be a prepared successor. */
int lw_verify_behind(lw_verify *);
/* The files before the oldest segment that is needed: checks only that they belong to this log. */
int lw_verify_obsolete(lw_verify *);

/* ---- verify_survey.c ---- */

/* Notes the present segment, a closed tail, as the one to be read last. */
int lw_verify_note_closed_tail(lw_verify *);
/* The next older segment's pages. Sets v->phase. */
int lw_verify_survey(lw_verify *);
/* When frames had to be read for it. */
int lw_verify_survey_end(lw_verify *);
/* Adds the finding that these segments are missing. */
int lw_verify_missing(lw_verify *, const lw_needed *);

/* ---- verify_pages.c ---- */

/* LW_NOT_FOUND: there is no such file. A file that the system cannot read is LW_OK. Always close them. */
int lw_pages_load(lw_verify *, uint64_t number, lw_pages *);
/* *footer of that segment, where it *has a valid one. LW_OK also where there is no such file. */
int lw_pages_footer(lw_verify *, uint64_t number, lw_page *footer, bool *has);
void lw_pages_close(lw_verify *, lw_pages *);
/* Fails because of a file in a format that this version does not know. */
int lw_verify_fail_newer(lw_verify *, const char *name);
bool lw_verify_is_zero(const uint8_t *bytes, size_t size);
/* Adds a finding that the file of that number cannot be read. */
int lw_verify_add_unreadable(lw_verify *, uint64_t number, uint64_t offset, int sys_errno);
/* What is wrong with the pages of the present segment. */
int lw_verify_pages(lw_verify *);
/* The close mark that a close at the end of these frames stores. */
void lw_verify_expected_mark(const lw_segment *, const lw_state *, lw_page *mark);
/* The file is shorter than its header says. */
bool lw_pages_are_cut(const lw_pages *);
/* The file has room for the pages and for frames. */
bool lw_pages_have_room(const lw_pages *);

/* ---- verify_frames.c ---- */

/* Each reads some of the present segment's frames, and sets v->phase. */
int lw_verify_replay(lw_verify *);
int lw_verify_scan(lw_verify *);

/* ---- verify_index.c ---- */

/* Sets index_is_sound. */
int lw_verify_index(lw_verify *, lw_placed *);

/* ---- verify_affected.c ---- */

/* What the log holds, as its last segment says, which is the present one. */
void lw_verify_note_tail(lw_verify *);
/* Which entries the log reads from the present segment. */
int lw_verify_place(lw_verify *, lw_placed *);
/* *first: the first entry that is lost with the segments behind `number`, where that one's footer says a later one. */
int lw_verify_first_behind(lw_verify *, uint64_t number, uint64_t *first);
/* Drops what is no damage, finds which entries depend on the rest, and joins what is one. */
void lw_verify_affected(lw_verify *, const lw_placed *);
/* Gives damaged pages their range, and takes the entries concerned off the count. */
void lw_verify_count_entries(lw_verify *, const lw_placed *);
/* How many entries the findings of that segment that were told have lost. */
uint64_t lw_verify_lost_before(const lw_verify *, uint64_t number, const lw_placed *);

/* ---- verify_segment.c ---- */

/* Maps the present segment, v->here, and begins with its frames. */
int lw_verify_segment_begin(lw_verify *);
/* When its frames were read: all the rest. */
int lw_verify_segment_end(lw_verify *);
/* Instead of the end: only which entries depend on the damage found so far. */
int lw_verify_segment_stop(lw_verify *);

#endif
