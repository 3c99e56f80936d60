#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
#include "read_only.h"

#include <errno.h>
#include <time.h>

#include "error.h"
#include "follow.h"
#include "life.h"
#include "recovery.h"

enum { MOST_JUDGEMENTS = 20, PAUSE_NS = 2000000 };

static void forget(lw_wal *view)
{
    lw_segment_list_release(&view->segments);
    lw_index_free(&view->index);
    lw_durable_free(&view->proven);
    view->tail = NULL;
}

static int judge(lw_wal *view, const lw_segment_list *known, lw_error *error)
{
    lw_recovered found;
    int status = lw_recovery_judge(view->fs, false, known, &found, error);
    if (status == LW_OK && found.is_new && found.lock_missing)
        status = lw_fail_system(error, LW_LOG_NOT_FOUND, ENOENT, NULL, "there is no log here");
    if (status == LW_OK)
        (void)lw_adopt(view, &found, error); /* of a read-only handle it does not fail */
    lw_recovered_free(&found);
    return status;
}

/* What looks like damage may be the writer at work: it is looked at again, from the list of files on. */
int lw_read_log(lw_wal *view, const lw_segment_list *known, lw_error *error)
{
    for (int made = 1;; made++) {
        int status = judge(view, known, error);
        bool may_pass = status == LW_CORRUPTION || status == LW_IO;
        if (!may_pass || made == MOST_JUDGEMENTS)
            return status;
        struct timespec pause = {0, PAUSE_NS};
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
static int read_anew(lw_wal *wal, lw_error *error)
{
    lw_wal *view = lw_handle_make(&wal->options);
    if (view == NULL)
        return lw_fail_errno(error, ENOMEM, NULL, "refresh");
    view->fs = wal->fs;
    int status = lw_read_log(view, &wal->segments, error);
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
        status = read_anew(wal, error);
    if (status != LW_OK)
        __atomic_store_n(&wal->in_doubt, true, __ATOMIC_RELEASE);
    (void)pthread_mutex_unlock(&wal->accept_lock);
    lw_leave(wal);
    return status;
}
