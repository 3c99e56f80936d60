#include "sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum { MAX_THREADS = 24, STACK_SIZE = 256 * 1024 };

typedef enum status { UNUSED, READY, ON_MUTEX, ON_COND, ON_JOIN, ASLEEP, ENDED } status;

typedef struct thread {
    status status;
    ucontext_t context;
    void *stack;
    void *(*body)(void *);
    void *argument;
    const void *waits_for;
    uint64_t deadline; /* 0: none */
    bool timed_out;
    void *local;
} thread;

static thread threads[MAX_THREADS];
static size_t thread_count;
static thread *current;
static ucontext_t scheduler;
static const void *scheduler_stack; /* known under AddressSanitizer alone */
static size_t scheduler_stack_size;
static bool died;
static uint64_t events;
static uint64_t death;
static uint64_t now_ns;
static unsigned restless;
static uint64_t random_state;
static bool quiet;

/* ---- randomness ---- */

void sim_seed(uint64_t seed)
{
    random_state = seed;
}

uint64_t sim_random(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_below(uint64_t limit)
{
    return limit == 0 ? 0 : sim_random() % limit;
}

bool sim_chance(unsigned percent)
{
    return percent > 0 && sim_below(100) < percent;
}

/* ---- threads ---- */

/* AddressSanitizer has to be told which stack is used: one of those that died in the middle of what they did keep what it
 * knew of their frames, and are used again. */
static void switch_context(ucontext_t *from, ucontext_t *to, const void *stack, size_t stack_size)
{
#ifdef __SANITIZE_ADDRESS__
    void *frames;
    __sanitizer_start_switch_fiber(&frames, stack, stack_size);
#else
    (void)stack;
    (void)stack_size;
#endif
    if (swapcontext(from, to) != 0)
        abort();
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(frames, NULL, NULL);
#endif
}

static void switch_away(void)
{
    switch_context(&current->context, &scheduler, scheduler_stack, scheduler_stack_size);
}

static void enter_thread(void)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(NULL, &scheduler_stack, &scheduler_stack_size);
#endif
    (void)current->body(current->argument);
    thread *self = current;
    self->status = ENDED;
    for (size_t i = 0; i < thread_count; i++)
        if (threads[i].status == ON_JOIN && threads[i].waits_for == self)
            threads[i].status = READY;
    switch_away();
}

static void make_context(ucontext_t *context, void *stack)
{
    if (getcontext(context) != 0)
        abort();
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(stack, STACK_SIZE);
#endif
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK_SIZE;
    context->uc_link = NULL;
    makecontext(context, enter_thread, 0);
}

static thread *free_thread(void)
{
    for (size_t i = 0; i < thread_count; i++)
        if (threads[i].status == UNUSED || (threads[i].status == ENDED && i > 0))
            return &threads[i];
    return thread_count == MAX_THREADS ? NULL : &threads[thread_count++];
}

int sim_thread_create(sim_thread *out, void *(*body)(void *), void *argument)
{
    thread *const made = free_thread();
    if (made == NULL)
        return EAGAIN;
    if (made->stack == NULL && (made->stack = malloc(STACK_SIZE)) == NULL)
        return EAGAIN;
    make_context(&made->context, made->stack);
    made->body = body;
    made->argument = argument;
    made->status = READY;
    made->local = NULL;
    *out = made;
    return 0;
}

int sim_thread_join(sim_thread which)
{
    thread *other = which;
    while (other->status != ENDED) {
        current->status = ON_JOIN;
        current->waits_for = other;
        switch_away();
    }
    return 0;
}

static thread *pick(void)
{
    thread *ready[MAX_THREADS];
    size_t count = 0;
    for (size_t i = 0; i < thread_count; i++)
        if (threads[i].status == READY)
            ready[count++] = &threads[i];
    return count == 0 ? NULL : ready[count == 1 ? 0 : sim_below(count)];
}

/* Nobody can move: time passes until somebody can. */
static bool pass_time(void)
{
    thread *first = NULL;
    for (size_t i = 0; i < thread_count; i++)
        if ((threads[i].status == ON_COND || threads[i].status == ASLEEP) && threads[i].deadline > 0 &&
            (first == NULL || threads[i].deadline < first->deadline))
            first = &threads[i];
    if (first == NULL)
        return false;
    if (now_ns < first->deadline)
        now_ns = first->deadline;
    first->timed_out = true;
    first->status = READY;
    return true;
}

sim_outcome sim_run(void *(*body)(void *), void *argument)
{
    sim_thread first;
    died = false;
    if (sim_thread_create(&first, body, argument) != 0)
        abort();
    while (!died && threads[0].status != ENDED) {
        current = pick();
        if (current == NULL) {
            if (!pass_time())
                return SIM_STUCK;
            continue;
        }
        switch_context(&scheduler, &current->context, current->stack, STACK_SIZE);
    }
    current = NULL;
    return died ? SIM_DIED : SIM_DONE;
}

void **sim_thread_local(void)
{
    static void *outside;
    return current != NULL ? &current->local : &outside;
}

void sim_yield(void)
{
    if (current == NULL)
        return;
    for (size_t i = 0; i < thread_count; i++)
        if (threads[i].status == READY && &threads[i] != current) {
            switch_away();
            return;
        }
}

void sim_restless(unsigned percent)
{
    restless = percent;
}

/* ---- death ---- */

static void (*fork_prepare)(void);
static void (*fork_child)(void);

int sim_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    (void)parent;
    fork_prepare = prepare;
    fork_child = child;
    return 0;
}

void sim_die_at(uint64_t event)
{
    events = 0;
    death = event;
}

