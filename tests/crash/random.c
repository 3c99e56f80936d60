/* Histories made up from a seed: every operation, in any mix, dying anywhere, at least three times each. */
#include "random.h"

#include <errno.h>
#include <stdio.h>

#include "session.h"

static void random_entries(void)
{
    const model_print *now = &s.model.now;
    uint64_t held = now->next - now->first;
    uint64_t draw = sim_below(100);
    size_t count = 1 + (size_t)sim_below(sim_chance(80) ? 4 : 24);
    if (now->first == now->next && !now->has_boundary && sim_chance(30)) {
        (void)step_persist(1 + sim_below(1000), s.term, count);
    } else if (draw < 60 || held == 0) {
        if (draw < 10)
            s.term++;
        (void)step_append(count);
    } else if (draw < 75) { /* sent again, at least in part */
        uint64_t back = 1 + sim_below(held < 20 ? held : 20);
        (void)step_persist(now->next - back, model_term(&s.model, now->next - back), count);
    } else if (draw < 85) { /* another leader's */
        uint64_t back = 1 + sim_below(held < 20 ? held : 20);
        (void)step_persist(now->next - back, ++s.term, count);
    } else if (draw < 90) { /* reaching back behind the boundary */
        uint64_t first = now->first > 3 ? now->first - 1 - sim_below(2) : now->first;
        (void)step_persist(first, s.term, count);
    } else if (draw < 92) {
        (void)step_persist(now->next + 1 + sim_below(3), s.term, count);
    } else {
        (void)step_persist_sized(now->next, s.term, 1 + (size_t)sim_below(3), sim_below(30000));
    }
}

static void random_cut(void)
{
    const model_print *now = &s.model.now;
    uint64_t held = now->next - now->first;
    uint64_t index = now->first + sim_below(held + 2) - sim_below(2);
    if (sim_chance(50))
        (void)step_replace(index, (size_t)sim_below(6));
    else
        (void)step_truncate(index);
}

static void random_purge(void)
{
    const model_print *now = &s.model.now;
    uint64_t held = now->next - now->first;
    uint64_t index = sim_chance(15) ? now->next + sim_below(20) : now->first + sim_below(held + 1);
    uint64_t term = model_term(&s.model, index);
    if (sim_chance(10))
        term = s.term + sim_below(2);
    if (term > s.term)
        s.term = term;
    (void)step_purge(index, term);
    if (sim_chance(70))
        (void)step_wait();
}

static bool waits_for_each; /* write, as in the mode BATCH */

static void random_step(void)
{
    uint64_t draw = sim_below(100);
    if (draw < 45)
        random_entries();
    else if (draw < 52)
        random_cut();
    else if (draw < 58)
        random_purge();
    else if (draw < 59)
        (void)step_reset();
    else if (draw < 64)
        (void)step_with_hard_state((size_t)sim_below(3), sim_below(3000));
    else if (draw < 76)
        (void)step_wait();
    else if (draw < 84)
        step_wait_aside();
    else if (draw < 88)
        step_sync_aside();
    else if (draw < 90)
        (void)step_wait_durable(s.model.now.first + sim_below(s.model.now.next - s.model.now.first + 1));
    else if (draw < 92)
        step_read_beside();
    else if (draw < 95)
        step_check();
    else if (draw < 97)
        step_idle();
    else
        for (uint64_t i = sim_below(8); i > 0; i--)
            sim_yield();
    if (waits_for_each && draw < 64)
        (void)step_wait();
}

void random_steps(uint64_t count)
{
    for (; count > 0; count--)
        random_step();
}

static void *random_life(void *argument)
{
    (void)argument;
    for (uint64_t lives = 1 + sim_below(3); lives > 0; lives--) {
        if (!session_open())
            return NULL;
        random_steps(sim_below(60));
        if (sim_chance(40))
            return NULL;
        if (!session_close())
            return NULL;
    }
    return NULL;
}

static void random_failure(void)
{
    static const unsigned syncs = DISK_SYNC | DISK_SYNC_DIR;
    uint64_t draw = sim_below(100);
    if (draw < 45)
        disk_fail(syncs, 1 + (unsigned)sim_below(20), EIO);
    else if (draw < 65)
        disk_fail(DISK_STORE, 1 + (unsigned)sim_below((uint64_t)1 << sim_below(8)), EIO);
    else if (draw < 80)
        disk_fail(DISK_ALLOCATE | DISK_RESERVE, 1 + (unsigned)sim_below(4), ENOSPC);
    else
        disk_fail(DISK_RENAME | DISK_REMOVE | DISK_WRITE | DISK_OPEN | DISK_MAP, 1 + (unsigned)sim_below(30), EIO);
    if (draw >= 45)
        disk_fail_again(40);
    s.fails = true;
}

static uint64_t random_death(void)
{
    return 1 + sim_below((uint64_t)1 << sim_below(11));
}

void random_history(uint64_t seed)
{
    static const uint32_t sizes[] = {20480, 24576, 32768};
    sim_seed(seed * 0x5851f42d4c957f2du + 1);
    session_begin();
    s.profile = (unsigned)sim_below(3);
    s.options.segment_bytes = sizes[sim_below(3)];
    s.options.spare_segments = (uint32_t)sim_below(4);
    s.options.sync_interval_ms = sim_chance(30) ? 10 : 0;
    waits_for_each = sim_chance(40);
    disk_eager((unsigned)(sim_chance(50) ? 0 : sim_below(20)));
    sim_restless((unsigned)(sim_chance(50) ? 0 : sim_below(30)));
    for (uint64_t crashes = 3 + sim_below(5); crashes > 0; crashes--) {
        if (sim_chance(20))
            random_failure();
        sim_die_at(random_death());
        if (sim_run(random_life, NULL) == SIM_STUCK)
            fail("nothing moves any more");
        session_crash(sim_chance(75), (disk_survival)sim_below(DISK_SURVIVALS));
    }
}
