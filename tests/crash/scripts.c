/*
 * Scripted histories: short ones, each about one thing that can go wrong, dying at every one of their events, with each
 * way in which the disk may be left, and again at every event of the recovery. Nothing is sampled but the bytes that
 * survive where that is by chance, and the order of threads.
 */
#include "scripts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "session.h"

typedef struct script {
    const char *name;
    void (*before)(void); /* lives that end before; they see to their own crashes */
    void (*body)(void);
    unsigned spares;
    unsigned failing; /* operations of which the nth fails, for n = 1 .. fail_count */
    unsigned fail_count; /* without `failing`: of variants */
} script;

enum { KILLED = DISK_SURVIVALS, ENDS };

static uint64_t crash_points;

/* ---- bodies ---- */

static void body_open(void)
{
}

static void body_first(void)
{
    (void)step_append(1);
    (void)step_wait();
}

static void body_waited(void)
{
    for (int i = 0; i < 3; i++) {
        (void)step_append(1);
        (void)step_wait();
    }
}

static void body_pipelined(void)
{
    for (int i = 0; i < 4; i++)
        (void)step_append(1);
    (void)step_wait();
}

static void body_two_syncs(void)
{
    (void)step_append(1);
    step_wait_aside();
    step_sync_aside();
    (void)step_append(1);
    (void)step_wait();
    (void)step_append(1);
    (void)step_wait();
}

static void fill(size_t count, uint64_t size)
{
    for (size_t i = 0; i < count; i++)
        (void)step_persist_sized(s.model.now.next, s.term, 1, size);
}

static void body_roll(void)
{
    fill(5, 3000);
    (void)step_wait();
    (void)step_append(1);
    (void)step_wait();
}

static void body_roll_unsynced(void)
{
    fill(9, 3500);
}

static void body_roll_waited(void)
{
    for (int i = 0; i < 6; i++) {
        fill(1, 3700);
        (void)step_wait();
    }
}

static void body_large(void)
{
    (void)step_append(1);
    (void)step_persist_sized(s.model.now.next, s.term, 1, 40000);
    (void)step_append(1);
    (void)step_wait();
}

static void body_large_many(void)
{
    (void)step_append(1);
    (void)step_wait();
    (void)step_persist_sized(s.model.now.next, s.term, 12, 2500);
    (void)step_wait();
    (void)step_truncate(4);
    (void)step_wait();
}

static void body_truncate(void)
{
    (void)step_append(6);
    (void)step_wait();
    (void)step_truncate(3);
    (void)step_append(1);
    (void)step_wait();
    (void)step_truncate(1);
    (void)step_wait();
}

static void body_replace(void)
{
    (void)step_append(4);
    (void)step_wait();
    (void)step_replace(2, 3);
    (void)step_wait_durable(3);
    (void)step_replace(1, 1);
    (void)step_wait();
}

static void body_replace_old(void)
{
    fill(6, 3000);
    (void)step_wait();
    (void)step_replace(2, 2);
    (void)step_wait();
    (void)step_append(1);
    (void)step_wait();
}

static void body_replaced_not_durable(void)
{
    (void)step_append(3);
    (void)step_wait();
    (void)step_replace(2, 2);
    step_check(); /* and what durable_index() says then is acknowledged */
    (void)step_truncate(1);
    (void)step_persist(1, s.term, 2);
    step_check();
    (void)step_wait_durable(1);
}

static void body_blank_again(void)
{
    (void)step_persist(45, s.term, 2);
    (void)step_wait();
    (void)step_truncate(45);
    (void)step_persist(1, s.term, 3);
    step_check();
    (void)step_wait_durable(1);
    (void)step_append(1);
}

static void body_retry(void)
{
    (void)step_append(3);
    step_wait_aside();
    (void)step_persist(1, s.term, 3);
    (void)step_wait();
    (void)step_append(1);
    (void)step_persist(2, s.term, 3);
    (void)step_wait();
}