uint64_t sim_events(void)
{
    return events;
}

void sim_be_quiet(bool yes)
{
    quiet = yes;
}

bool sim_is_quiet(void)
{
    return quiet;
}

bool sim_event(void)
{
    events++;
    return events == death && current != NULL;
}

void sim_die(void)
{
    died = true;
    switch_away();
}

/* ---- memory ---- */

typedef struct block {
    struct block *next;
    struct block *previous;
    size_t size;
    size_t padding;
} block;

static block blocks = {&blocks, &blocks, 0, 0};
static size_t block_count;

void *sim_malloc(size_t size)
{
    block *made = malloc(sizeof *made + size);
    if (made == NULL)
        return NULL;
    *made = (block){blocks.next, &blocks, size, 0};
    blocks.next->previous = made;
    blocks.next = made;
    block_count++;
    return made + 1;
}

void *sim_calloc(size_t count, size_t size)
{
    void *made = sim_malloc(count * size);
    if (made != NULL)
        memset(made, 0, count * size);
    return made;
}

void sim_free(void *memory)
{
    if (memory == NULL)
        return;
    block *freed = (block *)memory - 1;
    freed->next->previous = freed->previous;
    freed->previous->next = freed->next;
    block_count--;
    free(freed);
}

void *sim_realloc(void *memory, size_t size)
{
    void *made = sim_malloc(size);
    if (made == NULL || memory == NULL)
        return made;
    size_t old = ((block *)memory - 1)->size;
    memcpy(made, memory, old < size ? old : size);
    sim_free(memory);
    return made;
}

size_t sim_blocks(void)
{
    return block_count;
}

void sim_bury(void)
{
    for (size_t i = 0; i < thread_count; i++)
        threads[i].status = UNUSED;
    thread_count = 0;
    current = NULL;
    death = 0;
    if (fork_prepare != NULL) { /* what a fork's child does to the handles of its parent */
        fork_prepare();
        fork_child();
    }
    while (blocks.next != &blocks)
        sim_free(blocks.next + 1);
}

/* ---- locks ---- */

static char outside; /* owns what is locked while no thread runs */

static void *self_or_outside(void)
{
    return current != NULL ? (void *)current : (void *)&outside;
}

int sim_mutex_init(sim_mutex *mutex)
{
    mutex->owner = NULL;
    return 0;
}

int sim_mutex_lock(sim_mutex *mutex)
{
    if (restless > 0 && current != NULL && sim_chance(restless))
        sim_yield();
    if (mutex->owner == self_or_outside()) {
        (void)fprintf(stderr, "a thread locks what it has locked\n");
        abort();
    }
    while (mutex->owner != NULL) {
        if (current == NULL)
            break; /* of a dead thread */
        current->status = ON_MUTEX;
        current->waits_for = mutex;
        switch_away();
    }
    mutex->owner = self_or_outside();
    return 0;
}

int sim_mutex_trylock(sim_mutex *mutex)
{
    if (mutex->owner != NULL)
        return EBUSY;
    mutex->owner = self_or_outside();
    return 0;
}

static void wake(status from, const void *what, bool all)
{
    thread *waiting[MAX_THREADS];
    size_t count = 0;
    for (size_t i = 0; i < thread_count; i++)
        if (threads[i].status == from && threads[i].waits_for == what)
            waiting[count++] = &threads[i];
    if (count > 1 && !all) {
        waiting[0] = waiting[sim_below(count)];
        count = 1;
    }
    for (size_t i = 0; i < count; i++)
        waiting[i]->status = READY;
}

int sim_mutex_unlock(sim_mutex *mutex)
{
    if (mutex->owner != self_or_outside()) {
        (void)fprintf(stderr, "a thread unlocks what it has not locked\n");
        abort();
    }
    mutex->owner = NULL;
    wake(ON_MUTEX, mutex, true);
    return 0;
}

int sim_cond_init(sim_cond *condition)
{
    (void)condition;
    return 0;
}

static int cond_wait(sim_cond *condition, sim_mutex *mutex, uint64_t deadline)
{
    thread *self = current;
    (void)sim_mutex_unlock(mutex);
    self->status = ON_COND;
    self->waits_for = condition;
    self->deadline = deadline;
    self->timed_out = false;
    switch_away();
    self->deadline = 0;
    (void)sim_mutex_lock(mutex);
    return self->timed_out ? ETIMEDOUT : 0;
}

int sim_cond_wait(sim_cond *condition, sim_mutex *mutex)
{
    return cond_wait(condition, mutex, 0);
}

int sim_cond_timedwait(sim_cond *condition, sim_mutex *mutex, const struct timespec *deadline)
{
    uint64_t at = (uint64_t)deadline->tv_sec * 1000000000u + (uint64_t)deadline->tv_nsec;
    return cond_wait(condition, mutex, at == 0 ? 1 : at);
}

int sim_cond_signal(sim_cond *condition)
{
    wake(ON_COND, condition, false);
    return 0;
}

int sim_cond_broadcast(sim_cond *condition)
{
    wake(ON_COND, condition, true);
    return 0;
}

/* ---- time ---- */

int sim_clock(struct timespec *time)
{
    now_ns += 20000;
    time->tv_sec = (time_t)(now_ns / 1000000000u);
    time->tv_nsec = (long)(now_ns % 1000000000u);
    return 0;
}

int sim_sleep(const struct timespec *pause)
{
    if (current == NULL)
        return 0;
    current->status = ASLEEP;
    current->deadline = now_ns + (uint64_t)pause->tv_sec * 1000000000u + (uint64_t)pause->tv_nsec + 1;
    switch_away();
    current->deadline = 0;
    return 0;
}
