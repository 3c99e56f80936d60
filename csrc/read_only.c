#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "read_only.h"

#include <errno.h>
#include <time.h>

#include "crc32c.h"
#include "error.h"
#include "follow.h"
#include "life.h"
#include "recovery.h"

enum {
    MOST_JUDGEMENTS = 20,
    JUDGE_FOR_NS = 1000000000, /* counted from the end of the first, and two are always made */
    PAUSE_NS = 1000000,        /* before the second judgement; longer before each one after it */
};

/* ---- what a judgement saw ---- */

/* Checksums of what an error rests on. Where two judgements have the same, nothing changed between them, so it was no writer. The
 * end of the tail is not a part of it, nor what was written behind the damage: a writer may go on beside real damage. */
typedef struct sight {
    uint32_t names;    /* of all segment files */
    uint32_t segments; /* number, size, header and footer of those that were read */
    uint32_t error;    /* what is wrong, and where */
    uint32_t place;    /* the file that it is in: size, header, and the page at the place */
} sight;

static uint32_t look_at_segments(const lw_recovered *found)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < found->segments.count; i++) {
        const lw_segment *segment = lw_segment_list_items(&found->segments)[i];
        const uint64_t told[] = {segment->identity.number, segment->size, segment->header_check, segment->footer_check};
        sum = lw_crc32c(sum, told, sizeof told);
    }
    return sum;
}

static uint32_t look_at_error(const lw_error *error)
{
    const uint64_t told[] = {(uint64_t)error->status, (uint64_t)error->sys_errno, error->offset};
    return lw_crc32c(lw_crc32c(0, told, sizeof told), error->file, sizeof error->file);
}

/* The page of the file that holds `offset`, as far as there is one. */
static int look_at_page(lw_fs *fs, lw_file *file, uint64_t size, uint64_t offset, uint8_t page[LW_PAGE_SIZE])
{
    uint64_t at = offset - offset % LW_PAGE_SIZE;
    if (at >= size)
        return 0;
    return fs->read(fs, file, at, page, (size_t)(size - at < LW_PAGE_SIZE ? size - at : LW_PAGE_SIZE));
}

static uint32_t look_at_place(lw_fs *fs, const lw_error *error)
{
    uint8_t pages[2][LW_PAGE_SIZE] = {{0}};
    uint64_t told[2] = {0, 0};
    lw_file *file;
    if (error->file[0] == 0)
        return 0;
    int failed = fs->open(fs, error->file, 0, &file);
    if (!failed) {
        failed = fs->size(fs, file, &told[0]);
        if (!failed)
            failed = look_at_page(fs, file, told[0], 0, pages[0]);
        if (!failed)
            failed = look_at_page(fs, file, told[0], error->offset, pages[1]);
        fs->close(fs, file);
    }
    told[1] = (uint64_t)failed;
    return lw_crc32c(lw_crc32c(0, told, sizeof told), pages, sizeof pages);
}

static sight look(lw_fs *fs, const lw_recovered *found, const lw_error *error)
{
    return (sight){found->names, look_at_segments(found), look_at_error(error), look_at_place(fs, error)};
}

static bool same(const sight *a, const sight *b)
{
    return a->names == b->names && a->segments == b->segments && a->error == b->error && a->place == b->place;
}

/* ---- one judgement ---- */

static int fail_outrun(lw_error *error)
{
    (void)lw_fail_file(error, LW_IO, NULL,
                       "the log changes faster than it can be read: nothing is wrong with it; try again, or when the writer "
                       "has less to do");
    error->sys_errno = EAGAIN;
    return LW_IO;
}

/* What a writer at work can bring about. */
static bool may_pass(int status)
{
    return status == LW_CORRUPTION || status == LW_IO;
}

/* Whether every entry of the state has its place in a segment that is mapped. */
static bool is_complete(const lw_wal *view)
{
    const lw_bounds *bounds = &view->state.bounds;
    return bounds->first == bounds->next ||
           (view->index.count > 0 && lw_index_runs(&view->index)->first <= bounds->first);
}

/* Oldest first, as a writer uses them again in that order. */
static bool any_was_recycled(const lw_wal *view)
{
    for (size_t i = 0; i < view->segments.count; i++)
        if (lw_segment_was_recycled(lw_segment_list_items(&view->segments)[i]))
            return true;
    return false;
}

/* Segments that a writer purged while they were read are missing, or were used again. Behind the tail stands the purge, and
 * with it what is left is the log, whole. LW_PENDING where it is not. */
static int complete(lw_wal *view, lw_error *error)
{
    for (int round = 0; round < MOST_JUDGEMENTS; round++) {
        bool moved = false;
        if (is_complete(view) && !any_was_recycled(view))
            return LW_OK;
        int status = view->tail != NULL ? lw_follow(view, &moved, error) : LW_PENDING;
        if (status != LW_OK)
            return status;
        if (!moved)
            break;
    }
    return LW_PENDING;
}

static void forget(lw_wal *view)
{
    lw_segment_list_release(&view->segments);
    lw_index_free(&view->index);
    lw_durable_free(&view->proven);
    view->tail = NULL;
}

