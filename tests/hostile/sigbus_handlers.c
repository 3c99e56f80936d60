/* Handlers of SIGBUS such as other libraries have, and touches that they are there for. For test_sigbus_chain.py. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NOT_MINE = 76, HANDLERS = 8, ALL_SIGNALS = -1 };

/* What the last call of a handler saw. */
struct seen {
    int calls; /* so far */
    int code;
    int on_own_stack; /* that of sigaltstack */
    int address_is_right;
    unsigned long long blocked; /* bit n: signal n */
};
struct seen seen;

static _Thread_local sigjmp_buf *recovery; /* of the touch that this thread is at */
static _Thread_local char *touched;
static _Thread_local int nesting;

static struct sigaction previous[HANDLERS];

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void look(siginfo_t *info)
{
    sigset_t mask;
    stack_t stack;
    seen.calls++;
    seen.code = info == NULL ? 0 : info->si_code;
    seen.address_is_right = info != NULL && info->si_addr == touched;
    (void)sigaltstack(NULL, &stack);
    seen.on_own_stack = (stack.ss_flags & SS_ONSTACK) != 0;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    seen.blocked = 0;
    for (int number = 1; number < 32; number++)
        if (sigismember(&mask, number) == 1)
            seen.blocked |= 1ull << number;
}

static void leave(void)
{
    if (recovery == NULL)
        _exit(NOT_MINE);
    siglongjmp(*recovery, 1);
}

static void recover(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    look(info);
    leave();
}

static void recover_1(int number)
{
    (void)number;
    look(NULL);
    leave();
}

/* As System V needed it. */
static void rearm(int number)
{
    (void)signal(number, rearm);
    look(NULL);
    leave();
}

static void mend(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    look(info);
    if (info->si_code <= 0) /* sent, so si_addr is no address; the touch is repeated, and comes by itself */
        return;
    void *page = (void *)((uintptr_t)info->si_addr & ~(uintptr_t)(page_size() - 1));
    if (mmap(page, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        _exit(NOT_MINE);
}

static void count(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    look(info);
}

static void to_default(int number)
{
    look(NULL);
    (void)signal(number, SIG_DFL);
}

static void hand_on(int place, int number, siginfo_t *info, void *context)
{
    const struct sigaction *to = &previous[place];
    look(info);
    if (to->sa_handler == SIG_DFL || to->sa_handler == SIG_IGN)
        (void)signal(number, SIG_DFL);
    else if (to->sa_flags & SA_SIGINFO)
        to->sa_sigaction(number, info, context);
    else
        to->sa_handler(number);
}

static void call(int number, siginfo_t *info, void *context)
{
    hand_on(5, number, info, context);
}

static void restore_and_raise(int number)
{
    look(NULL);
    (void)sigaction(number, &previous[6], NULL);
    (void)raise(number);
}

int touch(const char *path);

/* Touches a bad page itself, once, recovers from that, and only then leaves. */
static void nest(int number, siginfo_t *info, void *context)
{
    (void)context;
    (void)number;
    char *mine = touched;
    sigjmp_buf *outer = recovery;
    look(info);
    if (nesting++ == 0 && touch("nested") != 1)
        _exit(NOT_MINE);
    nesting = 0;
    recovery = outer;
    touched = mine;
    leave();
}

static const struct {
    const char *name;
    void (*with_info)(int, siginfo_t *, void *);
    void (*without)(int);
} handlers[HANDLERS] = {
    {"recover", recover, recover_1}, {"rearm", NULL, rearm}, {"mend", mend, NULL}, {"count", count, NULL},
    {"default", NULL, to_default},   {"call", call, NULL},   {"raise", NULL, restore_and_raise}, {"nest", nest, NULL},
};

/* `blocked` is a signal for sa_mask, 0 for none, or ALL_SIGNALS. */
int install(const char *name, int flags, int blocked)
{
    for (int i = 0; i < HANDLERS; i++) {
        struct sigaction action = {.sa_flags = flags};
        if (strcmp(name, handlers[i].name) != 0)
            continue;
        if (handlers[i].with_info != NULL && (flags & SA_SIGINFO || handlers[i].without == NULL)) {
            action.sa_flags |= SA_SIGINFO;
            action.sa_sigaction = handlers[i].with_info;
        } else {
            action.sa_handler = handlers[i].without;
        }
        if (blocked == ALL_SIGNALS)
            (void)sigfillset(&action.sa_mask);
        else if (blocked != 0)
            (void)sigaddset(&action.sa_mask, blocked);
        return sigaction(SIGBUS, &action, &previous[i]);
    }
    return -1;
}

/* Reads beyond the end of a mapped file: 1 where SIGBUS was met and recovered from, 2 where the read went well. */
int touch(const char *path)
{
    sigjmp_buf here;
    sigjmp_buf *outer = recovery;
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, (off_t)page_size()) != 0)
        return -1;
    volatile char *bytes = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED || ftruncate(file, 0) != 0)
        return -1;
    volatile int result = 1;
    recovery = &here;
    touched = (char *)bytes;
    if (sigsetjmp(here, 1) == 0) {
        (void)bytes[0];
        result = 2;
    }
    recovery = outer;
    (void)munmap((void *)bytes, page_size());
    (void)close(file);
    return result;
}

/* The same, from deeper and deeper in the stack, without going up in between. */
int touch_deeper(const char *path, int times)
{
    volatile char use_the_stack[1024];
    use_the_stack[0] = (char)times;
    int result = touch(path);
    if (times > 1 && result == 1)
        result = touch_deeper(path, times - 1);
    return result + use_the_stack[0] * 0;
}

/* The same, with a stack for signals. */
int touch_with_own_stack(const char *path, int times)
{
    stack_t none = {.ss_flags = SS_DISABLE};
    stack_t before;
    stack_t stack = {.ss_size = 256 * 1024};
    stack.ss_sp = malloc(stack.ss_size);
    int result = 1;
    if (stack.ss_sp == NULL || sigaltstack(&stack, &before) != 0)
        return -1;
    for (int i = 0; i < times && result == 1; i++)
        result = touch(path);
    (void)sigaltstack((before.ss_flags & SS_DISABLE) != 0 ? &none : &before, NULL);
    free(stack.ss_sp);
    return result;
}

/* Signals that this thread blocks. */
unsigned long long blocked_here(void)
{
    sigset_t mask;
    unsigned long long blocked = 0;
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    for (int number = 1; number < 32; number++)
        if (sigismember(&mask, number) == 1)
            blocked |= 1ull << number;
    return blocked;
}

/* The flags of the handler that is installed. */
int installed_flags(void)
{
    struct sigaction action;
    (void)sigaction(SIGBUS, NULL, &action);
    return action.sa_flags & (SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_SIGINFO);
}
