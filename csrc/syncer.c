#include "syncer.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "idle.h"
#include "keeper.h"
#include "queue.h"
#include "reserve.h"
#include "step.h"

/* ---- one sync ---- */

/* With `lock` held and no sync running: from here until finish_sync this caller is the one that syncs. */
static lw_segment *start_sync(lw_wal *wal, lw_position *position, uint64_t *ticket)
{
    wal->sync_running = true;
    wal->syncing_index = wal->state.bounds.next - 1;
    wal->syncing_floor = wal->state.bounds.first - 1;
    wal->syncing_oldest = lw_oldest_needed(wal);
    *position = (lw_position){wal->tail->identity.number, wal->tail->end};
    *ticket = wal->accepted_ticket;
    wal->synced_entries_at = wal->stats.entries;
    lw_segment_pin(wal->tail);
    wal->tail->syncs++;
    return wal->tail;
}

static void count_sync(lw_wal *wal, uint64_t started_ns)
{
    uint64_t ended_ns = lw_now_ns();
    uint64_t took_ns = ended_ns - started_ns;
    uint64_t before_ns = wal->shown_sync_ns;
    uint64_t of_late_ns = before_ns == 0 ? took_ns : before_ns - before_ns / 8 + took_ns / 8;
    __atomic_store_n(&wal->shown_sync_ns, of_late_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&wal->shown_synced_ns, ended_ns, __ATOMIC_RELAXED);
    lw_histogram_add(&wal->sync_times, took_ns);
    wal->stats.syncs++;
    wal->stats.synced_entries = wal->synced_entries_at;
}

/* With `lock` held. */
static void finish_sync(lw_wal *wal, lw_segment *segment, lw_position position, uint64_t ticket, uint64_t started_ns,
                        int failed)
{
    wal->sync_running = false;
    if (!LW_STEP(POSITION_BEFORE_SYNC) && wal->tail == segment) {
        position.offset = segment->end;
        ticket = wal->accepted_ticket;
    }
    if (failed && LW_STEP(POISON))
        lw_fail_log(wal, failed, segment->identity.number);
    if (!wal->failed) {
        wal->durable = position;
        if (wal->durable_ticket < ticket) /* a write that had nothing to do may have come meanwhile, and be further */
            wal->durable_ticket = ticket;
        wal->durable_index = wal->syncing_index;
        wal->durable_floor = wal->syncing_floor;
        wal->durable_oldest = wal->syncing_oldest;
        wal->first_unsynced_ns =
            wal->accepted_ticket > wal->durable_ticket && wal->options.sync_interval_ms > 0 ? started_ns : 0;
        lw_keeper_notice_durable(wal);
        lw_idle_notice_durable(wal);
    }
    lw_show_positions(wal);
    lw_announce(wal);
}

/* With `lock` held: its descriptor, for the caller to close, where it is sealed and no sync uses it; else NULL. */
static lw_file *take_idle_file(lw_segment *segment)
{
    lw_file *file = segment->syncs == 0 ? segment->file : NULL;
    if (file != NULL)
        segment->file = NULL;
    return file;
}

/* With `lock` held, which is let go where anything is closed or unmapped. A sealed segment's descriptor stays until the last sync
 * that uses it has ended: closed earlier, its number could be somebody else's file by the time of the sync. */
static void let_go(lw_wal *wal, lw_segment *segment)
{
    segment->syncs--;
    if (segment == wal->tail) { /* which the log has pinned, too */
        lw_segment_unpin(segment);
        return;
    }
    lw_file *file = take_idle_file(segment);
    (void)pthread_mutex_unlock(&wal->lock);
    if (file != NULL)
        wal->fs->close(wal->fs, file);
    lw_segment_unpin(segment);
    (void)pthread_mutex_lock(&wal->lock);
}

