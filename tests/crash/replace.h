/*
 * Included before everything else in the core's own files (-include) when they are built for the crash tests: threads, locks,
 * clock and memory become the simulation's, see sim.h. The core's source is the one that ships.
 */
#ifndef CRASH_REPLACE_H
#define CRASH_REPLACE_H

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

#undef PTHREAD_MUTEX_INITIALIZER
#define PTHREAD_MUTEX_INITIALIZER {NULL}

#define pthread_mutex_t sim_mutex
#define pthread_mutex_init(mutex, attributes) sim_mutex_init(mutex)
#define pthread_mutex_destroy(mutex) 0
#define pthread_mutex_lock sim_mutex_lock
#define pthread_mutex_trylock sim_mutex_trylock
#define pthread_mutex_unlock sim_mutex_unlock

#define pthread_cond_t sim_cond
#define pthread_cond_init(condition, attributes) sim_cond_init(condition)
#define pthread_cond_destroy(condition) 0
#define pthread_cond_wait sim_cond_wait
#define pthread_cond_timedwait sim_cond_timedwait
#define pthread_cond_signal sim_cond_signal
#define pthread_cond_broadcast sim_cond_broadcast

#define pthread_t sim_thread
#define pthread_create(thread, attributes, body, argument) sim_thread_create(thread, body, argument)
#define pthread_join(thread, result) sim_thread_join(thread)
#define pthread_atfork sim_atfork
#undef pthread_sigmask
#define pthread_sigmask(how, set, before) ((void)(set), (void)(before), 0)

#define clock_gettime(clock, time) sim_clock(time)
#define nanosleep(pause, left) sim_sleep(pause)

#define malloc sim_malloc
#define calloc sim_calloc
#define realloc sim_realloc
#define free sim_free

#endif
