/*
 * libFuzzer on recovery: a log of several segments and every kind of record, with the input's patches laid over its files.
 * An input is a list of patches: file (1 byte), offset (3 bytes), size (1 byte), bytes. Whatever they do:
 *  - opening succeeds or fails with an error, and a failed open for writing leaves every file as it was;
 *  - with real checksums, an entry that is read is the one that was written;
 *  - what one open for writing found, the next finds again.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"

enum { MAX_FILES = 8, ENTRY_SIZE = 900, DIRECTORY_SIZE = 256, PATH_SIZE = 320 };

typedef struct image {
    char name[32];
    uint8_t *bytes;
    size_t size;
} image;

static char directory[DIRECTORY_SIZE];
static image files[MAX_FILES];
static size_t file_count;

static void path_of(const char *name, char path[PATH_SIZE])
{
    (void)snprintf(path, PATH_SIZE, "%s/%s", directory, name);
}

static lw_wal *open_log(int read_only, lw_error *error)
{
    lw_options options = {.segment_bytes = 65536, .max_entry_bytes = 1 << 16, .create = 1, .read_only = read_only != 0};
    lw_wal *wal = NULL;
    return lw_wal_open(directory, &options, &wal, error) == LW_OK ? wal : NULL;
}

static void fill_payload(uint64_t index, uint64_t term, uint8_t payload[ENTRY_SIZE])
{
    for (size_t i = 0; i < ENTRY_SIZE; i++)
        payload[i] = (uint8_t)(index * 31 + term * 7 + i);
}

static void write_batch(lw_wal *wal, lw_operation operation, uint64_t first, uint64_t term, size_t count)
{
    static uint8_t payloads[64][ENTRY_SIZE];
    lw_entry entries[64];
    lw_hard_state hard_state = {.term = term, .has_vote = 1, .vote_size = 2, .vote = "n1"};
    lw_error error;
    uint64_t ticket;
    for (size_t i = 0; i < count; i++) {
        fill_payload(first + i, term, payloads[i]);
        entries[i] = (lw_entry){first + i, term, payloads[i], ENTRY_SIZE, 1};
    }
    lw_batch batch = {operation, {first, term}, entries, count, operation == LW_PERSIST ? &hard_state : NULL};
    int status = lw_wal_submit(wal, &batch, LW_QUEUE, &ticket, &error);
    assert(status == LW_OK || status == LW_PENDING);
    status = lw_wal_wait(wal, ticket, 1, -1, &error);
    assert(status == LW_OK);
}

static void keep_file(const char *name)
{
    char path[PATH_SIZE];
    struct stat status;
    image *file = &files[file_count++];
    path_of(name, path);
    int descriptor = open(path, O_RDONLY);
    assert(descriptor >= 0 && fstat(descriptor, &status) == 0);
    (void)snprintf(file->name, sizeof file->name, "%s", name);
    file->size = (size_t)status.st_size;
    file->bytes = malloc(file->size);
    assert(file->bytes != NULL && read(descriptor, file->bytes, file->size) == (ssize_t)file->size);
    (void)close(descriptor);
}

/* Entries 1..150 over three segments, with a cut, a purge and hard states on the way. Not closed: the tail is walked. */
static void make_log(void)
{
    lw_error error;
    lw_wal *wal = open_log(0, &error);
    assert(wal != NULL);
    write_batch(wal, LW_PERSIST, 1, 1, 40);
    write_batch(wal, LW_PERSIST, 41, 2, 40);
    write_batch(wal, LW_TRUNCATE, 71, 0, 0);
    write_batch(wal, LW_REPLACE, 66, 3, 35);
    write_batch(wal, LW_PURGE, 20, 1, 0);
    write_batch(wal, LW_PERSIST, 101, 4, 50);
    lw_wal_free(wal);
    char name[LW_NAME_SIZE];
    keep_file(LW_LOCK_NAME);
    for (uint64_t number = 1; file_count < MAX_FILES; number++) {
        char path[PATH_SIZE];
        lw_segment_name(number, LW_SEGMENT_SUFFIX, name);
        path_of(name, path);
        if (access(path, F_OK) != 0)
            break;
        keep_file(name);
    }
    assert(file_count >= 4);
}

