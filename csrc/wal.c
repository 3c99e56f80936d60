/*
 * The public functions, but for the life of a handle (life.c).
 */
#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "keeper.h"
#include "queue.h"
#include "reader.h"
#include "syncer.h"

/* ---- writing ---- */

int lw_wal_submit(lw_wal *wal, const lw_batch *batch, lw_patience patience, uint64_t *ticket, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_submit(wal, batch, patience, ticket, error);
    lw_leave(wal);
    return status;
}

static int poll_ticket(lw_wal *wal, uint64_t ticket, bool durable, bool may_be_refused, lw_error *error)
{
    if (lw_forked(wal))
        return lw_fail_forked(error);
    (void)pthread_mutex_lock(&wal->lock);
    int status = may_be_refused ? lw_take_refusal(wal, ticket, error) : LW_OK;
    if (status == LW_OK)
        status = lw_ticket_status(wal, ticket, durable, error);
    (void)pthread_mutex_unlock(&wal->lock);
    return status;
}

int lw_wal_poll(lw_wal *wal, uint64_t ticket, int durable, lw_error *error)
{
    return poll_ticket(wal, ticket, durable != 0, true, error);
}

int lw_wal_poll_accepted(lw_wal *wal, uint64_t ticket, int durable, lw_error *error)
{
    return poll_ticket(wal, ticket, durable != 0, false, error);
}

static uint64_t deadline_after(int64_t timeout_ns)
{
    return timeout_ns < 0 ? 0 : lw_now_ns() + (uint64_t)timeout_ns;
}

/* A refusal of the write is told once, so it is taken only when the write is accepted or refused. */
static int wait_for(lw_wal *wal, uint64_t ticket, bool durable, bool helps, uint64_t deadline_ns, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_wait_ticket(wal, ticket, false, helps, deadline_ns, error);
    if (status == LW_OK) {
        (void)pthread_mutex_lock(&wal->lock);
        status = lw_take_refusal(wal, ticket, error);
        (void)pthread_mutex_unlock(&wal->lock);
    }
    if (status == LW_OK && durable)
        status = lw_wait_ticket(wal, ticket, true, helps, deadline_ns, error);
    lw_leave(wal);
    return status;
}

int lw_wal_wait(lw_wal *wal, uint64_t ticket, int durable, int64_t timeout_ns, lw_error *error)
{
    return wait_for(wal, ticket, durable != 0, timeout_ns < 0, deadline_after(timeout_ns), error);
}

int lw_wal_wait_slice(lw_wal *wal, uint64_t ticket, int durable, int64_t slice_ns, lw_error *error)
{
    return wait_for(wal, ticket, durable != 0, lw_syncs_are_short(wal), deadline_after(slice_ns), error);
}

int lw_wal_wait_synced_slice(lw_wal *wal, uint64_t ticket, int64_t slice_ns, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_wait_ticket(wal, ticket, true, lw_syncs_are_short(wal), deadline_after(slice_ns), error);
    lw_leave(wal);
    return status;
}

uint64_t lw_wal_durable_ticket(lw_wal *wal)
{
    return __atomic_load_n(&wal->shown_durable_ticket, __ATOMIC_ACQUIRE);
}

uint64_t lw_wal_sync_ns(lw_wal *wal)
{
    return __atomic_load_n(&wal->shown_sync_ns, __ATOMIC_RELAXED);
}

uint64_t lw_wal_synced_ns(lw_wal *wal)
{
    return __atomic_load_n(&wal->shown_synced_ns, __ATOMIC_RELAXED);
}

int lw_wal_wait_removed(lw_wal *wal, int64_t timeout_ns, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_keeper_wait_removed(wal, deadline_after(timeout_ns), error);
    lw_leave(wal);
    return status;
}

int lw_wal_wait_room(lw_wal *wal, int64_t timeout_ns, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_wait_for_room(wal, deadline_after(timeout_ns), error);
    lw_leave(wal);
    return status;
}

int lw_wal_check_open(lw_wal *wal, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status == LW_OK)
        lw_leave(wal);
    return status;
}

int lw_wal_is_forked(const lw_wal *wal)
{
    return lw_forked(wal);
}

/* ---- subscribers ---- */

static lw_subscriber *find_subscriber(lw_wal *wal, int descriptor)
{
    lw_subscriber *subscriber = wal->subscribers;
    while (subscriber != NULL && subscriber->descriptor != descriptor)
        subscriber = subscriber->next;
    return subscriber;
}

int lw_wal_subscribe(lw_wal *wal, int descriptor, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    lw_subscriber *subscriber = malloc(sizeof *subscriber);
    if (subscriber != NULL) {
        (void)pthread_mutex_lock(&wal->lock);
        *subscriber = (lw_subscriber){wal->subscribers, descriptor, false};
        wal->subscribers = subscriber;
        (void)pthread_mutex_unlock(&wal->lock);
    }
    lw_leave(wal);
    return subscriber != NULL ? LW_OK : lw_fail_errno(error, ENOMEM, NULL, "an event loop that waits for the log");
}

