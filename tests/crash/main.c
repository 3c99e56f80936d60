/*
 *     crash random FIRST COUNT       histories FIRST .. FIRST+COUNT-1
 *     crash beside FIRST COUNT       the same, and who reads beside the writer verifies the log
 *     crash damage FIRST COUNT       the same with one place damaged at the end
 *     crash scripts SCHEDULES DEPTH  the scripted ones; see scripts.h
 *     crash script ...               one of them, as a failure names it
 *     crash steps                    lists what --without can leave out
 * -v at the end tells a history step by step; --without STEP at the end leaves a step of the core out (csrc/step.h).
 */
#include <stdio.h>
#include <stdlib.h>

#include "damage.h"
#include "random.h"
#include "scripts.h"
#include "session.h"

static int run_damage(uint64_t first, uint64_t count)
{
    static char history[80];
    s.history = "damage 0 0 (an old copy)";
    damage_old_copy();
    for (uint64_t seed = first; seed < first + count; seed++) {
        (void)snprintf(history, sizeof history, "damage %llu 1", (unsigned long long)seed);
        s.history = history;
        damage_history(seed);
    }
    (void)printf("damage: %llu histories\n", (unsigned long long)count);
    return 0;
}

static int run_random(const char *how, uint64_t first, uint64_t count)
{
    static char history[80];
    s.verifies = strcmp(how, "beside") == 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        (void)snprintf(history, sizeof history, "%s %llu 1", how, (unsigned long long)seed);
        s.history = history;
        random_history(seed);
    }
    (void)printf("%s: %llu histories, %llu crashes\n", how, (unsigned long long)count, (unsigned long long)s.crashes);
    return 0;
}

#define STEP_NAME(name) #name,
static const char *const step_names[] = {"", LW_STEPS(STEP_NAME)};

static bool leave_out(const char *name)
{
    for (unsigned i = 1; i < LW_STEP_COUNT; i++)
        if (strcmp(step_names[i], name) == 0) {
            lw_left_out = (enum lw_step)i;
            return true;
        }
    (void)fprintf(stderr, "no such step: %s\n", name);
    return false;
}

static int list_steps(void)
{
    for (unsigned i = 1; i < LW_STEP_COUNT; i++)
        (void)printf("%s\n", step_names[i]);
    return 0;
}

static int replay_script(char **words)
{
    int status = scripts_replay(words);
    if (status == 0)
        (void)printf("it passes\n");
    return status;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[argc - 1], "-v") == 0) {
        s.verbose = true;
        disk_trace(true);
        argc--;
    }
    if (argc > 3 && strcmp(argv[argc - 2], "--without") == 0) {
        if (!leave_out(argv[argc - 1]))
            return 2;
        argc -= 2;
    }
    if (argc == 2 && strcmp(argv[1], "steps") == 0)
        return list_steps();
    if (argc == 8 && strcmp(argv[1], "script") == 0)
        return replay_script(argv + 2);
    if (argc == 4 && strcmp(argv[1], "scripts") == 0) {
        scripts_run(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
        return 0;
    }
    if (argc == 4 && (strcmp(argv[1], "random") == 0 || strcmp(argv[1], "beside") == 0))
        return run_random(argv[1], strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "damage") == 0)
        return run_damage(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    (void)fprintf(stderr, "usage: see tests/crash/main.c\n");
    return 2;
}