/* With `lock` held, which is let go for the sync. */
static void sync_once(lw_wal *wal)
{
    lw_position position;
    uint64_t ticket;
    lw_segment *segment = start_sync(wal, &position, &ticket);
    (void)pthread_mutex_unlock(&wal->lock);
    uint64_t started_ns = lw_now_ns();
    int failed = LW_STEP(SYNC_BATCH) ? wal->fs->sync(wal->fs, segment->file) : 0;
    (void)pthread_mutex_lock(&wal->lock);
    if (!failed)
        count_sync(wal, started_ns);
    finish_sync(wal, segment, position, ticket, started_ns, failed);
    let_go(wal, segment);
}

/* With `lock` held, which is let go meanwhile. A roll that is at hand costs no sync of its own this way. */
static void sync_or_roll(lw_wal *wal)
{
    if (wal->tail_is_spent && wal->successor != NULL) {
        (void)pthread_mutex_unlock(&wal->lock);
        bool rolled = lw_roll_ahead(wal);
        (void)pthread_mutex_lock(&wal->lock);
        if (rolled || wal->sync_running)
            return;
    }
    sync_once(wal);
}

static void wait_for_turn(lw_wal *wal)
{
    while (wal->sync_running)
        (void)pthread_cond_wait(&wal->moved, &wal->lock);
}

int lw_sync_header(lw_wal *wal, lw_error *error)
{
    (void)pthread_mutex_lock(&wal->lock);
    while (LW_STEP(SYNC_HEADER) && !wal->failed && wal->durable.segment < wal->tail->identity.number) {
        if (wal->sync_running)
            wait_for_turn(wal);
        else
            sync_once(wal);
    }
    int status = wal->failed ? lw_fail_synced(wal, error) : LW_OK;
    (void)pthread_mutex_unlock(&wal->lock);
    return status;
}

/* ---- waiting ---- */

void lw_want_durable(lw_wal *wal, uint64_t ticket)
{
    if (ticket <= wal->wanted_ticket)
        return;
    wal->wanted_ticket = ticket;
    (void)pthread_cond_signal(&wal->syncer_work);
}

int lw_ticket_status(lw_wal *wal, uint64_t ticket, bool durable, lw_error *error)
{
    if (wal->failed)
        return lw_fail_synced(wal, error);
    if (durable ? wal->durable_ticket >= ticket : wal->accepted_ticket >= ticket)
        return LW_OK;
    if (wal->closed)
        return lw_fail(error, LW_CLOSED, "the log was closed before this was durable");
    return LW_PENDING;
}

enum {
    SHORT_SYNC_NS = 10 * 1000000,
    LATELY_NS = 100 * 1000000,
};

bool lw_syncs_are_short(const lw_wal *wal)
{
    uint64_t took_ns = __atomic_load_n(&wal->shown_sync_ns, __ATOMIC_RELAXED);
    uint64_t ended_ns = __atomic_load_n(&wal->shown_synced_ns, __ATOMIC_RELAXED);
    return ended_ns != 0 && took_ns < SHORT_SYNC_NS && lw_now_ns() - ended_ns < LATELY_NS;
}