void lw_wal_unsubscribe(lw_wal *wal, int descriptor)
{
    if (lw_forked(wal))
        return;
    (void)pthread_mutex_lock(&wal->lock);
    lw_subscriber **at = &wal->subscribers;
    while (*at != NULL && (*at)->descriptor != descriptor)
        at = &(*at)->next;
    lw_subscriber *subscriber = *at;
    if (subscriber != NULL)
        *at = subscriber->next;
    (void)pthread_mutex_unlock(&wal->lock);
    free(subscriber);
}

void lw_wal_arm(lw_wal *wal, int descriptor, uint64_t ticket, int durable)
{
    if (lw_forked(wal))
        return;
    (void)pthread_mutex_lock(&wal->lock);
    lw_subscriber *subscriber = find_subscriber(wal, descriptor);
    if (subscriber != NULL)
        subscriber->armed = true;
    if (durable)
        lw_want_durable(wal, ticket);
    bool is_so = (durable ? wal->durable_ticket : wal->accepted_ticket) >= ticket;
    if (is_so || wal->failed || wal->closed)
        lw_announce(wal);
    (void)pthread_mutex_unlock(&wal->lock);
}

/* ---- reading ---- */

uint64_t lw_wal_first_index(lw_wal *wal)
{
    return __atomic_load_n(&wal->shown_first, __ATOMIC_RELAXED);
}

uint64_t lw_wal_last_index(lw_wal *wal)
{
    return __atomic_load_n(&wal->shown_last, __ATOMIC_RELAXED);
}

uint64_t lw_wal_durable_index(lw_wal *wal)
{
    return __atomic_load_n(&wal->shown_durable, __ATOMIC_RELAXED);
}

int lw_wal_term(lw_wal *wal, uint64_t index, uint64_t *term, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_read_term(wal, index, term, error);
    lw_leave(wal);
    return status;
}

int lw_wal_boundary(lw_wal *wal, lw_log_id *boundary, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    (void)pthread_mutex_lock(&wal->lock);
    *boundary = wal->state.bounds.boundary;
    status = wal->state.bounds.has_boundary ? LW_OK : LW_NOT_FOUND;
    (void)pthread_mutex_unlock(&wal->lock);
    lw_leave(wal);
    return status;
}

int lw_wal_hard_state(lw_wal *wal, lw_hard_state *hard_state, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    (void)pthread_mutex_lock(&wal->lock);
    *hard_state = wal->state.hard_state;
    status = wal->state.has_hard_state ? LW_OK : LW_NOT_FOUND;
    (void)pthread_mutex_unlock(&wal->lock);
    lw_leave(wal);
    return status;
}

/* *ticket 0: it is durable. */
static int durable_target(lw_wal *wal, uint64_t index, uint64_t *ticket, lw_position *place, lw_error *error)
{
    *place = (lw_position){0, 0};
    /* Its place first: a replacement that comes in between then shows afterwards, and is not taken for this entry. */
    int place_status = lw_read_place(wal, index, place, error);
    if (place_status != LW_OK && place_status != LW_NOT_FOUND)
        return place_status;
    (void)pthread_mutex_lock(&wal->lock);
    int status = lw_check_usable(wal, error);
    uint64_t last = wal->state.bounds.next - 1;
    bool durable = index <= wal->shown_durable;
    *ticket = durable ? 0 : wal->accepted_ticket;
    (void)pthread_mutex_unlock(&wal->lock);
    if (index > last)
        return lw_fail_index(error, LW_OUT_OF_RANGE, index, "index %llu is above last_index(), which is %llu",
                             (unsigned long long)index, (unsigned long long)last);
    if (durable) {
        *place = (lw_position){0, 0};
        return LW_OK;
    }
    if (wal->options.read_only)
        return lw_fail(error, LW_READ_ONLY, "only the writer can make index %llu durable", (unsigned long long)index);
    return status;
}

static int check_durable(lw_wal *wal, uint64_t index, const lw_position *place, lw_error *error)
{
    lw_position now = {0, 0};
    lw_log_id boundary = {0, 0};
    if (place->segment == 0)
        return LW_OK;
    int status = lw_read_place(wal, index, &now, error);
    (void)pthread_mutex_lock(&wal->lock);
    if (wal->state.bounds.has_boundary)
        boundary = wal->state.bounds.boundary;
    (void)pthread_mutex_unlock(&wal->lock);
    if (status != LW_OK && status != LW_NOT_FOUND)
        return status;
    bool same = now.segment == place->segment && now.offset == place->offset;
    return same || index <= boundary.index
               ? LW_OK
               : lw_fail_index(error, LW_CONFLICT, index, "entry %llu was replaced before it was durable",
                               (unsigned long long)index);
}

int lw_wal_durable_target(lw_wal *wal, uint64_t index, uint64_t *ticket, lw_position *place, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = durable_target(wal, index, ticket, place, error);
    lw_leave(wal);
    return status;
}

