/*
 * A touch of a mapping whose page cannot be had is SIGBUS: the file was cut, the device failed, or a file system that
 * copies on write found no space. Inside lw_guarded it ends the guarded body with EIO; anywhere else it goes to whoever
 * handled SIGBUS before.
 */
#include "fs.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

typedef struct guard {
    sigjmp_buf jump;
    struct guard *outer;
} guard;

static _Thread_local guard *volatile active;
static struct sigaction earlier;
static volatile sig_atomic_t foreign;

static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    if (active != NULL)
        siglongjmp(active->jump, 1);
    /* Not ours: the touch is repeated under the earlier handler; the second time, two handlers hand it to each other. */
    if (foreign++ == 0)
        (void)sigaction(signal_number, &earlier, NULL);
    else
        (void)signal(signal_number, SIG_DFL);
}

void lw_guard_install(void)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    struct sigaction action = {0};
    struct sigaction present;
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK; /* NODEFER: the jump leaves the handler for good */
    (void)sigemptyset(&action.sa_mask);
    (void)pthread_mutex_lock(&one_at_a_time);
    if (sigaction(SIGBUS, NULL, &present) == 0 && present.sa_sigaction != on_bus_error) {
        earlier = present;
        (void)sigaction(SIGBUS, &action, NULL);
    }
    (void)pthread_mutex_unlock(&one_at_a_time);
}

int lw_guarded(void (*body)(void *), void *argument)
{
    guard here;
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