static void body_retry_unsynced(void)
{
    (void)step_append(2);
    step_sync_aside();
    for (int i = 0; i < 3; i++) {
        (void)step_persist(1, s.term, 2);
        step_wait_aside();
    }
    (void)step_wait();
}

static void body_other_leader(void)
{
    (void)step_append(5);
    s.term++;
    (void)step_persist(3, s.term, 2);
    (void)step_wait();
    s.term++;
    (void)step_persist(4, s.term, 3);
    (void)step_wait();
}

static void body_purge(void)
{
    fill(6, 3000);
    (void)step_wait();
    (void)step_purge(5, s.term);
    (void)step_wait();
    (void)step_append(1);
    (void)step_wait();
}

static void body_purge_all(void)
{
    fill(5, 3000);
    (void)step_purge(5, s.term);
    (void)step_wait();
    (void)step_append(1);
    (void)step_wait();
}

static void body_purge_beyond(void)
{
    fill(5, 3000);
    (void)step_wait();
    (void)step_purge(100, s.term);
    (void)step_append(1);
    (void)step_wait();
}

static void body_purge_other_term(void)
{
    fill(5, 3000);
    (void)step_wait();
    s.term++;
    (void)step_purge(3, s.term);
    (void)step_wait();
    (void)step_append(1);
}

static void body_reset(void)
{
    (void)step_with_hard_state(2, 7);
    fill(4, 3500);
    (void)step_reset();
    (void)step_wait();
    (void)step_append(2);
    (void)step_wait();
}

static void body_hard_state(void)
{
    (void)step_with_hard_state(2, 5);
    (void)step_wait();
    (void)step_with_hard_state(0, 8);
    (void)step_with_hard_state(0, 10);
    (void)step_wait();
}

static void body_reopen(void)
{
    (void)step_append(2);
    if (!session_close() || !session_open())
        return;
    (void)step_append(1);
    (void)step_wait();
    (void)step_append(1);
    (void)session_close();
}

static void body_reopen_only(void)
{
    (void)step_append(2);
    if (session_close() && session_open() && session_close())
        (void)session_open();
}

static void body_reopen_rolled(void)
{
    fill(4, 3500);
    if (!session_close() || !session_open())
        return;
    fill(3, 3500);
    (void)step_wait();
    (void)session_close();
}

static void body_recycle(void)
{
    for (int round = 0; round < 3; round++) {
        fill(4, 3500);
        (void)step_wait();
        (void)step_purge(last_index(), s.term);
        (void)step_wait();
    }
    (void)step_append(1);
    (void)step_wait();
}

static void body_recycle_reopened(void)
{
    fill(8, 3500);
    (void)step_purge(last_index() - 1, s.term);
    (void)step_wait();
    if (!session_close() || !session_open())
        return;
    fill(6, 3500);
    (void)step_purge(last_index(), s.term);
    (void)step_wait();
}

static void body_reader(void)
{
    fill(3, 3500);
    step_read_beside();
    fill(3, 3500);
    (void)step_wait();
    step_read_beside();
    (void)step_truncate(last_index());
    (void)step_purge(4, s.term);
    (void)step_wait();
    step_read_beside();
    fill(4, 3500);
    (void)step_wait();
}

static void body_interval(void)
{
    (void)step_append(1);
    for (int i = 0; i < 5; i++)
        sim_yield();
    (void)step_append(1);
    for (int i = 0; i < 5; i++)
        sim_yield();
    (void)session_close();
}

/* LOCK removed under a writer; LOCK locked by a writer that knows of nothing else. */
static void body_idle(void)
{
    (void)step_append(1);
    (void)step_wait();
    step_idle();
    step_read_beside();
    (void)step_append(1);
    step_idle();
    (void)step_append(1);
    (void)step_wait();
}

