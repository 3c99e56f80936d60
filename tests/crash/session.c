#include "session.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

session s;
enum lw_step lw_left_out;

static uint8_t payloads[2 * MODEL_MAX_PAYLOAD];
static model_entry backup[MODEL_MAX_ENTRIES];

void fail(const char *format, ...)
{
    va_list arguments;
    (void)printf("FAILED %s: ", s.history);
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    (void)printf("\n");
    (void)fflush(stdout);
    _Exit(1);
}

void tell(const char *format, ...)
{
    va_list arguments;
    if (!s.verbose)
        return;
    (void)printf("%4llu  ", (unsigned long long)sim_events());
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    (void)printf("\n");
}

void session_begin(void)
{
    sim_bury();
    disk_clear();
    model_clear(&s.model);
    s.options = (lw_options){.segment_bytes = TINY_SEGMENT, .max_entry_bytes = MODEL_MAX_PAYLOAD, .spare_segments = 1,
                             .sync_interval_ms = 0, .create = 1};
    s.wal = NULL;
    s.term = 1;
    s.ticket = 0;
    s.untouched = false;
    s.power_held = true;
    s.fails = s.poisoned = s.copied = s.garbled = false;
    s.profile = 0;
}

/* ---- reading back ---- */

/* Entries of [p->first, p->next) into `entries`. */
static int read_entries(lw_wal *wal, model_print *p, model_entry *entries, lw_error *error)
{
    uint8_t *buffer = NULL;
    size_t size;
    size_t count;
    int status = lw_wal_read(wal, 1, UINT64_MAX, UINT64_MAX, &buffer, &size, &count, error);
    if (status != LW_OK)
        return status;
    uint64_t head[4] = {0, 0, 0, 0};
    const uint8_t *at = buffer;
    for (size_t i = 0; i < count; i++) {
        uint64_t index = head[0];
        memcpy(head, at, sizeof head);
        if (i > 0 && head[0] != index + 1)
            fail("a hole: entry %llu follows entry %llu", (unsigned long long)head[0], (unsigned long long)index);
        if (i == 0)
            p->first = head[0];
        entries[i] = (model_entry){head[1], model_hash_entry(head[0], head[1], (uint8_t)head[3], at + sizeof head, head[2])};
        p->entries += entries[i].hash;
        at += sizeof head + (head[2] + 7) / 8 * 8;
    }
    p->next = p->first + count;
    lw_buffer_free(buffer);
    return LW_OK;
}

static int read_back(lw_wal *wal, model_print *p, model_entry *entries, lw_error *error)
{
    lw_log_id boundary;
    lw_hard_state hard;
    memset(p, 0, sizeof *p);
    p->first = p->next = lw_wal_first_index(wal);
    int status = read_entries(wal, p, entries, error);
    if (status != LW_OK)
        return status;
    if (lw_wal_boundary(wal, &boundary, error) == LW_OK) {
        p->has_boundary = 1;
        p->boundary_index = boundary.index;
        p->boundary_term = boundary.term;
    }
    if (lw_wal_hard_state(wal, &hard, error) == LW_OK)
        p->hard_state = model_hash_hard_state(&hard);
    return LW_OK;
}

static const char *describe(const lw_error *error)
{
    static char text[400];
    (void)snprintf(text, sizeof text, "status %d, errno %d, %s at %llu, indices %llu..%llu: %s", error->status,
                   error->sys_errno, error->file, (unsigned long long)error->offset, (unsigned long long)error->index,
                   (unsigned long long)error->last_index, error->detail);
    return text;
}

/* Where something was made to fail, these are answers, too. */
static void allow(int status, const lw_error *error, const char *what)
{
    bool reverted = status == LW_CORRUPTION && disk_sync_failed(); /* a failed sync took it out of the cache */
    bool may = reverted || ((status == LW_SYNC_FAILED || status == LW_IO || status == LW_DISK_FULL || status == LW_LOCKED) && s.fails);
    if (!may)
        fail("%s: %s", what, describe(error));
    if (status == LW_SYNC_FAILED)
        s.poisoned = true;
    tell("    -> %s", describe(error));
}

/* ---- verification ---- */

typedef struct verified {
    unsigned needed; /* findings that something depends on */
    unsigned others;
    unsigned of_closing; /* of these, close marks and offset indexes of the tail */
    lw_finding first;
    int status; /* LW_NOT_FOUND: it came to its end */
} verified;

