/*
 * The core alone, through csrc/logwal.h and without Python: writes a log in an empty directory, syncs and closes it, opens
 * it again, and compares what is there. Segments are small, so that both threads of the core have work.
 *
 *     smoke DIRECTORY      exit status: 0 all as written, 1 not; what differs is printed
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "logwal.h"

enum { ENTRIES = 500, BATCH = 10, MAX_PAYLOAD = 2000, ENTRY_HEADER = 32 };

static const lw_options options = {
    .segment_bytes = 1 << 16,
    .max_entry_bytes = 1 << 20,
    .max_queue_bytes = 1 << 20,
    .spare_segments = 1,
    .create = 1,
};

static void fail(const char *what, const lw_error *error)
{
    fprintf(stderr, "smoke: %s", what);
    if (error != NULL)
        fprintf(stderr, ": status %d, errno %d, %s [%s]", error->status, error->sys_errno, error->detail, error->file);
    fprintf(stderr, "\n");
    exit(1);
}

static void require(int holds, const char *what)
{
    if (!holds)
        fail(what, NULL);
}

static lw_entry entry_at(uint64_t index, uint8_t *payload)
{
    uint64_t size = index * 37 % MAX_PAYLOAD;
    for (uint64_t i = 0; i < size; i++)
        payload[i] = (uint8_t)(index + i * 7);
    return (lw_entry){
        .index = index, .term = 1 + index / 100, .payload = payload, .size = size, .kind = (uint8_t)(index % 256)};
}

static lw_wal *open_log(const char *path, int read_only)
{
    lw_options chosen = options;
    lw_error error = {.status = LW_OK};
    lw_wal *wal = NULL;
    chosen.read_only = (uint8_t)read_only;
    chosen.create = !read_only;
    if (lw_wal_open(path, &chosen, &wal, &error) != LW_OK)
        fail("open", &error);
    return wal;
}

static void close_log(lw_wal *wal)
{
    lw_error error = {.status = LW_OK};
    if (lw_wal_close(wal, &error) != LW_OK)
        fail("close", &error);
    lw_wal_free(wal);
}

static uint64_t submit(lw_wal *wal, const lw_batch *batch)
{
    lw_error error = {.status = LW_OK};
    uint64_t ticket = 0;
    int status;
    while ((status = lw_wal_submit(wal, batch, LW_QUEUE, &ticket, &error)) == LW_QUEUE_FULL)
        if (lw_wal_wait_room(wal, -1, &error) != LW_OK)
            fail("wait for room", &error);
    if (status != LW_OK && status != LW_PENDING)
        fail("submit", &error);
    return ticket;
}

static void wait_durable(lw_wal *wal, uint64_t ticket)
{
    lw_error error = {.status = LW_OK};
    if (lw_wal_wait(wal, ticket, 1, -1, &error) != LW_OK)
        fail("sync", &error);
}

static void append_all(lw_wal *wal, const lw_hard_state *state)
{
    static uint8_t payloads[BATCH][MAX_PAYLOAD];
    lw_entry entries[BATCH];
    for (uint64_t first = 1; first <= ENTRIES; first += BATCH) {
        for (uint64_t i = 0; i < BATCH; i++)
            entries[i] = entry_at(first + i, payloads[i]);
        lw_batch batch = {.operation = LW_PERSIST, .entries = entries, .count = BATCH};
        if (first + BATCH > ENTRIES)
            batch.hard_state = state;
        wait_durable(wal, submit(wal, &batch));
    }
    require(lw_wal_durable_index(wal) == ENTRIES, "the last entry is not durable after its sync");
}

static uint64_t load(const uint8_t *at)
{
    uint64_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

static void compare_entries(lw_wal *wal, uint64_t first)
{
    uint8_t payload[MAX_PAYLOAD];
    lw_error error = {.status = LW_OK};
    uint8_t *buffer;
    size_t size;
    size_t count;
    require(lw_wal_first_index(wal) == first && lw_wal_last_index(wal) == ENTRIES, "another range of entries");
    if (lw_wal_read(wal, 1, ENTRIES, UINT64_MAX, &buffer, &size, &count, &error) != LW_OK)
        fail("read", &error);
    require(count == ENTRIES - first + 1, "another number of entries");
    const uint8_t *at = buffer;
    for (uint64_t index = first; index <= ENTRIES; index++) {
        lw_entry wanted = entry_at(index, payload);
        require(load(at) == index && load(at + 8) == wanted.term && load(at + 16) == wanted.size &&
                    load(at + 24) == wanted.kind,
                "an entry has another index, term, size or kind");
        require(memcmp(at + ENTRY_HEADER, payload, wanted.size) == 0, "an entry has another payload");
        at += ENTRY_HEADER + (wanted.size + 7) / 8 * 8;
    }
    require(at == buffer + size, "the buffer has another size");
    lw_buffer_free(buffer);
}

static void compare_hard_state(lw_wal *wal, const lw_hard_state *wanted)
{
    lw_hard_state found;
    lw_error error = {.status = LW_OK};
    if (lw_wal_hard_state(wal, &found, &error) != LW_OK)
        fail("read the hard state", &error);
    require(found.term == wanted->term && found.commit_index == wanted->commit_index && found.has_vote &&
                found.vote_size == wanted->vote_size && memcmp(found.vote, wanted->vote, wanted->vote_size) == 0,
            "another hard state");
}

static void check_checksums(void)
{
    uint8_t payload[MAX_PAYLOAD];
    (void)entry_at(53, payload);
    require(lw_crc32c(0, "123456789", 9) == 0xe3069283, "the checksum of 123456789");
    for (size_t size = 0; size < 1961; size += 7)
        require(lw_crc32c(0, payload, size) == lw_crc32c_portable(0, payload, size), "the portable checksum differs");
}

int main(int argc, char **argv)
{
    lw_hard_state state = {.term = 7, .commit_index = 3, .has_vote = 1, .vote_size = 5, .vote = "node1"};
    if (argc != 2) {
        fprintf(stderr, "usage: smoke DIRECTORY\n");
        return 2;
    }
    check_checksums();

    lw_wal *wal = open_log(argv[1], 0);
    append_all(wal, &state);
    lw_segment_info segments[2];
    require(lw_wal_segments(wal, 0, segments, 2) == 2, "the log has one segment: nothing was rotated");
    close_log(wal);

    wal = open_log(argv[1], 1);
    compare_entries(wal, 1);
    compare_hard_state(wal, &state);
    close_log(wal);

    wal = open_log(argv[1], 0);
    uint8_t payload[MAX_PAYLOAD];
    lw_batch purge = {.operation = LW_PURGE, .at = {.index = 400, .term = entry_at(400, payload).term}};
    wait_durable(wal, submit(wal, &purge));
    close_log(wal);

    wal = open_log(argv[1], 0);
    compare_entries(wal, 401);
    compare_hard_state(wal, &state);
    close_log(wal);
    printf("smoke: %d entries and the hard state are as written, also after a purge\n", ENTRIES);
    return 0;
}