/* Written while a sync runs, and synced by nobody: the COMMIT alone knows only of what the sync covered. */
static void body_idle_ahead(void)
{
    for (int round = 0; round < 6; round++) {
        (void)step_append(1);
        step_wait_aside();
        for (int patience = 100; patience > 0 && !disk_sync_runs(); patience--)
            sim_yield();
        (void)step_persist_sized(s.model.now.next, s.term, 1, 1200);
        step_idle();
    }
}

static void body_second_writer(void)
{
    (void)step_append(1);
    (void)step_wait();
    session_open_locked();
    disk_remove("LOCK");
    session_open_locked();
    (void)step_append(1);
    if (!session_close() || !session_open())
        return;
    (void)step_append(1);
    if (!session_close())
        return;
    disk_lock("LOCK", true);
    session_open_locked();
    disk_lock("LOCK", false);
    (void)session_open();
}

static void body_mixed_failing(void)
{
    (void)step_append(1);
    step_wait_aside();
    step_sync_aside();
    (void)step_append(1);
    (void)step_wait();
    fill(4, 3500);
    (void)step_wait();
    (void)step_purge(3, s.term);
    (void)step_wait();
    (void)step_append(1);
    (void)step_wait();
}

/* ---- lives before ---- */

static void *run_body(void *argument)
{
    const script *which = argument;
    if (session_open())
        which->body();
    return NULL;
}

static void live(void (*body)(void), bool power, disk_survival survival)
{
    script one = {.name = "before", .body = body};
    sim_die_at(0);
    if (sim_run(run_body, &one) == SIM_STUCK)
        fail("nothing moves any more");
    session_crash(power, survival);
}

static void body_two_lost(void)
{
    (void)step_append(1);
    (void)step_append(1);
    (void)step_append(1);
}

/* The first batch is lost, those behind it are on the disk. */
static void before_torn(void)
{
    live(body_two_lost, true, DISK_LATER);
}

static void before_torn_twice(void)
{
    live(body_two_lost, true, DISK_LATER);
    live(body_two_lost, true, DISK_LATER);
}

static void body_sent_again(void)
{
    (void)step_append(1);
    (void)step_wait();
    (void)step_append(1);
}

static void body_successor_torn(void)
{
    fill(1, 3000);
    (void)step_wait();
    for (int i = 0; i < 12; i++)
        sim_yield();
    (void)step_append(1);
    (void)step_append(1);
}

static void before_successor_torn(void)
{
    live(body_successor_torn, true, DISK_LATER);
}

/* The successor's header is lost, its frames are not; then it is begun once more, with the same bytes. */
static void before_headless(void)
{
    live(body_roll_unsynced, true, DISK_LATER);
}

static void before_closed(void)
{
    live(body_reopen_rolled, false, DISK_NOTHING);
}

static void before_killed(void)
{
    live(body_roll_unsynced, false, DISK_NOTHING);
}

static unsigned variant; /* of a history that comes in several */

static void body_close(void)
{
    (void)step_append(1);
    (void)session_close();
}

static void body_sized(void)
{
    fill(3, 600);
}

/* The mark of a clean close is not cleared on the disk, and the first batch behind it is lost, the later ones are not. */
static void before_marked(void)
{
    live(body_close, true, DISK_NOTHING);
    sim_die_at(0);
    script one = {.name = "before", .body = body_sized};
    (void)sim_run(run_body, &one);
    session_crash_but(variant);
}

static void body_sized_again(void)
{
    fill(1, 600);
    (void)step_wait();
    fill(1, 600);
}

static void body_state_of_two_sectors(void)
{
    (void)step_with_hard_state(3, 1002);
    (void)step_wait();
}

static void body_closed_with_successor(void)
{
    fill(9, 3000);
    (void)step_wait();
    (void)session_close();
}