static verified verify_log(void)
{
    verified v = {.status = LW_PENDING};
    lw_verify *verify;
    lw_finding finding;
    lw_verify_progress progress;
    lw_error error;
    v.status = lw_verify_open_on(disk_open(), NULL, &verify, &error);
    if (v.status != LW_OK)
        return v;
    while (v.status == LW_OK || v.status == LW_PENDING) {
        v.status = lw_verify_next(verify, &finding, &progress, &error);
        if (v.status != LW_OK)
            continue;
        if (v.needed + v.others == 0 || (v.needed == 0 && finding.needed))
            v.first = finding;
        v.needed += finding.needed != 0;
        v.others += finding.needed == 0;
        v.of_closing += finding.needed == 0 && (finding.kind == LW_FOUND_CLOSE_MARK || finding.kind == LW_FOUND_OFFSET_INDEX);
    }
    if (v.status == LW_NOT_FOUND && v.needed + v.others == 0 && progress.bytes != progress.total_bytes)
        fail("verification ends after %llu of %llu bytes", (unsigned long long)progress.bytes,
             (unsigned long long)progress.total_bytes);
    lw_verify_free(verify);
    return v;
}

static const char *describe_finding(const lw_finding *finding)
{
    static char text[400];
    (void)snprintf(text, sizeof text, "%s at %llu, kind %d, indices %llu..%llu: %s", finding->file,
                   (unsigned long long)finding->offset, finding->kind, (unsigned long long)finding->first_index,
                   (unsigned long long)finding->last_index, finding->detail);
    return text;
}

/* Of the disk as it is, without a moment's passing. */
static verified verify_quietly(void)
{
    sim_be_quiet(true);
    verified v = verify_log();
    sim_be_quiet(false);
    return v;
}

/* ---- open, close, crash ---- */

static void check_found(void)
{
    static model_entry entries[MODEL_MAX_ENTRIES];
    model *m = &s.model;
    model_print found;
    lw_error error;
    if (read_back(s.wal, &found, entries, &error) != LW_OK)
        fail("what was recovered cannot be read: %s", describe(&error));
    size_t least = s.power_held ? m->accepted : m->acknowledged;
    size_t which = model_find(m, &found, least, m->writes);
    if (which == SIZE_MAX) {
        model_print_out("found", &found);
        for (size_t i = 0; i <= m->writes; i++) {
            char title[32];
            (void)snprintf(title, sizeof title, "write %zu%s", i, i < least ? " -" : "");
            model_print_out(title, &m->prints[i]);
        }
        size_t earlier = model_find(m, &found, 0, m->writes);
        fail(earlier != SIZE_MAX ? "only %zu writes are there, of %zu that have to be (of %zu)"
                                 : "what was recovered is no state of the log (writes %zu..%zu of %zu)",
             earlier != SIZE_MAX ? earlier : least, earlier != SIZE_MAX ? least : m->writes, m->writes);
    }
    uint64_t last = lw_wal_last_index(s.wal);
    if (last != found.next - 1 || lw_wal_first_index(s.wal) != found.first)
        fail("first and last index are %llu and %llu", (unsigned long long)lw_wal_first_index(s.wal), (unsigned long long)last);
    if (lw_wal_durable_index(s.wal) != last)
        fail("after open durable_index is %llu", (unsigned long long)lw_wal_durable_index(s.wal));
    tell("    -> found the state after write %zu of %zu (accepted %zu, acknowledged %zu)", which, m->writes, m->accepted,
         m->acknowledged);
    model_rebase(m, &found, entries);
}

bool session_open(void)
{
    lw_error error;
    tell("open");
    uint64_t before = s.copied ? disk_checksum() : 0;
    verified v = verify_quietly();
    int status = lw_wal_open_on(disk_open(), &s.options, &s.wal, &error);
    if (status == LW_OK && v.needed + v.others > (s.garbled ? v.of_closing : 0))
        fail("a log that opens is damaged, verification says: %s", describe_finding(&v.first));
    if (status != LW_OK) {
        s.wal = NULL;
        if (s.copied && (status != LW_DISK_FULL || disk_checksum() != before))
            fail("open of a copy: %s", describe(&error));
        if (!disk_failed())
            fail("open: %s", describe(&error));
        allow(status, &error, "open");
        return false;
    }
    check_found();
    lw_stats stats;
    lw_wal_stats(s.wal, &stats);
    if (s.untouched && stats.cut_bytes > 0)
        fail("%llu bytes were cut that an open had cut before", (unsigned long long)stats.cut_bytes);
    s.untouched = true;
    s.power_held = true;
    s.poisoned = false;
    s.ticket = 0;
    s.opens++;
    if (s.term < model_term(&s.model, s.model.now.next - 1))
        s.term = model_term(&s.model, s.model.now.next - 1);
    return true;
}

