#include "damage.h"

#include <errno.h>
#include <stdio.h>

#include "random.h"
#include "session.h"

/* Everything before this place was known to be durable by something that was durable itself. */
static uint64_t known_segment;
static uint64_t known_end; /* UINT64_MAX: the whole file */
static size_t known_writes;

static void note_known(void)
{
    lw_segment_info rows[64];
    size_t count = lw_wal_segments(s.wal, 0, rows, 64);
    if (count == 0 || count > 64)
        return;
    known_segment = rows[count - 1].number;
    known_end = rows[count - 1].end;
    known_writes = s.model.writes;
}

/* Where a COMMIT alone has no room it is left out. */
static bool idle_commit_is_there(void)
{
    lw_segment_info rows[64];
    size_t count = lw_wal_segments(s.wal, 0, rows, 64);
    return count > 0 && count <= 64 && rows[count - 1].number == known_segment && rows[count - 1].end > known_end;
}

/* Opened, some writes refused, and closed again. False where the close did not make all durable. */
static bool refused_life(void)
{
    disk_fail(sim_chance(50) ? DISK_STORE : DISK_WRITE | DISK_ALLOCATE, 1 + (unsigned)sim_below(12), EIO);
    disk_fail_again(40);
    s.fails = true;
    bool closed = session_open();
    if (closed) {
        random_steps(1 + sim_below(4));
        closed = session_close();
    }
    disk_fail(0, 0, 0);
    return closed;
}

/* What comes before the damage. */
typedef struct ending {
    bool closes;
    bool idles; /* is killed, when it has written nothing for long enough for a COMMIT alone */
} ending;

static void *life(void *argument)
{
    ending *e = argument;
    if (sim_chance(50)) {
        (void)session_open();
        random_steps(sim_below(30));
        (void)session_close();
    }
    (void)session_open();
    random_steps(1 + sim_below(40));
    if (e->closes) {
        (void)session_close();
        if (sim_chance(30))
            e->closes = refused_life();
        return NULL;
    }
    (void)step_append(1);
    (void)step_wait();
    note_known();
    if (e->idles) {
        step_idle();
        e->idles = idle_commit_is_there();
    }
    if (e->idles)
        return NULL;
    (void)step_with_hard_state(1, sim_below(100));
    (void)step_wait(); /* its COMMIT knows of the write before */
    return NULL;
}

static void damage_bytes(uint8_t *at, uint64_t room)
{
    static const uint64_t sizes[] = {1, 8, 512, 4096};
    uint64_t size = sizes[sim_below(4)];
    uint64_t way = sim_below(3);
    if (size > room)
        size = room;
    if (way == 0)
        at[0] = (uint8_t)(at[0] ^ 1u << sim_below(8));
    for (uint64_t i = 0; way > 0 && i < size; i++)
        at[i] = way == 1 ? 0 : (uint8_t)sim_random();
}

/* In frames most of the time: a whole segment is mostly emptiness. */
static uint64_t place(uint64_t limit)
{
    if (sim_chance(30))
        return sim_below(limit);
    return limit > 8192 ? 8192 + sim_below(sim_chance(50) ? limit - 8192 : 512) % (limit - 8192) : sim_below(limit);
}

static bool damage(void)
{
    char names[64][DISK_NAME];
    size_t count = disk_names(names, 64);
    size_t which = (size_t)sim_below(count);
    unsigned long long number;
    for (size_t i = 0; i < count; i++, which = (which + 1) % count) {
        if (strstr(names[which], ".wal") == NULL || sscanf(names[which], "%16llx", &number) != 1 || number > known_segment)
            continue;
        uint64_t size = 0;
        uint8_t *bytes = disk_bytes(names[which], &size);
        uint64_t limit = number == known_segment && known_end < size ? known_end : size;
        uint64_t at = place(limit);
        tell("damage %s at %llu", names[which], (unsigned long long)at);
        uint64_t page_end = (at / 4096 + 1) * 4096; /* beyond it may be what knows of this place */
        damage_bytes(bytes + at, (page_end < limit ? page_end : limit) - at);
        disk_settle();
        return true;
    }
    return false;
}

static void *look(void *argument)
{
    (void)argument;
    session_open_damaged(known_writes);
    return NULL;
}

static void *life_until_sealed(void *argument)
{
    lw_error error;
    lw_segment_info rows[2];
    (void)argument;
    (void)session_open();
    while (lw_wal_segments(s.wal, 0, rows, 2) < 2)
        if (step_persist_sized(s.model.now.next, s.term, 1, 3000) == LW_PENDING)
            (void)lw_wal_wait(s.wal, s.ticket, 0, -1, &error);
    return NULL;
}

static void *life_until_sealed_again(void *argument)
{
    (void)argument;
    (void)session_open();
    (void)step_replace(2, 1);
    (void)step_wait();
    for (int i = 0; i < 6; i++)
        (void)step_persist_sized(s.model.now.next, s.term, 1, 3000);
    (void)step_wait();
    (void)session_close();
    return NULL;
}

void damage_old_copy(void)
{
    static uint8_t copy[TINY_SEGMENT];
    uint64_t size = 0;
    sim_seed(1);
    session_begin();
    disk_eager(0);
    sim_restless(0);
    (void)sim_run(life_until_sealed, NULL);
    session_crash(true, DISK_NOTHING); /* the first footer is there, the header after it is not */
    memcpy(copy, disk_bytes("0000000000000001.wal", &size), sizeof copy);
    (void)sim_run(life_until_sealed_again, NULL);
    session_crash(true, DISK_NOTHING);
    memcpy(disk_bytes("0000000000000001.wal", &size), copy, sizeof copy);
    disk_settle();
    known_writes = s.model.writes;
    (void)sim_run(look, NULL);
    session_crash(false, DISK_NOTHING);
}

void damage_history(uint64_t seed)
{
    sim_seed(seed * 0x2545f4914f6cdd1du + 7);
    session_begin();
    disk_eager(0);
    sim_restless(0);
    s.options.spare_segments = (uint32_t)sim_below(3);
    const bool wanted = sim_chance(50);
    ending e = {.closes = wanted, .idles = !wanted && sim_chance(50)};
    if (sim_run(life, &e) == SIM_STUCK)
        fail("nothing moves any more");
    if (e.closes != wanted) { /* what is known to be durable is not known here */
        session_crash(true, DISK_NOTHING);
        return;
    }
    if (e.closes) {
        known_segment = UINT64_MAX;
        known_end = UINT64_MAX;
        known_writes = s.model.writes;
    }
    session_crash(!e.idles, DISK_NOTHING);
    if (!damage())
        return;
    if (sim_run(look, NULL) == SIM_STUCK)
        fail("nothing moves any more");
    session_crash(false, DISK_NOTHING);
}