int lw_wal_check_durable(lw_wal *wal, uint64_t index, const lw_position *place, lw_error *error)
{
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = check_durable(wal, index, place, error);
    lw_leave(wal);
    return status;
}

int lw_wal_wait_durable(lw_wal *wal, uint64_t index, int64_t timeout_ns, lw_error *error)
{
    uint64_t ticket;
    lw_position place;
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = durable_target(wal, index, &ticket, &place, error);
    if (status == LW_OK && ticket > 0)
        status = lw_wait_ticket(wal, ticket, true, timeout_ns < 0, deadline_after(timeout_ns), error);
    if (status == LW_OK)
        status = check_durable(wal, index, &place, error);
    lw_leave(wal);
    return status;
}

/* ---- reading without CPython's lists ---- */

typedef struct packing {
    uint8_t *buffer;
    size_t size;
    size_t capacity;
    size_t count;
} packing;

static int pack_entry(void *argument, const lw_frame *frame, const uint8_t *payload)
{
    packing *p = argument;
    uint64_t head[4] = {frame->index, frame->term, frame->size, frame->kind};
    size_t need = sizeof head + (size_t)lw_align8(frame->size);
    if (p->capacity - p->size < need) {
        size_t capacity = p->capacity * 2 > p->size + need ? p->capacity * 2 : p->size + need;
        uint8_t *more = realloc(p->buffer, capacity);
        if (more == NULL)
            return LW_NO_MEMORY;
        p->buffer = more;
        p->capacity = capacity;
    }
    memcpy(p->buffer + p->size, head, sizeof head);
    memcpy(p->buffer + p->size + sizeof head, payload, frame->size);
    p->size += need;
    p->count++;
    return LW_OK;
}

int lw_wal_read(lw_wal *wal, uint64_t first, uint64_t last, uint64_t max_bytes, uint8_t **buffer, size_t *size, size_t *count,
                lw_error *error)
{
    lw_range range;
    packing p = {0};
    int status = lw_enter(wal, error);
    if (status != LW_OK)
        return status;
    status = lw_range_open(wal, first, last, &range, error);
    if (status == LW_OK) {
        status = lw_range_visit(&range, max_bytes, pack_entry, &p, error);
        lw_range_close(&range);
    }
    lw_leave(wal);
    if (status != LW_OK) {
        free(p.buffer);
        return status == LW_NO_MEMORY ? lw_fail_errno(error, ENOMEM, NULL, "a read") : status;
    }
    *buffer = p.buffer;
    *size = p.size;
    *count = p.count;
    return LW_OK;
}

void lw_buffer_free(uint8_t *buffer)
{
    free(buffer);
}

/* ---- looking at the log ---- */

void lw_wal_stats(lw_wal *wal, lw_stats *stats)
{
    (void)pthread_mutex_lock(&wal->lock);
    *stats = wal->stats;
    stats->sync_p50_ns = lw_histogram_permille(&wal->sync_times, 500);
    stats->sync_p99_ns = lw_histogram_permille(&wal->sync_times, 990);
    stats->sync_max_ns = wal->sync_times.highest;
    stats->segments = wal->segments.count;
    stats->spares = wal->spare_count + (wal->successor != NULL || wal->successor_to_wipe);
    stats->queue_bytes = wal->queue_bytes;
    (void)pthread_mutex_unlock(&wal->lock);
}

/* The runs that are visible ascend by segment, but a segment need not have one. */
static void describe_segment(const lw_segment *segment, const lw_run **run, const lw_run *end, lw_segment_info *row)
{
    *row = (lw_segment_info){.number = segment->identity.number, .size = segment->size, .end = segment->end,
                             .sealed = segment->sealed};
    while (*run < end && (*run)->segment->identity.number < segment->identity.number)
        ++*run;
    if (*run < end && (*run)->segment == segment) {
        row->first_index = (*run)->first;
        row->next_index = (*run)->next;
    }
}

enum { ROWS_AT_ONCE = 64 }; /* that `lock` is held for */

static size_t describe_segments(lw_wal *wal, uint64_t after, lw_segment_info *rows, size_t capacity)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&wal->lock);
    lw_segment **items = lw_segment_list_items(&wal->segments);
    size_t at = lw_segment_list_after(&wal->segments, after);
    const lw_run *run = at < wal->segments.count ? lw_index_of_segment(&wal->index, items[at]->identity.number) : NULL;
    const lw_run *end = lw_index_runs(&wal->index) + wal->index.count;
    for (; count < capacity && at < wal->segments.count; at++, count++)
        describe_segment(items[at], &run, end, &rows[count]);
    (void)pthread_mutex_unlock(&wal->lock);
    return count;
}

size_t lw_wal_segments(lw_wal *wal, uint64_t after, lw_segment_info *rows, size_t capacity)
{
    size_t count = 0;
    while (count < capacity) {
        size_t most = capacity - count < ROWS_AT_ONCE ? capacity - count : ROWS_AT_ONCE;
        size_t more = describe_segments(wal, after, rows + count, most);
        count += more;
        if (more < most)
            break;
        after = rows[count - 1].number;
    }
    return count;
}
