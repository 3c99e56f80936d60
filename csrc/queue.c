#include "queue.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "accept.h"
#include "error.h"
#include "syncer.h"

enum { PATIENCE_NS = 100000 }; /* a batch of some hundred KiB is copied by then */

/* One block holds the write, its entries, their payloads and the hard state. */
static lw_queued *copy_batch(const lw_batch *batch)
{
    size_t size = sizeof(lw_queued) + batch->count * sizeof(lw_entry);
    if (batch->hard_state != NULL)
        size += sizeof *batch->hard_state;
    for (size_t i = 0; i < batch->count; i++)
        size += (size_t)batch->entries[i].size;
    lw_queued *queued = malloc(size);
    if (queued == NULL)
        return NULL;
    lw_entry *entries = (lw_entry *)(queued + 1);
    lw_hard_state *hard_state = (lw_hard_state *)(entries + batch->count); /* aligned as the entries are */
    uint8_t *at = (uint8_t *)(hard_state + (batch->hard_state != NULL));
    queued->next = NULL;
    queued->size = size;
    queued->batch = *batch;
    queued->batch.entries = entries;
    if (batch->hard_state != NULL) {
        *hard_state = *batch->hard_state;
        queued->batch.hard_state = hard_state;
    }
    for (size_t i = 0; i < batch->count; i++) {
        entries[i] = batch->entries[i];
        entries[i].payload = at;
        if (entries[i].size > 0)
            memcpy(at, batch->entries[i].payload, (size_t)entries[i].size);
        at += entries[i].size;
    }
    return queued;
}

static bool has_room(const lw_wal *wal)
{
    return wal->options.max_queue_bytes == 0 || wal->queue_bytes < wal->options.max_queue_bytes;
}

/* With `lock` held. A batch without entries always finds room: it is small, and a purge makes room itself. */
static int check_room(const lw_wal *wal, const lw_batch *batch, lw_error *error)
{
    if (batch->count == 0 || has_room(wal))
        return LW_OK;
    return lw_fail_index(error, LW_QUEUE_FULL, batch->entries[0].index,
                         "%llu bytes wait for a rotation already, and max_queue_bytes is %llu: nothing was accepted; send the "
                         "entries again later",
                         (unsigned long long)wal->queue_bytes, (unsigned long long)wal->options.max_queue_bytes);
}