/* *seen is filled where the status may pass. */
static int judge(lw_wal *view, const lw_segment_list *known, sight *seen, lw_error *error)
{
    lw_recovered found;
    lw_error no_memory;
    int status = lw_recovery_judge(view->fs, false, known, &found, error);
    if (status == LW_OK && found.is_new && found.lock_missing)
        status = lw_fail_system(error, LW_LOG_NOT_FOUND, ENOENT, NULL, "there is no log here");
    if (may_pass(status))
        *seen = look(view->fs, &found, error);
    if (status == LW_OK || (may_pass(status) && found.is_partial)) {
        (void)lw_adopt(view, &found, error); /* of a read-only handle it does not fail */
        int completed = complete(view, &no_memory);
        if (completed != LW_OK)
            forget(view);
        if (completed == LW_NO_MEMORY)
            *error = no_memory;
        if (completed != LW_PENDING)
            status = completed;
        else if (status == LW_OK)
            status = fail_outrun(error);
    }
    lw_recovered_free(&found);
    return status;
}

int lw_read_log(lw_wal *view, const lw_segment_list *known, lw_error *error)
{
    sight before = {0};
    uint64_t deadline_ns = 0;
    for (int made = 1;; made++) {
        sight seen = {0};
        int status = judge(view, known, &seen, error);
        if (!may_pass(status))
            return status;
        if (made > 1 && error->sys_errno != EAGAIN && same(&before, &seen))
            return status;
        if (made == 1)
            deadline_ns = lw_now_ns() + JUDGE_FOR_NS;
        else if (made == MOST_JUDGEMENTS || lw_now_ns() >= deadline_ns)
            return fail_outrun(error);
        before = seen;
        struct timespec pause = {0, made * PAUSE_NS};
        (void)nanosleep(&pause, NULL);
    }
}

/* ---- refresh ---- */

static void take_over(lw_wal *wal, lw_wal *view)
{
    (void)pthread_mutex_lock(&wal->lock);
    lw_segment_list segments = wal->segments;
    lw_index index = wal->index;
    lw_durable proven = wal->proven;
    memcpy(wal->log_id, view->log_id, LW_LOG_ID_SIZE);
    wal->state = view->state;
    wal->index = view->index;
    wal->segments = view->segments;
    wal->tail = view->tail;
    wal->durable = view->durable;
    wal->durable_index = view->durable_index;
    wal->durable_floor = view->durable_floor;
    wal->proven = view->proven;
    wal->headerless = view->headerless;
    wal->looked_to = view->looked_to;
    wal->stats.walked_bytes += view->stats.walked_bytes;
    wal->stats.recovered_entries = view->stats.recovered_entries;
    wal->stats.cut_bytes = view->stats.cut_bytes;
    wal->stats.cut_batches = view->stats.cut_batches;
    lw_show_positions(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    view->segments = segments;
    view->index = index;
    view->proven = proven;
}

/* With accept_lock held. What the handle shows stays until the log has been read anew. */
static int read_anew(lw_wal *wal, bool in_doubt, lw_error *error)
{
    lw_wal *view = lw_handle_make(&wal->options);
    if (view == NULL)
        return lw_fail_errno(error, ENOMEM, NULL, "refresh");
    view->fs = wal->fs;
    int status = lw_read_log(view, in_doubt ? NULL : &wal->segments, error); /* what is mapped may be what is damaged */
    if (status == LW_OK)
        take_over(wal, view);
    forget(view);
    lw_handle_free(view);
    return status;
}

/* With accept_lock held. The oldest segment is the first that a writer uses again: if it was, the purge that allowed it is found.
 * Where the segment behind a sealed tail has no header, a writer is about to store it, or ended before it could, or the header is
 * damaged: the second refresh that finds this judges the whole log. */
static int go_on(lw_wal *wal, lw_error *error)
{
    uint64_t headerless = wal->headerless;
    for (int round = 0; round < MOST_JUDGEMENTS; round++) {
        bool moved = false;
        int status = lw_follow(wal, &moved, error);
        if (status != LW_OK)
            return status;
        if (!lw_segment_was_recycled(lw_segment_list_items(&wal->segments)[0]))
            return headerless != 0 && wal->headerless == headerless ? LW_PENDING : LW_OK;
        if (!moved)
            break;
    }
    return LW_PENDING;
}

int lw_wal_refresh(lw_wal *wal, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    if (!wal->options.read_only) {
        lw_leave(wal);
        return LW_OK; /* a writer sees everything as it happens */
    }
    (void)pthread_mutex_lock(&wal->accept_lock); /* or the view of the slower of two could go back */
    (void)pthread_mutex_lock(&wal->lock);
    wal->stats.walked_bytes = 0;
    (void)pthread_mutex_unlock(&wal->lock);
    bool in_doubt = __atomic_exchange_n(&wal->in_doubt, false, __ATOMIC_ACQ_REL);
    status = in_doubt || wal->tail == NULL ? LW_PENDING : go_on(wal, error);
    if (status == LW_PENDING)
        status = read_anew(wal, in_doubt, error);
    if (status != LW_OK)
        __atomic_store_n(&wal->in_doubt, true, __ATOMIC_RELEASE);
    (void)pthread_mutex_unlock(&wal->accept_lock);
    lw_leave(wal);
    return status;
}
