/*
 * A process that can die at any moment and be run again to the same moment: its threads are coroutines on one real thread,
 * switched at random (from the seed) wherever they lock, wait or call the file system. Its memory goes with it.
 */
#ifndef CRASH_SIM_H
#define CRASH_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef struct sim_mutex {
    void *owner;
} sim_mutex;

typedef struct sim_cond {
    char unused;
} sim_cond;

typedef void *sim_thread;

int sim_mutex_init(sim_mutex *);
int sim_mutex_lock(sim_mutex *);
int sim_mutex_trylock(sim_mutex *);
int sim_mutex_unlock(sim_mutex *);
int sim_cond_init(sim_cond *);
int sim_cond_wait(sim_cond *, sim_mutex *);
int sim_cond_timedwait(sim_cond *, sim_mutex *, const struct timespec *deadline);
int sim_cond_signal(sim_cond *);
int sim_cond_broadcast(sim_cond *);
int sim_thread_create(sim_thread *, void *(*body)(void *), void *argument);
int sim_thread_join(sim_thread);
int sim_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int sim_clock(struct timespec *);
int sim_sleep(const struct timespec *);

void *sim_malloc(size_t);
void *sim_calloc(size_t, size_t);
void *sim_realloc(void *, size_t);
void sim_free(void *);
size_t sim_blocks(void); /* allocated and not freed */

/* ---- for the tests ---- */

/* All randomness comes from here. */
void sim_seed(uint64_t);
uint64_t sim_random(void);
uint64_t sim_below(uint64_t limit);     /* 0..limit-1 */
bool sim_chance(unsigned percent);

typedef enum sim_outcome { SIM_DONE, SIM_DIED, SIM_STUCK } sim_outcome;

/* Runs body(argument) and the threads it starts until it returns, the process dies, or nothing can move any more. */
sim_outcome sim_run(void *(*body)(void *), void *argument);
/* Ends the process for good: its threads, its memory, its lock table. */
void sim_bury(void);
/* The process dies at the event with this number, counted from now; 0: never. */
void sim_die_at(uint64_t event);
uint64_t sim_events(void); /* since sim_die_at */
/* While quiet nothing happens by chance, nothing fails and nobody dies: to look at the disk without changing the history. */
void sim_be_quiet(bool);
bool sim_is_quiet(void);
/* Something that a death can come before. Returns true where it comes now: then finish what is half done, and sim_die. */
bool sim_event(void);
void sim_die(void);
/* One pointer of the running thread's own. */
void **sim_thread_local(void);
/* Lets others run, perhaps. */
void sim_yield(void);
/* How often, in percent, a lock or a file operation lets others run. */
void sim_restless(unsigned percent);

#endif
