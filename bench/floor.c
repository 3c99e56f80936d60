/*
 * What the disk allows: pwrite and fdatasync, over and over, on a file whose blocks were filled before.
 *
 *     floor FILE FILE_BYTES
 *
 * fills FILE and then answers each line "COUNT BYTES" on standard input with one line of JSON: COUNT times BYTES written
 * behind each other (from the start again at the end of the file) and made durable, each time alone. So a benchmark can
 * take turns with it: a round here, a round of its own.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FILL_STEP = 4096 }; /* larger writes make large folios, and then each small write costs a large one */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static double share(const uint64_t *sorted, size_t count, double part)
{
    size_t at = (size_t)((double)count * part);
    return (double)sorted[at < count ? at : count - 1] / 1000;
}

static int make_file(const char *path, size_t size)
{
    static const uint8_t zeros[FILL_STEP];
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file < 0)
        die("open");
    for (size_t done = 0; done < size; done += FILL_STEP)
        if (pwrite(file, zeros, FILL_STEP, (off_t)done) != FILL_STEP)
            die("fill");
    if (fsync(file) != 0)
        die("fsync");
    return file;
}

static void append_durably(int file, const uint8_t *data, size_t size, size_t *offset, size_t file_size)
{
    if (size > file_size - *offset)
        *offset = 0;
    if (pwrite(file, data, size, (off_t)*offset) != (ssize_t)size || fdatasync(file) != 0)
        die("append");
    *offset += size;
}

static void run(int file, size_t count, size_t size, size_t *offset, size_t file_size)
{
    uint64_t *times = malloc(count * sizeof *times);
    uint8_t *data = malloc(size);
    if (times == NULL || data == NULL)
        die("malloc");
    uint64_t began = now_ns();
    for (size_t i = 0; i < count; i++) {
        memset(data, (int)(i + 1), size < 64 ? size : 64);
        uint64_t start = now_ns();
        append_durably(file, data, size, offset, file_size);
        times[i] = now_ns() - start;
    }
    double seconds = (double)(now_ns() - began) / 1e9;
    qsort(times, count, sizeof *times, by_value);
    printf("{\"count\": %zu, \"bytes\": %zu, \"seconds\": %.6f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, "
           "\"max_us\": %.2f}\n",
           count, size, seconds, share(times, count, 0.5), share(times, count, 0.99), share(times, count, 0.999),
           share(times, count, 1));
    fflush(stdout);
    free(times);
    free(data);
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "usage: floor FILE FILE_BYTES\n");
        return 2;
    }
    size_t file_size = strtoull(arguments[2], NULL, 10);
    size_t offset = 0;
    size_t rounds;
    size_t size;
    int file = make_file(arguments[1], file_size);
    while (scanf("%zu %zu", &rounds, &size) == 2)
        run(file, rounds, size, &offset, file_size);
    close(file);
    return 0;
}
