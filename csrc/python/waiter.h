/* What a task awaits until its write is done. */
#ifndef LW_PYTHON_WAITER_H
#define LW_PYTHON_WAITER_H

#include "binding.h"

#define LW_TYPE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

typedef struct waiter {
    PyObject_HEAD
    struct waiter *next; /* in the queue, which holds a reference to each */
    uint64_t ticket;
    bool queued; /* the write waits for a roll, and may still be refused */
    char blocking;
    enum { WAITING, DONE, CANCELLED } state;
    PyObject *loop;
    PyObject *future;  /* NULL, or an asyncio.Future that is done in its place */
    PyObject *wake;    /* the callback of the task that awaits it, and the context to call it in */
    PyObject *context;
    PyObject *outcome; /* DONE: NULL or an exception; CANCELLED: NULL or a message */
} waiter;

bool lw_has_waiter_type(void);
waiter *lw_new_waiter(PyObject *loop, PyObject *future);
/* The future, if there is one. For whoever made the waiter, which a queue holds by now. */
PyObject *lw_to_await(waiter *);
/* That it is done: steps the task that awaits it, or sets the future. -1 with an exception: a task lets none out but SystemExit
 * and KeyboardInterrupt. */
int lw_tell(waiter *);
/* loop.call_soon: a Handle, or NULL with an exception. Without an argument, or a context, where they are NULL. */
PyObject *lw_call_soon(PyObject *loop, PyObject *function, PyObject *argument, PyObject *context);

#endif