static void put_file(const image *file, const uint8_t *bytes)
{
    char path[PATH_SIZE];
    path_of(file->name, path);
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert(descriptor >= 0 && write(descriptor, bytes, file->size) == (ssize_t)file->size);
    (void)close(descriptor);
}

static bool file_is(const image *file, const uint8_t *bytes)
{
    char path[PATH_SIZE];
    static uint8_t present[1 << 20];
    path_of(file->name, path);
    int descriptor = open(path, O_RDONLY);
    if (descriptor < 0)
        return false;
    ssize_t size = read(descriptor, present, sizeof present);
    (void)close(descriptor);
    return size == (ssize_t)file->size && memcmp(present, bytes, file->size) == 0;
}

static void patch(const uint8_t *data, size_t size, uint8_t *patched[MAX_FILES])
{
    while (size > 5) {
        size_t file = data[0] % file_count;
        size_t offset = (size_t)data[1] | (size_t)data[2] << 8 | (size_t)data[3] << 16;
        size_t count = data[4];
        data += 5;
        size -= 5;
        if (count > size)
            count = size;
        for (size_t i = 0; i < count; i++)
            patched[file][(offset + i) % files[file].size] = data[i];
        data += count;
        size -= count;
    }
}

static void read_all(lw_wal *wal)
{
    lw_error error;
    uint8_t *buffer = NULL;
    size_t size;
    size_t count = 0;
    uint64_t last = lw_wal_last_index(wal);
    uint64_t first = lw_wal_first_index(wal);
    for (uint64_t index = first; index <= last && index - first < 400; index++) {
        if (lw_wal_read(wal, index, index, UINT64_MAX, &buffer, &size, &count, &error) != LW_OK)
            continue;
#ifndef LW_STUBBED_CHECKSUMS
        uint64_t head[4];
        uint8_t expected[ENTRY_SIZE];
        assert(count == 1);
        memcpy(head, buffer, sizeof head);
        fill_payload(index, head[1], expected);
        assert(head[0] == index && head[2] == ENTRY_SIZE && memcmp(buffer + sizeof head, expected, ENTRY_SIZE) == 0);
#endif
        lw_buffer_free(buffer);
    }
}

/* Seldom, as what looks like damage is looked at many times over: it might be a writer at work. */
static void open_for_reading(void)
{
    lw_error error;
    lw_wal *wal = open_log(1, &error);
    if (wal == NULL)
        return;
    read_all(wal);
    lw_wal_free(wal);
}

static void open_and_look(uint8_t *patched[MAX_FILES])
{
    lw_error error;
    lw_wal *wal = open_log(0, &error);
    if (wal == NULL) {
        for (size_t i = 0; i < file_count; i++)
            assert(file_is(&files[i], patched[i]));
        return;
    }
    read_all(wal);
    uint64_t first = lw_wal_first_index(wal);
    uint64_t last = lw_wal_last_index(wal);
    lw_wal_free(wal);
    wal = open_log(0, &error);
    assert(wal != NULL && lw_wal_first_index(wal) == first && lw_wal_last_index(wal) == last);
    lw_wal_free(wal);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    const char *parent = getenv("TMPDIR");
    (void)snprintf(directory, sizeof directory, "%s/logwal-XXXXXX", parent != NULL ? parent : "/tmp");
    assert(mkdtemp(directory) != NULL);
    make_log();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *patched[MAX_FILES];
    for (size_t i = 0; i < file_count; i++) {
        patched[i] = malloc(files[i].size);
        assert(patched[i] != NULL);
        memcpy(patched[i], files[i].bytes, files[i].size);
    }
    patch(data, size, patched);
    for (size_t i = 0; i < file_count; i++)
        put_file(&files[i], patched[i]);
    if (size % 32 == 0)
        open_for_reading();
    open_and_look(patched);
    for (size_t i = 0; i < file_count; i++)
        free(patched[i]);
    return 0;
}
