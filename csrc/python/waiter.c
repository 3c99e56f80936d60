/*
 * A Waiter is what a task needs of a future that it awaits, and no more (_asyncio_future_blocking, as asyncio's futures.py
 * describes it). A future's result goes to its task by way of a Handle in the loop's queue, which costs more than all of
 * the log's own work on a small write. Here the task is stepped from the call that tells of the write, in its own context;
 * as with a future, in the loop's thread.
 */
#ifndef LW_NOT_CPYTHON

#include "waiter.h"

#include <stddef.h>
#include <structmember.h>

static PyTypeObject *waiter_type;

PyObject *lw_call_soon(PyObject *loop, PyObject *function, PyObject *argument, PyObject *context)
{
    PyObject *method = PyObject_GetAttrString(loop, "call_soon");
    PyObject *arguments = argument == NULL ? PyTuple_Pack(1, function) : PyTuple_Pack(2, function, argument);
    PyObject *named = context == NULL ? NULL : Py_BuildValue("{sO}", "context", context);
    PyObject *handle = NULL;
    if (method != NULL && arguments != NULL && (context == NULL || named != NULL))
        handle = PyObject_Call(method, arguments, named);
    Py_XDECREF(method);
    Py_XDECREF(arguments);
    Py_XDECREF(named);
    return handle;
}

/* ---- what a task sees ---- */

static int visit_waiter(PyObject *self, visitproc visit, void *arg)
{
    waiter *one = (waiter *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(one->loop);
    Py_VISIT(one->future);
    Py_VISIT(one->wake);
    Py_VISIT(one->context);
    Py_VISIT(one->outcome);
    return 0;
}

static int clear_waiter(PyObject *self)
{
    waiter *one = (waiter *)self;
    Py_CLEAR(one->future);
    Py_CLEAR(one->wake);
    Py_CLEAR(one->context);
    Py_CLEAR(one->outcome);
    return 0;
}

static void free_waiter(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)clear_waiter(self);
    Py_DECREF(((waiter *)self)->loop);
    PyObject_GC_Del(self);
    Py_DECREF((PyObject *)type);
}

waiter *lw_new_waiter(PyObject *loop, PyObject *future)
{
    waiter *one = PyObject_GC_New(waiter, waiter_type);
    if (one == NULL)
        return NULL;
    one->next = NULL;
    one->ticket = 0;
    one->queued = false;
    one->blocking = 0;
    one->state = WAITING;
    Py_INCREF(loop);
    one->loop = loop;
    Py_XINCREF(future);
    one->future = future;
    one->wake = one->context = one->outcome = NULL;
    PyObject_GC_Track((PyObject *)one);
    return one;
}

static PyObject *raise_cancelled(const waiter *one)
{
    PyObject *module = PyImport_ImportModule("asyncio");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "CancelledError");
    PyObject *error = type == NULL ? NULL : PyObject_CallFunctionObjArgs(type, one->outcome, NULL);
    if (error != NULL)
        PyErr_SetObject(type, error);
    Py_XDECREF(module);
    Py_XDECREF(type);
    Py_XDECREF(error);
    return NULL;
}

static PyObject *waiter_result(PyObject *self, PyObject *nothing)
{
    waiter *one = (waiter *)self;
    (void)nothing;
    if (one->state == CANCELLED)
        return raise_cancelled(one);
    if (one->state == WAITING)
        PyErr_SetString(PyExc_RuntimeError, "the write is not done yet");
    else if (one->outcome != NULL)
        PyErr_SetObject((PyObject *)Py_TYPE(one->outcome), one->outcome);
    else
        Py_RETURN_NONE;
    return NULL;
}

