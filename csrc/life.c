#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif
/*
 * The life of a handle: open, what the parts share, close.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "keeper.h"
#include "lock.h"
#include "life.h"
#include "queue.h"
#include "read_only.h"
#include "recovery.h"
#include "syncer.h"

/* ---- small things that the parts share ---- */

uint64_t lw_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void lw_cond_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    if (deadline_ns == 0) {
        (void)pthread_cond_wait(condition, mutex);
        return;
    }
#if defined(__APPLE__)
    uint64_t now = lw_now_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec time = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
    (void)pthread_cond_timedwait_relative_np(condition, mutex, &time);
#else
    struct timespec time = {(time_t)(deadline_ns / 1000000000u), (long)(deadline_ns % 1000000000u)};
    (void)pthread_cond_timedwait(condition, mutex, &time);
#endif
}

static void make_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
#if !defined(__APPLE__)
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    (void)pthread_cond_init(condition, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

void lw_announce(lw_wal *wal)
{
    (void)pthread_cond_broadcast(&wal->moved);
    for (lw_subscriber *subscriber = wal->subscribers; subscriber != NULL; subscriber = subscriber->next) {
        if (!subscriber->armed)
            continue;
        uint64_t one = 1;
        subscriber->armed = false;
        /* A pipe that is full has been written to already, so its reader will wake. */
        ssize_t ignored = write(subscriber->descriptor, &one, sizeof one);
        (void)ignored;
    }
}

void lw_fail_log(lw_wal *wal, int sys_errno, uint64_t segment)
{
    if (!wal->failed) {
        wal->failed = true;
        wal->failed_errno = sys_errno;
        wal->failed_segment = segment;
    }
    (void)pthread_cond_signal(&wal->syncer_work);
    lw_announce(wal);
}

int lw_fail_synced(const lw_wal *wal, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name(wal->failed_segment, LW_SEGMENT_SUFFIX, name);
    return lw_fail_system(error, LW_SYNC_FAILED, wal->failed_errno, wal->failed_segment == 0 ? NULL : name,
                          "a sync failed, so nothing more can be made durable; what was not acknowledged may be lost: close the "
                          "log, see to the disk, and open it again");
}

int lw_check_usable(lw_wal *wal, lw_error *error)
{
    if (wal->failed)
        return lw_fail_synced(wal, error);
    return wal->closed ? lw_fail(error, LW_CLOSED, "the log is closed; open it again") : LW_OK;
}

static int fail_replaced(lw_error *error)
{
    return lw_fail_system(error, LW_IO, ESTALE, NULL,
                          "the log's directory was removed or replaced by another: what is written here would be missing at the "
                          "next start; close the log, look at the directory, and open it again");
}

int lw_check_writable(lw_wal *wal, lw_error *error)
{
    int status = lw_check_usable(wal, error);
    return status == LW_OK && wal->replaced ? fail_replaced(error) : status;
}

int lw_check_place(lw_wal *wal, lw_error *error)
{
    if (wal->fs->check_place(wal->fs) == 0)
        return LW_OK;
    (void)pthread_mutex_lock(&wal->lock);
    wal->replaced = true;
    (void)pthread_mutex_unlock(&wal->lock);
    return fail_replaced(error);
}

void lw_show_positions(lw_wal *wal)
{
    __atomic_store_n(&wal->shown_first, wal->state.bounds.first, __ATOMIC_RELAXED);
    __atomic_store_n(&wal->shown_last, wal->state.bounds.next - 1, __ATOMIC_RELAXED);
    uint64_t none = wal->state.bounds.first - 1;
    if (none > wal->durable_floor)
        none = wal->durable_floor;
    uint64_t last = wal->state.bounds.next - 1;
    uint64_t durable = wal->durable_index < none ? none : wal->durable_index > last ? last : wal->durable_index;
    __atomic_store_n(&wal->shown_durable, durable, __ATOMIC_RELAXED);
    __atomic_store_n(&wal->shown_durable_ticket, wal->durable_ticket, __ATOMIC_RELEASE);
}

int lw_enter(lw_wal *wal, lw_error *error)
{
    if (lw_forked(wal))
        return lw_fail_forked(error);
    (void)__atomic_add_fetch(&wal->calls, 1, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&wal->closing, __ATOMIC_SEQ_CST))
        return LW_OK;
    lw_leave(wal);
    return lw_fail(error, LW_CLOSED, "the log is closed; open it again");
}

void lw_leave(lw_wal *wal)
{
    if (__atomic_sub_fetch(&wal->calls, 1, __ATOMIC_SEQ_CST) > 0 || !__atomic_load_n(&wal->closing, __ATOMIC_SEQ_CST))
        return;
    (void)pthread_mutex_lock(&wal->lock);
    (void)pthread_cond_broadcast(&wal->moved);
    (void)pthread_mutex_unlock(&wal->lock);
}

/* ---- open ---- */

/* Held for moments, so who finds it taken does better to look again a few times than to sleep and be woken. */
static void make_short_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    (void)pthread_mutexattr_init(&attributes);
#if defined(__GLIBC__)
    (void)pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    (void)pthread_mutex_init(lock, &attributes);
    (void)pthread_mutexattr_destroy(&attributes);
}