/* A copy that left out zeros, on a disk with too little space: for recovery, for all of the tail, for the successor, for none. */
static void before_sparse(void)
{
    static const uint64_t free_pages[] = {0, 2, 3, 4, 6, 9, 14, 22};
    char names[64][DISK_NAME];
    s.options.segment_bytes = 65536;
    live(body_closed_with_successor, false, DISK_NOTHING);
    size_t count = disk_names(names, 64);
    for (size_t i = 0; i < count; i++)
        disk_make_sparse(names[i]);
    disk_space(free_pages[variant - 1]);
    s.fails = s.copied = true;
}

static void done_or_full(int status, const char *what)
{
    if (status != LW_OK && status != LW_PENDING && status != LW_DISK_FULL)
        fail("%s on a full disk: status %d", what, status);
}

static void done(int status, const char *what)
{
    if (status != LW_OK && status != LW_PENDING)
        fail("%s: status %d", what, status);
}

/* The log opened, so purge and reset have to work, and the close has to; all else may lack space, but nothing else. */
static void body_sparse(void)
{
    for (int i = 0; i < 10; i++) /* stored into the mapping, and handed to write */
        done_or_full(step_persist_sized(s.model.now.next, s.term, 1, i % 3 == 0 ? 9000 : 1500), "an append");
    done_or_full(step_with_hard_state(0, 5), "a hard state");
    done(step_purge(s.model.now.next - 2, s.term), "a purge");
    done(step_wait(), "a wait");
    done_or_full(step_append(1), "an append");
    done(step_reset(), "a reset");
    done(step_wait(), "a wait");
    if (!session_close())
        fail("close on a full disk");
    if (!session_open())
        return;
    disk_space(UINT64_MAX);
    done(step_append(3), "an append with space");
    fill(7, 9000);
    done(step_wait(), "a wait");
}

static void body_begins_next(void)
{
    uint64_t last = last_index() + 2;
    fill(2, 3500);
    while (lw_wal_last_index(s.wal) < last)
        sim_yield();
}

/* Of the successor's header, which the hard state makes longer than a sector, only the first sector reaches the disk. The next
 * header has the rest of it. */
static void before_half_header(void)
{
    uint64_t size;
    live(body_state_of_two_sectors, false, DISK_NOTHING);
    live(body_begins_next, true, DISK_EVERYTHING);
    uint8_t *successor = disk_bytes("0000000000000002.wal", &size);
    memset(successor + DISK_SECTOR, 0, 4096 - DISK_SECTOR);
    disk_settle();
}

/* ---- all of them ---- */

