/*
 * A touch of a mapping whose page cannot be had is SIGBUS: the file was cut, the device failed, or a file system that
 * copies on write found no space. Inside lw_guarded it ends the guarded body with EIO. Any other SIGBUS is delivered to the
 * handler that was there before ours, as the system would deliver it, and ours stays installed.
 *
 * Other libraries do the same: each remembers the handler that it replaces and hands on to it, by a call, or by installing
 * it again and raising the signal. If faulthandler is enabled between two opens, it remembers our handler, and the second
 * open remembers faulthandler's. With one handler and one memory, the two would hand a signal to each other for ever. So
 * every handler that is replaced gets a slot, and every slot a function of its own. What faulthandler hands on arrives at
 * the function that faulthandler replaced, whose slot knows what was there before that.
 */
#include "fs.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

enum {
    SLOTS = 16,
    /* A signal that was handed on so often, each time deeper in the stack, goes in a circle: between handlers that installed
     * themselves again. Few, since a stack for signals may have room for no more. */
    MAX_DEPTH = 4,
};

typedef struct slot {
    struct sigaction earlier; /* constant once `ready` */
    int ready;                /* atomic */
    int spent;                /* atomic: its SA_RESETHAND took effect, so SIG_DFL stands in its place */
} slot;

typedef struct guard {
    sigjmp_buf jump;
    struct guard *outer;
} guard;

/* The calls of earlier handlers that this thread is in. One that is left by a jump is noticed later. */
typedef struct calls {
    const char *frame; /* of our handler that made the last one; stacks grow down */
    const siginfo_t *info;
    unsigned depth;
} calls;

typedef void handler(int, siginfo_t *, void *);

static slot slots[SLOTS];
static unsigned slots_used;  /* atomic */
static unsigned outstanding; /* atomic: calls of earlier handlers that have not returned, in all threads */
static int ending;           /* atomic: SIG_DFL is to end the process */
static _Thread_local guard *volatile active;
static _Thread_local calls in_calls;

/* ---- what a signal is ---- */

/* A touch is repeated when the handler returns; what somebody sent is not. */
static bool is_touch(const siginfo_t *info)
{
#if defined(__linux__)
    return info != NULL && info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
#else
    (void)info;
    return false; /* macOS shows both alike */
#endif
}

/* A handler in front of ours may have got the touch, and raised the signal again. No other signal means a touch. */
static bool is_from_outside(const siginfo_t *info)
{
#if defined(__linux__)
    return info != NULL && !is_touch(info) && info->si_code != SI_TKILL; /* raise(3) is that */
#else
    (void)info;
    return false;
#endif
}

/* ---- handing on ---- */

static void change_mask(int how, const sigset_t *set, sigset_t *before)
{
    int kept = errno;
    (void)pthread_sigmask(how, set, before);
    errno = kept;
}

static void unblock(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGBUS);
    change_mask(SIG_UNBLOCK, &set, NULL);
}

static void end_process(const siginfo_t *info)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    __atomic_store_n(&ending, 1, __ATOMIC_SEQ_CST);
    (void)sigaction(SIGBUS, &action, NULL);
    unblock();
    (void)raise(SIGBUS);
    /* Still here: the first process of a container is spared what it sends itself. Not a touch, which is repeated now. */
    if (is_touch(info))
        return;
    __atomic_store_n(&ending, 0, __ATOMIC_SEQ_CST);
    lw_guard_install();
}

/* Calls that are not below this frame were left by a jump. */
static void forget_left_calls(const char *frame)
{
    if (in_calls.depth == 0 || frame < in_calls.frame)
        return;
    (void)__atomic_sub_fetch(&outstanding, in_calls.depth, __ATOMIC_SEQ_CST);
    in_calls = (calls){0};
}

static bool goes_in_a_circle(const siginfo_t *info)
{
    return in_calls.depth >= MAX_DEPTH && (info == in_calls.info || !is_touch(info));
}

/* With the mask that the system would set, and no guard: what the handler touches is its own. */
static void call(const struct sigaction *earlier, int signal_number, siginfo_t *info, void *context)
{
    guard *guarded = active;
    sigset_t block = earlier->sa_mask;
    sigset_t before;
    if ((earlier->sa_flags & SA_NODEFER) == 0)
        (void)sigaddset(&block, SIGBUS);
    active = NULL;
    change_mask(SIG_BLOCK, &block, &before);
    if (earlier->sa_flags & SA_SIGINFO)
        earlier->sa_sigaction(signal_number, info, context);
    else
        earlier->sa_handler(signal_number);
    change_mask(SIG_SETMASK, &before, NULL); /* what it raised while that was blocked arrives here */
    active = guarded;
}

static void call_and_stay(const struct sigaction *earlier, const char *frame, siginfo_t *info, void *context)
{
    calls outer = in_calls;
    in_calls = (calls){frame, info, outer.depth + 1};
    (void)__atomic_add_fetch(&outstanding, 1, __ATOMIC_SEQ_CST);
    call(earlier, SIGBUS, info, context);
    if (in_calls.depth > outer.depth)
        (void)__atomic_sub_fetch(&outstanding, in_calls.depth - outer.depth, __ATOMIC_SEQ_CST);
    in_calls = outer;
    int kept = errno;
    lw_guard_install();
    errno = kept;
}