int lw_wait_ticket(lw_wal *wal, uint64_t ticket, bool durable, bool helps, uint64_t deadline_ns, lw_error *error)
{
    int status;
    (void)pthread_mutex_lock(&wal->lock);
    for (;;) {
        status = lw_ticket_status(wal, ticket, durable, error);
        if (status != LW_PENDING)
            break;
        if (durable && !helps)
            lw_want_durable(wal, ticket);
        else if (durable && wal->accepted_ticket >= ticket && !wal->sync_running) {
            sync_or_roll(wal);
            continue;
        }
        if (helps && wal->accepted_ticket < ticket && wal->queue_first != NULL && !lw_waits_for_successor(wal)) {
            /* The rotation that it waits for: done here, it costs no change of threads. */
            (void)pthread_mutex_unlock(&wal->lock);
            lw_drain_queue(wal);
            (void)pthread_mutex_lock(&wal->lock);
            continue;
        }
        if (deadline_ns != 0 && lw_now_ns() >= deadline_ns) {
            status = lw_fail(error, LW_TIMED_OUT, "not durable within the time given");
            break;
        }
        lw_cond_wait_until(&wal->moved, &wal->lock, deadline_ns);
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return status;
}

/* ---- rolling ---- */

typedef struct store_pages {
    lw_segment *segment;
    lw_page *page;
    bool with_index;
    bool clears_mark;
} store_pages;

static void store_pages_run(void *argument)
{
    store_pages *s = argument;
    if (s->clears_mark)
        lw_fs_zero(s->segment->base + LW_MARK_OFFSET, LW_PAGE_SIZE);
    if (s->with_index)
        lw_segment_store_index(s->segment);
    if (s->page == NULL)
        return;
    s->page->index_check = s->page->type == LW_HEADER ? 0 : s->segment->index_check;
    lw_segment_store_page(s->segment, s->page);
}

static int store(const store_pages *s, lw_error *error)
{
    char name[LW_NAME_SIZE];
    lw_segment_name_of(s->segment, name);
    int failed = lw_guarded(store_pages_run, (void *)(uintptr_t)s);
    return failed ? lw_fail_errno(error, failed, name, "the mapped file could not be written") : LW_OK;
}

/* Nothing of the tail's state changes while accept_lock is held; `durable` is the sync's. */
static void describe_with_state(lw_wal *wal, lw_segment *segment, lw_page_type type, lw_page *page)
{
    lw_segment_describe(segment, type, page);
    page->state = wal->state;
    (void)pthread_mutex_lock(&wal->lock);
    page->watermark = wal->durable;
    (void)pthread_mutex_unlock(&wal->lock);
}

/* Footer, then fdatasync: after it the segment is whole and durable. This is a sync as any other, and takes its turn. */
static int seal(lw_wal *wal, lw_page *footer, lw_error *error)
{
    describe_with_state(wal, wal->tail, LW_FOOTER, footer);
    store_pages pages = {.segment = wal->tail, .page = footer, .with_index = true, .clears_mark = wal->mark_is_valid};
    wal->mark_is_touched = true;
    int status = store(&pages, error);
    if (status != LW_OK)
        return status;
    wal->mark_is_valid = false;
    (void)pthread_mutex_lock(&wal->lock);
    wait_for_turn(wal);
    if (LW_STEP(SYNC_SEALED))
        sync_once(wal);
    status = wal->failed ? lw_fail_synced(wal, error) : LW_OK;
    (void)pthread_mutex_unlock(&wal->lock);
    return status;
}

static int store_header(lw_wal *wal, lw_segment *segment, const lw_page *footer, lw_error *error)
{
    lw_page header;
    describe_with_state(wal, segment, LW_HEADER, &header);
    header.predecessor = wal->tail != NULL ? wal->tail->identity.number : 0;
    header.predecessor_check = footer->check;
    store_pages pages = {.segment = segment, .page = &header};
    int status = store(&pages, error);
    segment->header_check = header.check;
    return status;
}

/* Returns the descriptor to close; NULL where a sync uses it, which closes it then. */
static lw_file *seal_in_memory(lw_segment *old, const lw_page *footer)
{
    old->sealed = true;
    old->footer_check = footer->check;
    old->index_checked = 1; /* it was just written from memory */
    old->index_items = NULL;
    return take_idle_file(old);
}

static void adopt_tail(lw_wal *wal, lw_segment *segment, const lw_page *footer)
{
    lw_segment *old = wal->tail;
    lw_file *file = NULL;
    uint32_t *items = old == NULL ? NULL : old->index_items;
    (void)pthread_mutex_lock(&wal->lock);
    if (old != NULL)
        file = seal_in_memory(old, footer);
    lw_segment_list_append(&wal->segments, segment);
    wal->tail = segment;
    wal->stored_watermark = (lw_position){0}; /* none of its own: the header's lies in the segment before */
    wal->tail_is_spent = false;
    wal->rotation_bytes = 0;
    lw_keeper_successor_taken(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    free(items);
    if (file != NULL)
        wal->fs->close(wal->fs, file);
}

int lw_rotate(lw_wal *wal, lw_error *error)
{
    lw_segment *segment = wal->successor; /* nobody takes it or lays hands on it while accept_lock is held */
    lw_page footer = {.check = 0};
    int status = lw_reserve_segment(wal);
    if (status != LW_OK)
        return lw_fail_errno(error, ENOMEM, NULL, "a segment");
    if (wal->tail != NULL)
        status = seal(wal, &footer, error);
    if (status != LW_OK)
        return status;
    status = store_header(wal, segment, &footer, error);
    if (status == LW_OK)
        adopt_tail(wal, segment, &footer);
    else
        lw_keeper_successor_torn(wal);
    return status;
}

/* ---- closing ---- */

int lw_close_tail(lw_wal *wal, lw_error *error)
{
    lw_page mark;
    char name[LW_NAME_SIZE];
    lw_segment *tail = wal->tail;
    if (wal->failed)
        return lw_fail_synced(wal, error);
    if (wal->mark_is_valid && !wal->mark_is_touched)
        return LW_OK;
    lw_segment_name_of(tail, name);
    describe_with_state(wal, tail, LW_CLOSE_MARK, &mark);
    mark.watermark = (lw_position){tail->identity.number, tail->end};
    store_pages index = {.segment = tail, .with_index = true};
    store_pages page = {.segment = tail, .page = &mark};
    /* The mark is stored only when all that it speaks of is durable: it is a watermark. */
    int status = store(&index, error);
    int failed = status == LW_OK && LW_STEP(SYNC_CLOSED) ? wal->fs->sync(wal->fs, tail->file) : 0;
    if (status == LW_OK && !failed)
        status = store(&page, error);
    if (status == LW_OK && !failed && LW_STEP(SYNC_MARK))
        failed = wal->fs->sync(wal->fs, tail->file);
    if (status != LW_OK || !failed)
        return status;
    wal->failed = true;
    wal->failed_errno = failed;
    wal->failed_segment = tail->identity.number;
    return lw_fail_synced(wal, error);
}

/* ---- the thread ---- */

static bool interval_is_over(const lw_wal *wal, uint64_t *deadline_ns)
{
    *deadline_ns = 0;
    if (wal->options.sync_interval_ms == 0 || wal->first_unsynced_ns == 0 || wal->accepted_ticket <= wal->durable_ticket)
        return false;
    *deadline_ns = wal->first_unsynced_ns + (uint64_t)wal->options.sync_interval_ms * 1000000u;
    return lw_now_ns() >= *deadline_ns;
}

/* The earlier of two deadlines, of which 0 is none. */
static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns == 0 || (b_ns != 0 && b_ns < a_ns) ? b_ns : a_ns;
}

void *lw_syncer_main(void *argument)
{
    lw_wal *wal = argument;
    (void)pthread_mutex_lock(&wal->lock);
    lw_idle_begin(wal);
    for (;;) {
        uint64_t deadline_ns;
        lw_idle_look(wal);
        if (wal->stopping) /* after what lets go of the lock: nobody signals a second time */
            break;
        bool over = interval_is_over(wal, &deadline_ns);
        bool wanted = wal->wanted_ticket > wal->durable_ticket && wal->accepted_ticket > wal->durable_ticket;
        if (wal->queue_first != NULL && !lw_waits_for_successor(wal)) {
            (void)pthread_mutex_unlock(&wal->lock);
            lw_drain_queue(wal);
            (void)pthread_mutex_lock(&wal->lock);
        } else if (wal->failed || !(wanted || over)) {
            uint64_t idle_ns = wal->awaits_idle ? wal->idle_at_ns : 0;
            lw_cond_wait_until(&wal->syncer_work, &wal->lock, wal->failed ? 0 : earlier(deadline_ns, idle_ns));
        } else if (wal->sync_running) {
            wait_for_turn(wal);
        } else {
            sync_or_roll(wal);
        }
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return NULL;
}