void session_open_damaged(size_t least)
{
    static model_entry entries[MODEL_MAX_ENTRIES];
    lw_error error;
    model_print found;
    uint64_t before = disk_checksum();
    verified v = verify_quietly();
    int status = lw_wal_open_on(disk_open(), &s.options, &s.wal, &error);
    if (status != LW_OK) {
        s.wal = NULL;
        tell("    -> %s", describe(&error));
        if (status == LW_CORRUPTION && v.needed == 0)
            fail("the log does not open (%s), and verification finds nothing", describe(&error));
        if (disk_checksum() != before)
            fail("the open of a damaged log failed, and changed it: %s", describe(&error));
        return;
    }
    status = read_back(s.wal, &found, entries, &error);
    tell("    -> %s", status == LW_OK ? "read" : describe(&error));
    if (status == LW_OK && model_find(&s.model, &found, least, s.model.writes) == SIZE_MAX)
        fail("damage went unnoticed");
    if (status == LW_CORRUPTION && v.needed == 0)
        fail("the log cannot be read (%s), and verification finds nothing", describe(&error));
}

void session_open_locked(void)
{
    lw_error error;
    lw_wal *second;
    tell("a second writer");
    int status = lw_wal_open_on(disk_open(), &s.options, &second, &error);
    if (status != LW_LOCKED)
        fail("a second writer: %s", status == LW_OK ? "it opened" : describe(&error));
}

bool session_close(void)
{
    lw_error error;
    tell("close");
    int status = lw_wal_close(s.wal, &error);
    if (status == LW_OK)
        s.model.acknowledged = s.model.accepted = s.model.writes;
    else
        allow(status, &error, "close");
    for (int patience = 0; s.aside > 0; sim_yield())
        if (++patience > 1000000)
            fail("a call does not return from a log that is closed");
    lw_wal_free(s.wal);
    s.wal = NULL;
    s.opens++;
    return status == LW_OK;
}

static void crash(bool power, disk_survival survival, unsigned last)
{
    tell("==== %s (survival %d)", power ? "POWER CUT" : "KILL", survival);
    s.crashes++;
    if (disk_sync_failed() || power)
        s.power_held = false;
    s.garbled = s.garbled || (power && survival == DISK_TORN);
    s.wal = NULL;
    s.aside = 0;
    s.opens++;
    s.fails = false;
    if (last > 0)
        disk_power_cut_but(last);
    else if (power)
        disk_power_cut(survival);
    else
        disk_kill();
    sim_bury();
}

void session_crash(bool power, disk_survival survival)
{
    crash(power, survival, 0);
}

void session_crash_but(unsigned last_sectors)
{
    crash(true, DISK_LATER, last_sectors);
}

/* ---- writes ---- */

int step_write(const lw_batch *batch, const char *what)
{
    model *m = &s.model;
    lw_error error;
    uint64_t ticket;
    model_print before = m->now;
    if (m->writes == MODEL_MAX_WRITES || before.next - before.first + batch->count >= MODEL_MAX_ENTRIES)
        return LW_OUT_OF_RANGE;
    memcpy(backup, m->entries, (size_t)(before.next - before.first) * sizeof *backup);
    int expected = model_write(m, batch);
    size_t number = m->writes;
    bool poisoned = s.poisoned;
    s.untouched = false;
    tell("%s (write %zu)", what, number);
    int status = lw_wal_submit(s.wal, batch, LW_QUEUE, &ticket, &error);
    bool queued = status == LW_PENDING;
    if (status == LW_PENDING && (expected != LW_OK || s.fails)) { /* its answer is needed to know the state */
        status = lw_wal_wait(s.wal, ticket, 0, -1, &error);
    }
    if (status == LW_PENDING && sim_chance(20)) {
        status = lw_wal_wait(s.wal, ticket, 0, -1, &error);
        tell("    -> queued, and then accepted");
    }
    if (status == LW_OK || status == LW_PENDING) {
        if (expected != LW_OK)
            fail("%s was accepted, though it is error %d", what, expected);
        if (poisoned)
            fail("%s was accepted after a failed sync", what);
        s.ticket = ticket;
        if (status == LW_OK)
            m->accepted = number;
        return status;
    }
    if (status == expected)
        return status;
    allow(status, &error, what);
    /* It was queued, and nobody can tell whether it was accepted before the sync failed. */
    if (expected == LW_OK && !(queued && status == LW_SYNC_FAILED))
        model_take_back(m, &before, backup);
    return status;
}