static void hand_on(slot *s, const char *frame, siginfo_t *info, void *context)
{
    const struct sigaction *earlier = &s->earlier;
    (void)__atomic_load_n(&s->ready, __ATOMIC_ACQUIRE);
    forget_left_calls(frame);
    if (earlier->sa_handler == SIG_IGN && !is_touch(info)) /* the system lets no touch be ignored */
        return;
    if (earlier->sa_handler == SIG_DFL || earlier->sa_handler == SIG_IGN || goes_in_a_circle(info) ||
        ((earlier->sa_flags & (int)SA_RESETHAND) != 0 && __atomic_exchange_n(&s->spent, 1, __ATOMIC_SEQ_CST)))
        end_process(info);
    else
        call_and_stay(earlier, frame, info, context);
}

__attribute__((noinline)) static void on_bus_error(slot *s, siginfo_t *info, void *context)
{
    guard *guarded = active;
    if (guarded == NULL || is_from_outside(info)) {
        hand_on(s, __builtin_frame_address(0), info, context);
        return;
    }
    /* A handler in front of ours may block signals while it calls us. */
    if (context != NULL)
        change_mask(SIG_SETMASK, &((ucontext_t *)context)->uc_sigmask, NULL);
    unblock();
    siglongjmp(guarded->jump, 1);
}

/* ---- the handlers, one a slot ---- */

#define HANDLER(number)                                                                  \
    static void handler_##number(int signal_number, siginfo_t *info, void *context)      \
    {                                                                                    \
        (void)signal_number;                                                             \
        on_bus_error(&slots[number], info, context);                                     \
    }

HANDLER(0)
HANDLER(1)
HANDLER(2)
HANDLER(3)
HANDLER(4)
HANDLER(5)
HANDLER(6)
HANDLER(7)
HANDLER(8)
HANDLER(9)
HANDLER(10)
HANDLER(11)
HANDLER(12)
HANDLER(13)
HANDLER(14)
HANDLER(15)

static handler *const handlers[SLOTS] = {
    handler_0, handler_1, handler_2,  handler_3,  handler_4,  handler_5,  handler_6,  handler_7,
    handler_8, handler_9, handler_10, handler_11, handler_12, handler_13, handler_14, handler_15,
};

static bool is_ours(const struct sigaction *action)
{
    for (int i = 0; i < SLOTS; i++)
        if (action->sa_sigaction == handlers[i])
            return true;
    return false;
}

static bool is_same(const struct sigaction *a, const struct sigaction *b)
{
    const int flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_RESTART | (int)SA_RESETHAND;
    if (a->sa_handler != b->sa_handler || ((a->sa_flags ^ b->sa_flags) & flags) != 0)
        return false;
    for (int number = 1; number < NSIG; number++)
        if (sigismember(&a->sa_mask, number) != sigismember(&b->sa_mask, number))
            return false;
    return true;
}

/* Of this earlier handler. Where there are too many, the youngest shares a slot with another, which then gets its signals. */
static int slot_of(const struct sigaction *earlier)
{
    unsigned used = __atomic_load_n(&slots_used, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < used; i++)
        if (__atomic_load_n(&slots[i].ready, __ATOMIC_ACQUIRE) && is_same(&slots[i].earlier, earlier)) {
            __atomic_store_n(&slots[i].spent, 0, __ATOMIC_SEQ_CST);
            return (int)i;
        }
    do
        if (used == SLOTS)
            return SLOTS - 1;
    while (!__atomic_compare_exchange_n(&slots_used, &used, used + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    slots[used].earlier = *earlier;
    __atomic_store_n(&slots[used].ready, 1, __ATOMIC_RELEASE);
    return (int)used;
}

/* On the stack that the earlier handler would have, and with calls restarted as for it. */
static void fill_action(struct sigaction *action, int number)
{
    const struct sigaction *earlier = &slots[number].earlier;
    const int as_earlier = SA_ONSTACK | SA_RESTART;
    bool is_handler = earlier->sa_handler != SIG_DFL && earlier->sa_handler != SIG_IGN;
    action->sa_sigaction = handlers[number];
    action->sa_flags = SA_SIGINFO | SA_NODEFER | (is_handler ? earlier->sa_flags & as_earlier : as_earlier);
    (void)sigemptyset(&action->sa_mask);
}

/* Without a lock, as handlers call it, and children of a fork. */
void lw_guard_install(void)
{
    struct sigaction present = {0};
    struct sigaction replaced = {0};
    struct sigaction action = {0};
    (void)sigaction(SIGBUS, NULL, &present);
    while (!is_ours(&present) && !__atomic_load_n(&ending, __ATOMIC_SEQ_CST)) {
        fill_action(&action, slot_of(&present));
        if (sigaction(SIGBUS, &action, &replaced) != 0 || is_same(&replaced, &present))
            return;
        present = replaced; /* somebody else was quicker */
    }
}

/* ---- guarding ---- */

/* An earlier handler that was left by a jump may have installed itself again first, as old ones do. */
static void look_after_jump(void)
{
    if (in_calls.depth > 0)
        (void)__atomic_sub_fetch(&outstanding, in_calls.depth, __ATOMIC_SEQ_CST);
    in_calls = (calls){0};
    lw_guard_install();
}

int lw_guarded(void (*body)(void *), void *argument)
{
    guard here;
    if (__atomic_load_n(&outstanding, __ATOMIC_RELAXED) > 0)
        look_after_jump();
    here.outer = active;
    if (sigsetjmp(here.jump, 0) != 0) {
        active = here.outer;
        return EIO;
    }
    active = &here;
    body(argument);
    active = here.outer;
    return 0;
}