static PyObject *waiter_self(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

/* Gives itself to the task while it waits; then ends, or raises. */
static PyObject *waiter_next(PyObject *self)
{
    waiter *one = (waiter *)self;
    if (one->state == WAITING) {
        one->blocking = 1;
        return waiter_self(self);
    }
    PyObject *result = waiter_result(self, NULL);
    Py_XDECREF(result);
    return NULL;
}

static PyObject *waiter_get_loop(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    return waiter_self(((waiter *)self)->loop);
}

static PyObject *wake_soon(waiter *one)
{
    PyObject *wake = one->wake;
    PyObject *context = one->context;
    one->wake = one->context = NULL;
    PyObject *handle = lw_call_soon(one->loop, wake, (PyObject *)one, context);
    Py_DECREF(wake);
    Py_DECREF(context);
    return handle;
}

/* add_done_callback(wake, *, context) */
static PyObject *waiter_add_done_callback(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    waiter *one = (waiter *)self;
    if (count != 1 || names == NULL || PyTuple_Size(names) != 1 || one->wake != NULL) {
        PyErr_SetString(PyExc_TypeError, "a write is awaited by one task");
        return NULL;
    }
    Py_INCREF(arguments[0]);
    one->wake = arguments[0];
    Py_INCREF(arguments[1]);
    one->context = arguments[1];
    if (one->state != WAITING)
        return wake_soon(one);
    Py_RETURN_NONE;
}

/* cancel(msg=None): of the wait; the write stays. */
static PyObject *waiter_cancel(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    waiter *one = (waiter *)self;
    if (one->state != WAITING)
        Py_RETURN_FALSE;
    one->state = CANCELLED;
    Py_CLEAR(one->outcome); /* of a write that is just being told */
    if (count + (names == NULL ? 0 : PyTuple_Size(names)) > 0 && arguments[0] != Py_None) {
        Py_INCREF(arguments[0]);
        one->outcome = arguments[0];
    }
    if (one->wake != NULL) {
        PyObject *handle = wake_soon(one);
        if (handle == NULL)
            return NULL;
        Py_DECREF(handle);
    }
    Py_RETURN_TRUE;
}

/* ---- what the queue does ---- */

PyObject *lw_to_await(waiter *one)
{
    if (one->future == NULL)
        return (PyObject *)one;
    PyObject *future = waiter_self(one->future);
    Py_DECREF((PyObject *)one);
    return future;
}

static int settle_future(waiter *one)
{
    PyObject *done = PyObject_CallMethod(one->future, "done", NULL);
    PyObject *told = NULL;
    if (done == Py_False && one->outcome == NULL)
        told = PyObject_CallMethod(one->future, "set_result", "O", Py_None);
    else if (done == Py_False)
        told = PyObject_CallMethod(one->future, "set_exception", "O", one->outcome);
    bool failed = done == NULL || (done == Py_False && told == NULL);
    Py_XDECREF(done);
    Py_XDECREF(told);
    /* See Waker.future_to_give_away. */
    return failed || PyObject_SetAttrString(one->future, "waker", Py_None) != 0 ? -1 : 0;
}

static int step_task(waiter *one)
{
    static PyObject *run;
    if (run == NULL && (run = PyUnicode_InternFromString("run")) == NULL)
        return -1;
    PyObject *wake = one->wake;
    PyObject *context = one->context;
    one->wake = one->context = NULL;
    PyObject *result = PyObject_CallMethodObjArgs(context, run, wake, one, NULL);
    Py_DECREF(wake);
    Py_DECREF(context);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int lw_tell(waiter *one)
{
    if (one->state != WAITING)
        return 0;
    one->state = DONE;
    if (one->future != NULL)
        return settle_future(one);
    return one->wake == NULL ? 0 : step_task(one);
}

/* ---- the type ---- */

#define NAMED(function) FAST(function) | METH_KEYWORDS

static PyMethodDef waiter_methods[] = {
    {"get_loop", waiter_get_loop, METH_NOARGS, NULL},
    {"add_done_callback", NAMED(waiter_add_done_callback), NULL},
    {"cancel", NAMED(waiter_cancel), NULL},
    {"result", waiter_result, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef waiter_members[] = {
    {"_asyncio_future_blocking", T_BOOL, offsetof(waiter, blocking), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot waiter_slots[] = {
    {Py_tp_dealloc, free_waiter},
    {Py_tp_traverse, visit_waiter},
    {Py_tp_clear, clear_waiter},
    {Py_am_await, waiter_self},
    {Py_tp_iter, waiter_self},
    {Py_tp_iternext, waiter_next},
    {Py_tp_methods, waiter_methods},
    {Py_tp_members, waiter_members},
    {0, NULL},
};

static PyType_Spec waiter_spec = {"pylogwal._core.Waiter", sizeof(waiter), 0, LW_TYPE_FLAGS, waiter_slots};

bool lw_has_waiter_type(void)
{
    if (waiter_type == NULL)
        waiter_type = (PyTypeObject *)PyType_FromSpec(&waiter_spec);
    return waiter_type != NULL;
}

#endif