/* All that an entry holds follows from its index and term, so that what is sent again is the same. */
static uint64_t make_entry(lw_entry *entry, uint64_t index, uint64_t term, uint64_t size, uint64_t offset)
{
    uint64_t state = index * 0x9e3779b97f4a7c15u ^ term * 0xd1b54a32d192ed03u;
    uint64_t draw = state ^ state >> 31;
    if (size == UINT64_MAX) {
        uint64_t sort = draw % 100;
        draw /= 100;
        size = sort < 80 ? draw % 120 : sort < 95 ? draw % 1500 : draw % (s.profile == 0 ? 3000 : 9000);
        if (s.profile == 2 && sort == 99)
            size = 20000 + draw % 40000;
    }
    if (size > sizeof payloads - offset)
        size = sizeof payloads - offset;
    uint8_t *at = payloads + offset;
    for (uint64_t i = 0; i < size; i++) {
        if (i % 8 == 0)
            state = state * 6364136223846793005u + 1442695040888963407u;
        at[i] = (uint8_t)(state >> (8 * (i % 8)));
    }
    *entry = (lw_entry){index, term, at, size, (uint8_t)draw};
    return offset + (size + 7) / 8 * 8;
}

int step_persist_sized(uint64_t first, uint64_t term, size_t count, uint64_t size)
{
    lw_entry entries[MAX_BATCH];
    uint64_t offset = 0;
    char what[96];
    for (size_t i = 0; i < count; i++)
        offset = make_entry(&entries[i], first + i, term, size, offset);
    lw_batch batch = {.operation = LW_PERSIST, .entries = entries, .count = count};
    (void)snprintf(what, sizeof what, "persist %llu..%llu term %llu (%llu bytes)", (unsigned long long)first,
                   (unsigned long long)(first + count - 1), (unsigned long long)term, (unsigned long long)offset);
    return step_write(&batch, what);
}

int step_persist(uint64_t first, uint64_t term, size_t count)
{
    return step_persist_sized(first, term, count, UINT64_MAX);
}

int step_append(size_t count)
{
    return step_persist(s.model.now.next, s.term, count);
}

int step_with_hard_state(size_t count, uint64_t vote)
{
    lw_entry entries[MAX_BATCH];
    uint64_t offset = 0;
    lw_hard_state hard = {.term = s.term, .commit_index = vote, .has_vote = vote % 3 != 0};
    if (hard.has_vote)
        hard.vote_size = (uint16_t)(vote % 20);
    hard.extra_size = (uint16_t)(vote % 3 == 0 ? vote % 2048 : 0);
    memset(hard.vote, (int)vote, hard.vote_size);
    memset(hard.extra, (int)(vote + 1), hard.extra_size);
    for (size_t i = 0; i < count; i++)
        offset = make_entry(&entries[i], s.model.now.next + i, s.term, UINT64_MAX, offset);
    lw_batch batch = {.operation = LW_PERSIST, .entries = entries, .count = count, .hard_state = &hard};
    return step_write(&batch, "hard state, and entries");
}

int step_replace(uint64_t from, size_t count)
{
    lw_entry entries[MAX_BATCH];
    uint64_t offset = 0;
    char what[64];
    if (count > 0)
        s.term++;
    for (size_t i = 0; i < count; i++)
        offset = make_entry(&entries[i], from + i, s.term, UINT64_MAX, offset);
    lw_batch batch = {.operation = LW_REPLACE, .at = {from, 0}, .entries = entries, .count = count};
    (void)snprintf(what, sizeof what, "replace from %llu by %zu", (unsigned long long)from, count);
    return step_write(&batch, what);
}

int step_truncate(uint64_t from)
{
    char what[64];
    lw_batch batch = {.operation = LW_TRUNCATE, .at = {from, 0}};
    (void)snprintf(what, sizeof what, "truncate from %llu", (unsigned long long)from);
    return step_write(&batch, what);
}

int step_purge(uint64_t index, uint64_t term)
{
    char what[64];
    lw_batch batch = {.operation = LW_PURGE, .at = {index, term}};
    (void)snprintf(what, sizeof what, "purge to %llu/%llu", (unsigned long long)index, (unsigned long long)term);
    return step_write(&batch, what);
}

int step_reset(void)
{
    lw_batch batch = {.operation = LW_RESET};
    return step_write(&batch, "reset");
}

uint64_t last_index(void)
{
    return s.model.now.next - 1;
}

/* ---- waiting ---- */

/* `poisoned`: a failed sync had been told of before the wait began. */
static void heard(int status, size_t number, bool poisoned, const lw_error *error)
{
    if (status != LW_OK) {
        allow(status, error, "a wait");
        return;
    }
    if (poisoned && number > s.model.acknowledged)
        fail("write %zu was acknowledged after a failed sync", number);
    tell("    -> write %zu is durable", number);
    if (number > s.model.acknowledged)
        s.model.acknowledged = number;
    if (number > s.model.accepted)
        s.model.accepted = number;
}

