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
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void on_bus_error(int signal_number, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    if (active != NULL)
        siglongjmp(active->jump, 1);
    /* Not ours: the touch is repeated under the earlier handler. */
    (void)sigaction(signal_number, &earlier, NULL);
}

static void install(void)
{
    struct sigaction action = {0};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK; /* NODEFER: the jump leaves the handler for good */
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGBUS, &action, &earlier);
}

int lw_guarded(void (*body)(void *), void *argument)
{
    (void)pthread_once(&once, install);
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