lw_wal *lw_handle_make(const lw_options *options)
{
    lw_wal *wal = calloc(1, sizeof *wal);
    if (wal == NULL)
        return NULL;
    wal->options = *options;
    wal->options.segment_bytes = options->segment_bytes / LW_PAGE_SIZE * LW_PAGE_SIZE;
    lw_lock_note_process(wal);
    wal->queue_end = &wal->queue_first;
    wal->needs_epoch = true;
    lw_state_clear(&wal->state);
    (void)pthread_mutex_init(&wal->accept_lock, NULL);
    make_short_lock(&wal->lock);
    make_condition(&wal->moved);
    make_condition(&wal->syncer_work);
    make_condition(&wal->keeper_work);
    return wal;
}

int lw_adopt(lw_wal *wal, lw_recovered *found, lw_error *error)
{
    memcpy(wal->log_id, found->log_id, LW_LOG_ID_SIZE);
    wal->state = found->state;
    wal->index = found->index;
    wal->segments = found->segments;
    wal->tail = found->segments.count > 0 ? lw_recovered_tail(found) : NULL;
    wal->durable = found->watermark;
    if (found->closed_cleanly || found->watermark_is_stored)
        wal->stored_watermark = found->watermark;
    wal->durable_index = found->durable.index;
    wal->proven = found->durable;
    wal->durable_floor = wal->options.read_only ? found->durable.floor : found->state.bounds.first - 1;
    wal->mark_is_valid = found->closed_cleanly;
    wal->successor_to_wipe = !found->is_new && found->successor != 0;
    if (wal->tail != NULL) {
        wal->durable_oldest = wal->removed_below = lw_oldest_needed(wal);
        wal->tail_began_ns = lw_now_ns();
    }
    wal->stats.recovered_entries = found->state.bounds.next - found->state.bounds.first;
    wal->stats.cut_bytes = found->cut_holds_work ? found->cut_bytes : 0;
    wal->stats.cut_batches = found->cut_batches;
    wal->stats.walked_bytes = found->walked_bytes;
    wal->stats.removal_failures = found->removal_failures;
    wal->stats.removal_errno = found->removal_errno;
    found->index = (lw_index){0};
    found->segments = (lw_segment_list){0};
    found->durable = (lw_durable){0};
    return wal->options.read_only ? LW_OK : lw_keeper_adopt_spares(wal, found->spares, found->spare_count, error);
}

static int recover_for_writing(lw_wal *wal, lw_error *error)
{
    lw_recovered found;
    int status = lw_recovery_judge(wal->fs, true, NULL, &found, error);
    if (status == LW_OK && found.is_new && !wal->options.create)
        status = lw_fail_system(error, LW_LOG_NOT_FOUND, ENOENT, NULL, "there is no log here, and create=False creates none");
    if (status == LW_OK && found.is_new)
        status = lw_recovery_make(wal->fs, wal->lock_file, wal->options.segment_bytes, &found, error);
    else if (status == LW_OK)
        status = lw_recovery_act(wal->fs, wal->lock_file, &found, error);
    if (status == LW_OK)
        status = lw_adopt(wal, &found, error);
    if (status == LW_OK && wal->tail == NULL) {
        status = lw_keeper_map_successor(wal, found.successor, wal->options.segment_bytes, found.successor_is_filled, error);
        if (status == LW_OK)
            status = lw_rotate(wal, error);
        if (status == LW_OK)
            wal->durable_oldest = wal->removed_below = wal->tail->identity.number;
    }
    lw_recovered_free(&found);
    return status;
}

static int start_threads(lw_wal *wal, lw_error *error)
{
    sigset_t all;
    sigset_t before;
    /* Signals are the program's; a touch of a bad page is the thread's own. */
    (void)sigfillset(&all);
    (void)sigdelset(&all, SIGBUS);
    (void)sigdelset(&all, SIGSEGV);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    wal->threads_running = true;
    int failed = pthread_create(&wal->syncer, NULL, lw_syncer_main, wal);
    if (!failed) {
        failed = pthread_create(&wal->keeper, NULL, lw_keeper_main, wal);
        if (failed) {
            (void)pthread_mutex_lock(&wal->lock);
            wal->stopping = true;
            (void)pthread_cond_broadcast(&wal->syncer_work);
            (void)pthread_mutex_unlock(&wal->lock);
            (void)pthread_join(wal->syncer, NULL);
        }
    }
    if (failed)
        wal->threads_running = false;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? lw_fail_errno(error, failed, NULL, "cannot start a thread") : LW_OK;
}