int step_wait(void)
{
    lw_error error;
    size_t number = s.model.writes;
    if (s.ticket == 0)
        return LW_OK;
    bool poisoned = s.poisoned;
    tell("wait for write %zu", number);
    int status = lw_wal_wait(s.wal, s.ticket, 1, -1, &error);
    heard(status, number, poisoned, &error);
    return status;
}

typedef struct waiter {
    uint64_t ticket;
    size_t number;
    lw_wal *wal;
} waiter;

static void *wait_main(void *argument)
{
    waiter w = *(waiter *)argument;
    lw_error error;
    bool poisoned = s.poisoned;
    int status = lw_wal_wait(w.wal, w.ticket, 1, -1, &error);
    if (status != LW_CLOSED)
        heard(status, w.number, poisoned, &error);
    s.aside--;
    return NULL;
}

void step_wait_aside(void)
{
    static waiter waiters[256];
    static size_t next;
    sim_thread ignored;
    if (s.ticket == 0)
        return;
    waiter *w = &waiters[next++ % 256];
    *w = (waiter){s.ticket, s.model.writes, s.wal};
    tell("wait for write %zu, aside", w->number);
    if (sim_thread_create(&ignored, wait_main, w) == 0)
        s.aside++;
}

void step_sync_aside(void)
{
    tell("ask for a sync");
    lw_wal_arm(s.wal, -2, s.ticket, 1);
}

void step_idle(void)
{
    static const struct timespec pause = {0, 250 * 1000000};
    tell("idle");
    (void)sim_sleep(&pause);
}

int step_wait_durable(uint64_t index)
{
    lw_error error;
    if (s.model.accepted < s.model.writes)
        return LW_OK;
    tell("wait until %llu is durable", (unsigned long long)index);
    int status = lw_wal_wait_durable(s.wal, index, -1, &error);
    if (status == LW_OK)
        model_durable_index(&s.model, index);
    else if (!(status == LW_OUT_OF_RANGE && index > last_index()))
        allow(status, &error, "wait_durable");
    return status;
}

/* ---- reading ---- */

void step_check(void)
{
    static model_entry entries[MODEL_MAX_ENTRIES];
    model_print found;
    lw_error error;
    if (s.model.accepted < s.model.writes)
        return;
    int status = read_back(s.wal, &found, entries, &error);
    if (status != LW_OK) {
        if (disk_sync_failed() && status == LW_CORRUPTION)
            return; /* what a failed sync took out of the cache */
        fail("a read: %s", describe(&error));
    }
    if (memcmp(&found, &s.model.now, sizeof found) != 0) {
        if (disk_sync_failed())
            return;
        model_print_out("found", &found);
        model_print_out("expected", &s.model.now);
        fail("the log is not what it should be");
    }
    if (!s.poisoned && !disk_sync_failed())
        model_durable_index(&s.model, lw_wal_durable_index(s.wal));
}

/* What a reader beside the writer may see: any state between what was durable before and what is accepted after. */
static void *read_main(void *argument)
{
    static model_entry entries[MODEL_MAX_ENTRIES];
    lw_options options = s.options;
    lw_wal *wal;
    lw_error error;
    model_print found;
    (void)argument;
    if (s.verifies) {
        verified v = verify_log();
        if (v.needed + v.others > 0 && !s.fails && !disk_failed())
            fail("verification beside the writer: %s", describe_finding(&v.first));
        return NULL;
    }
    options.read_only = 1;
    uint64_t opens = s.opens;
    size_t least = s.model.accepted;
    int status = lw_wal_open_on(disk_open(), &options, &wal, &error);
    if (status != LW_OK) {
        if (!s.fails && !disk_failed())
            fail("open read-only: %s", describe(&error));
        return NULL;
    }
    status = read_back(wal, &found, entries, &error);
    if (status == LW_OK && !disk_sync_failed() && opens == s.opens &&
        model_find(&s.model, &found, least < s.model.writes ? least : s.model.writes, s.model.writes) == SIZE_MAX)
        fail("a reader sees what is no state of the log");
    if (status != LW_OK && status != LW_PURGED && !disk_sync_failed())
        fail("a reader beside the writer: %s", describe(&error));
    (void)lw_wal_close(wal, &error);
    lw_wal_free(wal);
    return NULL;
}

void step_read_beside(void)
{
    sim_thread ignored;
    tell("a reader, aside");
    (void)sim_thread_create(&ignored, read_main, NULL);
}
