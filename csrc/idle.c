#include "idle.h"

#include "accept.h"

#define IDLE_NS ((uint64_t)100 * 1000000)

/* With `lock` held: something is durable that no watermark in the tail covers. */
static bool watermark_is_behind(const lw_wal *wal)
{
    return wal->durable.segment == wal->tail->identity.number && wal->durable.offset > LW_FRAMES_OFFSET &&
           lw_position_before(wal->stored_watermark, wal->durable);
}

/* With `lock` held: a COMMIT would say something that the log does not, and may be written at all. */
static bool is_due(const lw_wal *wal)
{
    return watermark_is_behind(wal) && !wal->failed && !wal->replaced && !__atomic_load_n(&wal->closing, __ATOMIC_SEQ_CST);
}

void lw_idle_begin(lw_wal *wal)
{
    wal->awaits_idle = true;
    wal->idle_at_ns = lw_now_ns() + IDLE_NS;
}

void lw_idle_notice_durable(lw_wal *wal)
{
    if (wal->awaits_idle || !watermark_is_behind(wal))
        return;
    lw_idle_begin(wal);
    (void)pthread_cond_signal(&wal->syncer_work);
}

/* With `lock` held, which is let go meanwhile. False where somebody writes, or is about to: that brings a COMMIT of its own. */
static bool try_append(lw_wal *wal)
{
    (void)pthread_mutex_unlock(&wal->lock);
    bool locked = pthread_mutex_trylock(&wal->accept_lock) == 0;
    (void)pthread_mutex_lock(&wal->lock);
    if (!locked)
        return false;
    bool quiet = wal->queue_first == NULL && !wal->sync_running;
    bool due = quiet && is_due(wal);
    (void)pthread_mutex_unlock(&wal->lock);
    if (due)
        (void)lw_accept_commit_alone(wal);
    (void)pthread_mutex_unlock(&wal->accept_lock);
    (void)pthread_mutex_lock(&wal->lock);
    return quiet;
}

void lw_idle_look(lw_wal *wal)
{
    uint64_t now_ns = wal->awaits_idle ? lw_now_ns() : 0;
    if (now_ns == 0 || now_ns < wal->idle_at_ns)
        return;
    uint64_t since_sync_ns = now_ns - __atomic_load_n(&wal->shown_synced_ns, __ATOMIC_RELAXED);
    if (since_sync_ns < IDLE_NS) {
        wal->idle_at_ns = now_ns + IDLE_NS - since_sync_ns;
        return;
    }
    wal->awaits_idle = false; /* a sync that ends while the lock is let go sets it anew */
    if (is_due(wal) && !try_append(wal))
        lw_idle_begin(wal);
}
