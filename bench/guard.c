/*
 * The fixed work that guard.py counts: `guard WHAT DIR COUNT`, on a log made in DIR.
 *
 *     append1, append64   COUNT entries of 128 bytes, accepted, in batches of 1 or 64
 *     read1, read1000     the same append64, then COUNT entries read back, 1 or 1000 a call
 *     term                the same append64, then the terms of COUNT entries
 *     durable             COUNT batches of one entry, each durable; a line on standard output before and after, and before
 *                         each of these a pause until a byte, or the end, comes on standard input
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "logwal.h"

enum { PAYLOAD = 128, LARGEST_BATCH = 64, LARGEST_READ = 1000 };

static lw_error error;

static void check(int status)
{
    if (status == LW_OK)
        return;
    fprintf(stderr, "guard: status %d: %s\n", status, error.detail);
    exit(1);
}

static void append(lw_wal *wal, uint64_t count, uint64_t batch_count, int durable)
{
    static char payload[PAYLOAD];
    lw_entry entries[LARGEST_BATCH];
    for (uint64_t next = 1; next <= count; next += batch_count) {
        uint64_t ticket;
        for (uint64_t i = 0; i < batch_count; i++)
            entries[i] = (lw_entry){.index = next + i, .term = 1, .payload = payload, .size = PAYLOAD};
        lw_batch batch = {.operation = LW_PERSIST, .entries = entries, .count = batch_count};
        check(lw_wal_submit(wal, &batch, LW_QUEUE, &ticket, &error));
        if (durable)
            check(lw_wal_wait(wal, ticket, 1, -1, &error));
    }
}

static void read_back(lw_wal *wal, uint64_t count, uint64_t read_count)
{
    for (uint64_t next = 1; next <= count; next += read_count) {
        uint8_t *buffer;
        size_t size;
        size_t found;
        check(lw_wal_read(wal, next, next + read_count - 1, UINT64_MAX, &buffer, &size, &found, &error));
        lw_buffer_free(buffer);
    }
}

static void read_terms(lw_wal *wal, uint64_t count)
{
    for (uint64_t index = 1; index <= count; index++) {
        uint64_t term;
        check(lw_wal_term(wal, index, &term, &error));
    }
}

static void say(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0)
        exit(1);
}

static void pause_here(void)
{
    char ignored;
    if (read(STDIN_FILENO, &ignored, 1) < 0)
        exit(1);
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 4)
        return 2;
    const char *what = arguments[1];
    uint64_t count = strtoull(arguments[3], NULL, 10);
    lw_options options = {.segment_bytes = 4 << 20, .max_entry_bytes = 1 << 20, .create = 1};
    lw_wal *wal;
    check(lw_wal_open(arguments[2], &options, &wal, &error));
    if (strcmp(what, "append1") == 0) {
        append(wal, count, 1, 0);
    } else if (strcmp(what, "durable") == 0) {
        append(wal, 10, 1, 1);
        say("ready\n");
        pause_here();
        say("begin\n");
        for (uint64_t i = 0; i < count; i++) {
            uint64_t ticket;
            lw_entry entry = {.index = 11 + i, .term = 1, .payload = what, .size = 7};
            lw_batch batch = {.operation = LW_PERSIST, .entries = &entry, .count = 1};
            check(lw_wal_submit(wal, &batch, LW_QUEUE, &ticket, &error));
            check(lw_wal_wait(wal, ticket, 1, -1, &error));
        }
        say("end\n");
        pause_here();
    } else {
        append(wal, count, LARGEST_BATCH, 0);
        if (strcmp(what, "read1") == 0)
            read_back(wal, count, 1);
        else if (strcmp(what, "read1000") == 0)
            read_back(wal, count, LARGEST_READ);
        else if (strcmp(what, "term") == 0)
            read_terms(wal, count);
    }
    lw_wal_free(wal); /* not closed: nothing here is to be synced that was not asked for */
    return 0;
}