static void stop_threads(lw_wal *wal)
{
    if (!wal->threads_running)
        return;
    (void)pthread_mutex_lock(&wal->lock);
    wal->stopping = wal->closed = true;
    (void)pthread_cond_broadcast(&wal->syncer_work);
    (void)pthread_cond_broadcast(&wal->keeper_work);
    lw_announce(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    (void)pthread_join(wal->syncer, NULL);
    (void)pthread_join(wal->keeper, NULL);
    wal->threads_running = false;
}

/* Everything but the handle itself. */
static void release(lw_wal *wal)
{
    (void)pthread_mutex_lock(&wal->lock);
    lw_segment_list segments = wal->segments;
    lw_index index = wal->index;
    lw_segment *successor = wal->successor;
    wal->segments = (lw_segment_list){0};
    wal->index = (lw_index){0};
    wal->successor = NULL;
    (void)pthread_mutex_unlock(&wal->lock);
    lw_segment_list_release(&segments);
    lw_index_free(&index);
    lw_durable_free(&wal->proven);
    lw_keeper_release(wal);
    if (successor != NULL)
        lw_segment_unpin(successor);
    lw_lock_release(wal);
    if (wal->fs != NULL)
        wal->fs->destroy(wal->fs);
    wal->fs = NULL;
}

void lw_handle_free(lw_wal *wal)
{
    lw_free_queue(wal);
    while (wal->subscribers != NULL) {
        lw_subscriber *subscriber = wal->subscribers;
        wal->subscribers = subscriber->next;
        free(subscriber);
    }
    free(wal->spares);
    free(wal->collected);
    (void)pthread_mutex_destroy(&wal->accept_lock);
    (void)pthread_mutex_destroy(&wal->lock);
    (void)pthread_cond_destroy(&wal->moved);
    (void)pthread_cond_destroy(&wal->syncer_work);
    (void)pthread_cond_destroy(&wal->keeper_work);
    free(wal);
}

int lw_wal_open_on(lw_fs *fs, const lw_options *options, lw_wal **out, lw_error *error)
{
    uint64_t started_ns = lw_now_ns();
    lw_guard_install();
    lw_wal *wal = lw_handle_make(options);
    if (wal == NULL) {
        fs->destroy(fs);
        return lw_fail_errno(error, ENOMEM, NULL, "open");
    }
    wal->fs = fs;
    int status = options->read_only ? lw_read_log(wal, NULL, error) : lw_lock_take(wal, error);
    if (status == LW_OK && !options->read_only) {
        status = recover_for_writing(wal, error);
        if (status == LW_OK)
            status = start_threads(wal, error);
    }
    if (status != LW_OK) {
        release(wal);
        lw_handle_free(wal);
        return status;
    }
    (void)pthread_mutex_lock(&wal->lock); /* the threads run, and may sync already */
    wal->stats.recovery_ns = lw_now_ns() - started_ns;
    lw_show_positions(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    *out = wal;
    return LW_OK;
}

int lw_wal_open(const char *path, const lw_options *options, lw_wal **out, lw_error *error)
{
    lw_fs *fs;
    int status = lw_fs_posix(path, options->create && !options->read_only, &fs, error);
    return status != LW_OK ? status : lw_wal_open_on(fs, options, out, error);
}

/* ---- close ---- */

static void wait_for_calls(lw_wal *wal)
{
    (void)pthread_mutex_lock(&wal->lock);
    while (__atomic_load_n(&wal->calls, __ATOMIC_SEQ_CST) > 0)
        (void)pthread_cond_wait(&wal->moved, &wal->lock);
    (void)pthread_mutex_unlock(&wal->lock);
}

static int flush_and_mark(lw_wal *wal, lw_error *error)
{
    (void)pthread_mutex_lock(&wal->lock);
    uint64_t ticket = wal->last_ticket;
    (void)pthread_mutex_unlock(&wal->lock);
    int status = lw_wait_ticket(wal, ticket, true, true, 0, error);
    (void)lw_keeper_wait_removed(wal, 0, error);
    stop_threads(wal);
    wait_for_calls(wal);
    int mark_status = status == LW_OK ? lw_close_tail(wal, error) : LW_OK;
    return status != LW_OK ? status : mark_status;
}

int lw_wal_close(lw_wal *wal, lw_error *error)
{
    int status = LW_OK;
    if (lw_forked(wal))
        return LW_OK;
    (void)pthread_mutex_lock(&wal->lock);
    bool again = wal->closing;
    __atomic_store_n(&wal->closing, true, __ATOMIC_SEQ_CST);
    while (again && !wal->released) /* closed by the time any close returns */
        (void)pthread_cond_wait(&wal->moved, &wal->lock);
    (void)pthread_mutex_unlock(&wal->lock);
    if (again)
        return LW_OK;
    if (!wal->options.read_only)
        status = flush_and_mark(wal, error);
    else
        wait_for_calls(wal);
    (void)pthread_mutex_lock(&wal->lock);
    wal->closed = true;
    (void)pthread_mutex_unlock(&wal->lock);
    release(wal);
    (void)pthread_mutex_lock(&wal->lock);
    wal->released = true;
    lw_announce(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    return status;
}

void lw_wal_free(lw_wal *wal)
{
    if (lw_forked(wal))
        return; /* its locks may be held by threads that do not exist here */
    stop_threads(wal);
    release(wal);
    lw_handle_free(wal);
}

