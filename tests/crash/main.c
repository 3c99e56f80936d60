/*
 *     crash random FIRST COUNT      histories FIRST .. FIRST+COUNT-1
 *     crash random SEED 1 -v        one of them again, told step by step
 */
#include <stdio.h>
#include <stdlib.h>

#include "random.h"
#include "session.h"

static int run_random(uint64_t first, uint64_t count)
{
    static char history[80];
    for (uint64_t seed = first; seed < first + count; seed++) {
        (void)snprintf(history, sizeof history, "random %llu 1", (unsigned long long)seed);
        s.history = history;
        random_history(seed);
    }
    (void)printf("random: %llu histories, %llu crashes\n", (unsigned long long)count, (unsigned long long)s.crashes);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[argc - 1], "-v") == 0) {
        s.verbose = true;
        disk_trace(true);
        argc--;
    }
    if (argc == 4 && strcmp(argv[1], "random") == 0)
        return run_random(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    (void)fprintf(stderr, "usage: crash random FIRST COUNT [-v]\n");
    return 2;
}