static const script scripts[] = {
    {.name = "a-new-log", .body = body_open, .spares = 1},
    {.name = "a-new-log-without-spares", .body = body_open},
    {.name = "the-first-write", .body = body_first, .spares = 1},
    {.name = "writes-waited-for", .body = body_waited, .spares = 1},
    {.name = "writes-pipelined", .body = body_pipelined, .spares = 1},
    {.name = "a-caller-syncs-beside-the-thread", .body = body_two_syncs, .spares = 1},
    {.name = "a-roll", .body = body_roll, .spares = 1},
    {.name = "rolls-without-a-sync", .body = body_roll_unsynced, .spares = 1},
    {.name = "a-roll-with-every-write-waited-for", .body = body_roll_waited, .spares = 2},
    {.name = "a-roll-without-spares", .body = body_roll},
    {.name = "a-batch-larger-than-a-segment", .body = body_large, .spares = 1},
    {.name = "a-large-batch-of-many", .body = body_large_many, .spares = 1},
    {.name = "truncate", .body = body_truncate, .spares = 1},
    {.name = "replace", .body = body_replace, .spares = 1},
    {.name = "replace-in-an-older-segment", .body = body_replace_old, .spares = 1},
    {.name = "a-replaced-suffix-is-not-durable", .body = body_replaced_not_durable, .spares = 1},
    {.name = "a-log-that-begins-again-lower", .body = body_blank_again, .spares = 1},
    {.name = "a-retry-that-finds-everything", .body = body_retry, .spares = 1},
    {.name = "retries-before-the-sync", .body = body_retry_unsynced, .spares = 1},
    {.name = "another-leader", .body = body_other_leader, .spares = 1},
    {.name = "purge", .body = body_purge, .spares = 1},
    {.name = "purge-of-everything", .body = body_purge_all, .spares = 1},
    {.name = "purge-beyond-the-end", .body = body_purge_beyond, .spares = 1},
    {.name = "purge-with-another-term", .body = body_purge_other_term, .spares = 1},
    {.name = "reset", .body = body_reset, .spares = 1},
    {.name = "hard-states", .body = body_hard_state, .spares = 1},
    {.name = "close-and-open", .body = body_reopen, .spares = 1},
    {.name = "close-and-open-without-a-write", .body = body_reopen_only, .spares = 1},
    {.name = "close-and-open-after-a-roll", .body = body_reopen_rolled, .spares = 1},
    {.name = "recycling", .body = body_recycle, .spares = 1},
    {.name = "recycling-with-three-spares", .body = body_recycle, .spares = 3},
    {.name = "recycling-after-reopening", .body = body_recycle_reopened, .spares = 2},
    {.name = "a-reader-beside", .body = body_reader, .spares = 1},
    {.name = "an-interval", .body = body_interval, .spares = 1},
    {.name = "idle", .body = body_idle, .spares = 1},
    {.name = "idle-with-something-not-durable", .body = body_idle_ahead, .spares = 1},
    {.name = "idle-after-a-kill", .before = before_killed, .body = body_idle, .spares = 1},
    {.name = "a-second-writer", .body = body_second_writer, .spares = 1},
    {.name = "the-same-bytes-behind-a-cut", .before = before_torn, .body = body_sent_again, .spares = 1},
    {.name = "the-same-bytes-behind-two-cuts", .before = before_torn_twice, .body = body_sent_again, .spares = 1},
    {.name = "the-same-bytes-behind-a-close-mark", .before = before_marked, .body = body_sized_again, .fail_count = 8},
    {.name = "a-torn-tail-beside-a-successor", .before = before_successor_torn, .body = body_sent_again, .spares = 1},
    {.name = "a-successor-that-lost-its-header", .before = before_headless, .body = body_roll_unsynced, .spares = 1},
    {.name = "half-a-header-that-the-next-completes", .before = before_half_header, .body = body_begins_next},
    {.name = "a-sparse-copy-on-a-full-disk", .before = before_sparse, .body = body_sparse, .spares = 1, .fail_count = 8},
    {.name = "after-a-clean-close", .before = before_closed, .body = body_roll_unsynced, .spares = 1},
    {.name = "after-a-kill", .before = before_killed, .body = body_purge, .spares = 1},
    {.name = "a-sync-fails", .body = body_mixed_failing, .spares = 1, .failing = DISK_SYNC, .fail_count = 12},
    {.name = "a-directory-sync-fails", .body = body_recycle, .spares = 1, .failing = DISK_SYNC_DIR, .fail_count = 8},
};

enum { SCRIPT_COUNT = sizeof scripts / sizeof scripts[0] };

static void *epilogue(void *argument)
{
    (void)argument;
    if (!session_open())
        return NULL;
    step_check();
    (void)step_append(1);
    (void)step_wait();
    (void)step_append(1);
    return NULL;
}

static void *last_look(void *argument)
{
    (void)argument;
    if (session_open())
        (void)session_close();
    return NULL;
}

static sim_outcome move(void *(*body)(void *), const script *which, uint64_t death)
{
    sim_die_at(death);
    sim_outcome outcome = sim_run(body, (void *)(uintptr_t)which);
    if (outcome == SIM_STUCK)
        fail("nothing moves any more");
    return outcome;
}

typedef struct attempt {
    const script *which;
    unsigned nth; /* the operation that fails, or the variant; 0: none */
    uint64_t schedule;
    uint64_t death;
    unsigned end; /* a disk_survival, or KILLED */
    uint64_t recovery_death;
} attempt;