/* Batches that no log could take are refused before they are queued. */
static int enqueue(lw_wal *wal, const lw_batch *batch, uint64_t *ticket, lw_error *error)
{
    (void)pthread_mutex_lock(&wal->lock);
    int status = lw_check_writable(wal, error);
    if (status == LW_OK)
        status = check_room(wal, batch, error); /* before anything is copied */
    (void)pthread_mutex_unlock(&wal->lock);
    for (size_t i = 0; i < batch->count && status == LW_OK; i++)
        status = lw_check_size(wal, &batch->entries[i], error);
    if (status != LW_OK)
        return status;
    lw_queued *queued = copy_batch(batch);
    if (queued == NULL)
        return lw_fail_errno(error, ENOMEM, NULL, "a write that waits for a roll");
    (void)pthread_mutex_lock(&wal->lock);
    status = lw_check_writable(wal, error);
    if (status == LW_OK)
        status = check_room(wal, batch, error);
    if (status == LW_OK) {
        wal->queue_bytes += queued->size;
        queued->ticket = *ticket = ++wal->last_ticket;
        *wal->queue_end = queued;
        wal->queue_end = &queued->next;
        (void)pthread_cond_signal(&wal->syncer_work);
    } else {
        free(queued);
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return status == LW_OK ? LW_PENDING : status;
}

/* Holding accept_lock: true, with a ticket, where nothing is queued that would have to go first. The ticket is taken before
 * the write is accepted, not after: a write that is queued meanwhile comes later, and must get a later one. */
static bool take_turn(lw_wal *wal, uint64_t *ticket, int *status, lw_error *error)
{
    (void)pthread_mutex_lock(&wal->lock);
    *status = lw_check_writable(wal, error);
    bool ours = wal->queue_first == NULL && *status == LW_OK;
    if (ours)
        *ticket = ++wal->last_ticket;
    (void)pthread_mutex_unlock(&wal->lock);
    return ours;
}

/* LW_QUEUE waits a moment for a writer that is copying its batch, but not for one that drains the queue: that may be
 * rotating. */
static bool try_turn(lw_wal *wal, lw_patience patience)
{
    uint64_t deadline_ns = 0;
    while (pthread_mutex_trylock(&wal->accept_lock) != 0) {
        if (patience == LW_TRY || __atomic_load_n(&wal->draining, __ATOMIC_RELAXED))
            return false;
        uint64_t now_ns = lw_now_ns();
        if (deadline_ns == 0)
            deadline_ns = now_ns + PATIENCE_NS;
        if (now_ns >= deadline_ns)
            return false;
        (void)sched_yield();
    }
    return true;
}

int lw_submit(lw_wal *wal, const lw_batch *batch, lw_patience patience, uint64_t *ticket, lw_error *error)
{
    uint64_t segment_bytes;
    int status;
    if (wal->options.read_only)
        return lw_fail(error, LW_READ_ONLY, "the log was opened with read_only=True; open it without, to write");
    if (!try_turn(wal, patience))
        return patience == LW_TRY ? LW_BUSY : enqueue(wal, batch, ticket, error);
    bool ours = take_turn(wal, ticket, &status, error);
    if (ours)
        status = lw_accept(wal, batch, *ticket, &segment_bytes, error);
    if (ours && status != LW_OK)
        lw_accept_nothing(wal, *ticket);
    /* Queued before accept_lock is let go: no later write can pass this one. */
    if (status == LW_PENDING || (!ours && status == LW_OK))
        status = enqueue(wal, batch, ticket, error);
    (void)pthread_mutex_unlock(&wal->accept_lock);
    return status;
}

static void refuse(lw_wal *wal, uint64_t ticket, const lw_error *error)
{
    lw_refusal *refusal = malloc(sizeof *refusal);
    (void)pthread_mutex_lock(&wal->lock);
    if (refusal != NULL) {
        *refusal = (lw_refusal){wal->refusals, ticket, *error};
        wal->refusals = refusal;
    } else {
        lw_fail_log(wal, ENOMEM, 0); /* a write must not look accepted because its refusal found no memory */
    }
    (void)pthread_mutex_unlock(&wal->lock);
}

/* Holding accept_lock: LW_OK where the successor is the tail now; LW_PENDING where it is not ready yet, and the keeper has been
 * told what it has to be like; or why it could not be made. */
static int rotate_or_wait(lw_wal *wal, uint64_t segment_bytes, lw_error *error)
{
    int status = lw_check_place(wal, error);
    if (status != LW_OK)
        return status;
    (void)pthread_mutex_lock(&wal->lock);
    status = lw_check_usable(wal, error); /* the file's name may just have failed to be synced */
    bool first_look = wal->rotation_bytes == 0;
    wal->rotation_bytes = segment_bytes;
    if (status == LW_OK && lw_waits_for_successor(wal)) {
        wal->stats.rotations_waited += first_look;
        (void)pthread_cond_signal(&wal->keeper_work);
        status = LW_PENDING;
    } else if (status == LW_OK && wal->rotation_error.status != LW_OK) {
        *error = wal->rotation_error;
        status = error->status;
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return status == LW_OK ? lw_rotate(wal, error) : status;
}

/* Holding accept_lock. LW_PENDING where it has to wait for a successor; else it is accepted or refused. */
static int accept_queued(lw_wal *wal, lw_queued *queued)
{
    uint64_t segment_bytes;
    lw_error error;
    (void)pthread_mutex_lock(&wal->lock);
    int status = lw_check_writable(wal, &error); /* a sync may have failed since it was queued */
    (void)pthread_mutex_unlock(&wal->lock);
    if (status == LW_OK)
        status = lw_accept(wal, &queued->batch, queued->ticket, &segment_bytes, &error);
    if (status == LW_PENDING) {
        status = rotate_or_wait(wal, segment_bytes, &error);
        if (status == LW_PENDING)
            return status;
        if (status == LW_OK)
            status = lw_accept(wal, &queued->batch, queued->ticket, &segment_bytes, &error);
        if (status == LW_PENDING)
            status = lw_fail_errno(&error, EFBIG, NULL, "a new segment has no room for the batch");
    }
    if (status != LW_OK) {
        refuse(wal, queued->ticket, &error);
        lw_accept_nothing(wal, queued->ticket);
    }
    return status;
}

/* Takes the first write, which is accepted or refused, off the queue. */
static void dequeue(lw_wal *wal, lw_queued *queued)
{
    (void)pthread_mutex_lock(&wal->lock);
    wal->queue_first = queued->next;
    if (wal->queue_first == NULL)
        wal->queue_end = &wal->queue_first;
    wal->queue_bytes -= queued->size;
    wal->rotation_bytes = 0;
    wal->rotation_error.status = LW_OK;
    lw_announce(wal);
    if (wal->wanted_ticket > wal->durable_ticket)
        (void)pthread_cond_signal(&wal->syncer_work); /* who waits for this write may have asked for a sync long ago */
    (void)pthread_mutex_unlock(&wal->lock);
    free(queued);
}

void lw_drain_queue(lw_wal *wal)
{
    (void)pthread_mutex_lock(&wal->accept_lock);
    __atomic_store_n(&wal->draining, true, __ATOMIC_RELAXED);
    for (;;) {
        (void)pthread_mutex_lock(&wal->lock);
        lw_queued *queued = wal->queue_first;
        (void)pthread_mutex_unlock(&wal->lock);
        if (queued == NULL || accept_queued(wal, queued) == LW_PENDING)
            break;
        dequeue(wal, queued);
    }
    __atomic_store_n(&wal->draining, false, __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&wal->accept_lock);
}

int lw_wait_for_room(lw_wal *wal, uint64_t deadline_ns, lw_error *error)
{
    int status;
    (void)pthread_mutex_lock(&wal->lock);
    while ((status = lw_check_usable(wal, error)) == LW_OK && !has_room(wal)) {
        if (deadline_ns != 0 && lw_now_ns() >= deadline_ns) {
            status = lw_fail(error, LW_TIMED_OUT, "the queue has no room within the time given");
            break;
        }
        lw_cond_wait_until(&wal->moved, &wal->lock, deadline_ns);
    }
    (void)pthread_mutex_unlock(&wal->lock);
    return status;
}

bool lw_roll_ahead(lw_wal *wal)
{
    lw_error ignored; /* a write that needs the roll will meet it again */
    if (pthread_mutex_trylock(&wal->accept_lock) != 0)
        return false;
    __atomic_store_n(&wal->draining, true, __ATOMIC_RELAXED);
    (void)pthread_mutex_lock(&wal->lock);
    bool rolls = wal->tail_is_spent && wal->successor != NULL && wal->rotation_bytes == 0;
    wal->tail_is_spent = false; /* also where it fails: one try */
    (void)pthread_mutex_unlock(&wal->lock);
    if (rolls && lw_check_place(wal, &ignored) == LW_OK)
        (void)lw_rotate(wal, &ignored);
    __atomic_store_n(&wal->draining, false, __ATOMIC_RELAXED);
    (void)pthread_mutex_unlock(&wal->accept_lock);
    return rolls;
}

int lw_take_refusal(lw_wal *wal, uint64_t ticket, lw_error *error)
{
    for (lw_refusal **at = &wal->refusals; *at != NULL; at = &(*at)->next) {
        lw_refusal *refusal = *at;
        if (refusal->ticket != ticket)
            continue;
        *at = refusal->next;
        *error = refusal->error;
        free(refusal);
        return error->status;
    }
    return LW_OK;
}

void lw_free_queue(lw_wal *wal)
{
    while (wal->queue_first != NULL) {
        lw_queued *queued = wal->queue_first;
        wal->queue_first = queued->next;
        free(queued);
    }
    while (wal->refusals != NULL) {
        lw_refusal *refusal = wal->refusals;
        wal->refusals = refusal->next;
        free(refusal);
    }
}