/* Returns how many of the two deaths came. */
static unsigned run(const attempt *a)
{
    static char history[160];
    (void)snprintf(history, sizeof history, "script %s %u %llu %llu %u %llu", a->which->name, a->nth,
                   (unsigned long long)a->schedule, (unsigned long long)a->death, a->end,
                   (unsigned long long)a->recovery_death);
    s.history = history;
    sim_seed(a->schedule * 0x9e3779b97f4a7c15u);
    session_begin();
    s.options.spare_segments = a->which->spares;
    s.options.sync_interval_ms = strcmp(a->which->name, "an-interval") == 0 ? 10 : 0;
    disk_eager(a->schedule % 3 == 2 ? 10 : 0);
    sim_restless(a->schedule % 2 == 0 ? 15 : 0);
    variant = a->nth;
    if (a->which->before != NULL)
        a->which->before();
    if (a->which->failing != 0) {
        disk_fail(a->which->failing, a->nth, EIO);
        s.fails = true;
    }
    unsigned deaths = move(run_body, a->which, a->death) == SIM_DIED;
    sim_seed((a->schedule * 1000003 + a->death) * 131 + a->end);
    session_crash(a->end != KILLED, a->end != KILLED ? (disk_survival)a->end : DISK_NOTHING);
    if (a->recovery_death > 0) {
        deaths += move(epilogue, NULL, a->recovery_death) == SIM_DIED;
        session_crash(a->recovery_death % 3 != 0, DISK_HALF);
    }
    (void)move(epilogue, NULL, 0);
    session_crash(true, sim_chance(50) ? DISK_NOTHING : DISK_HALF);
    (void)move(last_look, NULL, 0);
    session_crash(false, DISK_NOTHING);
    return deaths;
}

static void run_recoveries(attempt a, uint64_t depth)
{
    static const unsigned ends[] = {DISK_HALF, KILLED, DISK_TORN};
    for (uint64_t d = 0; d < depth && d < 3; d++) {
        a.end = ends[d];
        unsigned before = a.death > 0;
        for (a.recovery_death = 1; run(&a) == before + 1; a.recovery_death++)
            crash_points++;
    }
}

static void run_script(const script *which, unsigned nth, uint64_t schedule, uint64_t depth)
{
    attempt a = {.which = which, .nth = nth, .schedule = schedule};
    bool died = true;
    for (a.death = 1; died; a.death++) {
        for (a.end = 0; a.end < ENDS; a.end++) {
            died = run(&a) == 1;
            crash_points++;
        }
        if (died)
            run_recoveries(a, depth);
    }
}

void scripts_run(uint64_t schedules, uint64_t depth)
{
    for (size_t i = 0; i < SCRIPT_COUNT; i++)
        for (uint64_t schedule = 0; schedule < schedules; schedule++)
            for (unsigned nth = scripts[i].fail_count > 0; nth <= scripts[i].fail_count; nth++)
                run_script(&scripts[i], nth, schedule, depth);
    (void)printf("scripts: %d histories, %llu crash points, %llu crashes\n", (int)SCRIPT_COUNT,
                 (unsigned long long)crash_points, (unsigned long long)s.crashes);
}

int scripts_replay(char **words)
{
    for (size_t i = 0; i < SCRIPT_COUNT; i++) {
        if (strcmp(scripts[i].name, words[0]) != 0)
            continue;
        attempt a = {.which = &scripts[i], .nth = (unsigned)strtoul(words[1], NULL, 10),
                     .schedule = strtoull(words[2], NULL, 10), .death = strtoull(words[3], NULL, 10),
                     .end = (unsigned)strtoul(words[4], NULL, 10), .recovery_death = strtoull(words[5], NULL, 10)};
        (void)run(&a);
        return 0;
    }
    return 2;
}
