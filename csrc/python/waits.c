/*
 * What the tasks of one event loop wait for: a queue of waiters, one for each write. The loop is told once for all that one
 * sync made durable, and their tasks are stepped one after the other from that call.
 *
 * Only the loop's own thread comes here, but for the collector's.
 */
#ifndef LW_NOT_CPYTHON

#include "waiter.h"

#include <unistd.h>

typedef struct waits {
    PyObject_HEAD
    const binding *binding; /* NULL when forgotten. Not held: a task that is stepped may drop the store */
    PyObject *loop;
    int descriptor;
    bool durable; /* or else accepted */
    bool turn_ends; /* end_turn is about to be called */
    bool telling;   /* in woken */
    bool again;     /* settle, or listen, is about to be called */
    waiter *head; /* tickets ascend, so it is always the next to be done */
    waiter *tail;
    size_t count;
    size_t asked; /* a sync was asked for so many, from the head on; the others came after */
    uint64_t synced_ns; /* when the sync ended that the last wake-up told of */
    size_t crowd; /* how many there were at the wake-up, */
    size_t came;  /* and how many came since */
    bool overlaps; /* one group comes together while another is synced: see choose_pace */
    PyObject *raised; /* NULL, or what call_own_soon kept */
} waits;

static PyTypeObject *waits_type;

/* ---- the queue ---- */

static void append(waits *all, waiter *one, uint64_t ticket, bool queued)
{
    one->ticket = ticket;
    one->queued = queued;
    Py_INCREF((PyObject *)one);
    /* Nearly always at the end; but who waits for an entry that is there does not wait behind writes that wait for a file. */
    waiter **at = &all->head;
    if (all->tail != NULL && all->tail->ticket <= ticket)
        at = &all->tail->next;
    while (*at != NULL && (*at)->ticket <= ticket)
        at = &(*at)->next;
    one->next = *at;
    *at = one;
    if (one->next == NULL)
        all->tail = one;
    all->count++;
    all->came++;
}

static waiter *take_head(waits *all)
{
    waiter *one = all->head;
    all->head = one->next;
    if (all->head == NULL)
        all->tail = NULL;
    one->next = NULL;
    all->count--;
    if (all->asked > 0)
        all->asked--;
    return one;
}

static int visit_waits(PyObject *self, visitproc visit, void *arg)
{
    waits *all = (waits *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(all->loop);
    Py_VISIT(all->raised);
    for (waiter *one = all->head; one != NULL; one = one->next)
        Py_VISIT((PyObject *)one);
    return 0;
}

static int clear_waits(PyObject *self)
{
    waits *all = (waits *)self;
    Py_CLEAR(all->raised);
    while (all->head != NULL)
        Py_DECREF((PyObject *)take_head(all));
    return 0;
}

static void free_waits(PyObject *self)
{
    waits *all = (waits *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)clear_waits(self);
    Py_DECREF(all->loop);
    PyObject_GC_Del(self);
    Py_DECREF((PyObject *)type);
}

/* ---- asking for a sync ---- */

/*
 * Two groups that overlap give processor and disk work at the same time, but each write waits for up to two syncs. That is
 * worth it where a sync takes no longer than the tasks would need, all of them, to write again; as fast as those that were
 * woken last came back.
 */
static void choose_pace(waits *all)
{
    if (all->came > 0)
        all->overlaps = (lw_now_ns() - all->synced_ns) / all->came * all->crowd >= lw_wal_sync_ns(all->binding->wal);
}

static void ask(waits *all)
{
    choose_pace(all);
    all->asked = all->count;
    lw_wal_arm(all->binding->wal, all->descriptor, all->tail->ticket, all->durable);
}

/* One of the queue's own methods, in the loop's next turn; NULL: without an argument. False, with an exception, where that failed. */
static bool call_method_soon(waits *all, const char *name, PyObject *argument)
{
    PyObject *method = PyObject_GetAttrString((PyObject *)all, name);
    PyObject *handle = method == NULL ? NULL : lw_call_soon(all->loop, method, argument, NULL);
    Py_XDECREF(method);
    Py_XDECREF(handle);
    return handle != NULL;
}

/* What the handler of a signal raised, until raise_kept. */
static void keep_raised(waits *all)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (all->raised == NULL && !PyErr_GivenExceptionMatches(type, PyExc_MemoryError)) {
        all->raised = value;
        value = NULL;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

/* The same, but raises nothing: where a write was accepted, nothing may look like a refusal. What is being raised stays. */
static bool call_own_soon(waits *all, const char *name)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    bool queued = call_method_soon(all, name, NULL);
    if (!queued)
        keep_raised(all);
    PyErr_Restore(type, value, traceback);
    return queued;
}

static void end_turn_soon(waits *all)
{
    if (all->turn_ends)
        return;
    all->turn_ends = call_own_soon(all, "end_turn");
    if (!all->turn_ends && all->count > 0) /* what the loop ran may have dropped the store */
        ask(all);
}

/* So many are to come before a sync is asked for. Where groups overlap, half of the crowd; while that is being synced a third
 * is enough for the next sync to follow on it without the loop. With less the loop would have more turns than writes. */
static size_t group_size(const waits *all)
{
    if (!all->overlaps)
        return all->crowd;
    return all->asked > 0 ? (all->crowd + 2) / 3 : (all->crowd + 1) / 2;
}

/* Else at the end of a turn of the loop in which no sync is running: so a lone writer does not wait, and many share one. */
static void ask_in_time(waits *all)
{
    if (all->count - all->asked >= group_size(all) || all->tail->queued)
        ask(all);
    else if (all->asked == 0)
        end_turn_soon(all);
}

static PyObject *waits_end_turn(PyObject *self, PyObject *nothing)
{
    waits *all = (waits *)self;
    (void)nothing;
    all->turn_ends = false;
    if (all->asked == 0 && all->count > 0)
        ask(all);
    Py_RETURN_NONE;
}

/* Made first: to make an object may run finalizers, and these close the store. */
static waiter *new_usable_waiter(const waits *all, PyObject *future)
{
    waiter *one = lw_new_waiter(all->loop, future == Py_None ? NULL : future);
    if (one == NULL || all->binding != NULL)
        return one;
    Py_DECREF((PyObject *)one);
    PyErr_SetString(PyExc_RuntimeError, "the store is gone");
    return NULL;
}

/* submit(entries, future) -> what to await; or NotImplemented, as csrc/python/entries.c has it. */
static PyObject *waits_submit(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    waits *all = (waits *)self;
    uint64_t ticket = 0;
    int status = LW_OK;
    if (!lw_has_count(count, 2))
        return NULL;
    waiter *one = new_usable_waiter(all, arguments[1]);
    if (one == NULL)
        return NULL;
    lw_batch batch = {.operation = LW_PERSIST};
    PyObject *result = lw_submit_entries(all->binding, &batch, arguments[0], true, &ticket, &status);
    if (result != Py_None) {
        Py_DECREF((PyObject *)one);
        return result;
    }
    Py_DECREF(result);
    append(all, one, ticket, status == LW_PENDING);
    ask_in_time(all);
    return lw_to_await(one);
}

/* add(ticket, queued, future) -> what to await, for a write that was submitted already. */
static PyObject *waits_add(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    waits *all = (waits *)self;
    if (!lw_has_count(count, 3))
        return NULL;
    uint64_t ticket = PyLong_AsUnsignedLongLong(arguments[0]);
    if (ticket == (uint64_t)-1 && PyErr_Occurred())
        return NULL;
    waiter *one = new_usable_waiter(all, arguments[2]);
    if (one == NULL)
        return NULL;
    append(all, one, ticket, arguments[1] == Py_True);
    ask(all);
    return lw_to_await(one);
}

/* ---- telling ---- */

static void settle_soon(waits *all)
{
    if (!all->again)
        all->again = call_own_soon(all, "settle");
}

/* Tells all that are done, of those that waited at the call; and once more in the loop's next turn, for those that a task which
 * runs the loop from within keeps from being told. -1 with an exception: a task lets none out but SystemExit and
 * KeyboardInterrupt. */
static int settle_all(waits *all)
{
    if (all->head == NULL)
        return 0;
    lw_wal *wal = all->binding->wal;
    uint64_t durable = all->durable ? lw_wal_durable_ticket(wal) : 0;
    int failed = 0;
    for (size_t left = all->count; failed == 0 && left > 0 && all->head != NULL; left--) {
        lw_error error = {.status = LW_OK};
        int status = LW_OK;
        if (all->head->queued)
            status = lw_wal_poll(wal, all->head->ticket, all->durable, &error);
        else if (all->head->ticket > durable)
            status = lw_wal_poll_accepted(wal, all->head->ticket, all->durable, &error);
        if (status == LW_PENDING)
            break;
        waiter *one = take_head(all);
        if (status != LW_OK && one->state == WAITING)
            one->outcome = lw_error_object(all->binding, &error);
        if (all->count > 0)
            settle_soon(all);
        failed = lw_tell(one);
        Py_DECREF((PyObject *)one);
    }
    return failed;
}

static void ask_again(waits *all)
{
    if (all->asked > 0)
        lw_wal_arm(all->binding->wal, all->descriptor, all->head->ticket, all->durable);
    else if (all->count > 0)
        end_turn_soon(all); /* when the tasks that were just woken have had their turn */
}

static PyObject *raise_kept(waits *all)
{
    PyObject *raised = all->raised;
    if (raised == NULL)
        Py_RETURN_NONE;
    all->raised = NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
    Py_DECREF(raised);
    return NULL;
}

static PyObject *settle(waits *all)
{
    if (settle_all(all) != 0) {
        settle_soon(all);
        return NULL;
    }
    ask_again(all);
    return raise_kept(all);
}

/* settle(): tells all that are done. */
static PyObject *waits_settle(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    ((waits *)self)->again = false;
    return settle((waits *)self);
}

/* tell(): the same, after a wake-up. */
static PyObject *waits_tell(PyObject *self, PyObject *nothing)
{
    waits *all = (waits *)self;
    (void)nothing;
    if (all->binding == NULL)
        Py_RETURN_NONE;
    all->synced_ns = lw_wal_synced_ns(all->binding->wal);
    all->crowd = all->count;
    all->came = 0;
    return settle(all);
}

/* Where the loop is still in woken, a task runs it from within, and the loop cannot call woken again by the Handle that it is
 * in: so it gets another one. */
static bool listen_within(waits *all, PyObject *listening)
{
    PyObject *woken = PyObject_GetAttrString((PyObject *)all, "woken");
    PyObject *descriptor = PyTuple_GetItem(listening, 0);
    PyObject *others = PyTuple_GetItem(listening, 1);
    PyObject *added = NULL;
    if (woken != NULL && others != NULL)
        added = PyObject_CallMethod(all->loop, "add_reader", "OOOO", descriptor, woken, descriptor, others);
    Py_XDECREF(woken);
    Py_XDECREF(added);
    return added != NULL;
}

/* listen((descriptor, others)): in the loop's next turn after a wake-up. */
static PyObject *waits_listen(PyObject *self, PyObject *listening)
{
    waits *all = (waits *)self;
    all->again = false;
    /* Once more where the handler of a signal raised: without it the loop would hear nothing, and call for ever. */
    for (int tries = 0; tries < 2 && all->telling && all->binding != NULL && !listen_within(all, listening); tries++)
        keep_raised(all);
    return settle(all);
}

/* woken(descriptor, others): the core has told by the descriptor, from which `others` hear as well. */
static PyObject *waits_woken(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    waits *all = (waits *)self;
    uint8_t ignored[512];
    if (!lw_has_count(count, 2))
        return NULL;
    long descriptor = PyLong_AsLong(arguments[0]);
    if (descriptor == -1 && PyErr_Occurred())
        return NULL;
    PyObject *listening = PyTuple_Pack(2, arguments[0], arguments[1]);
    all->again = listening != NULL && call_method_soon(all, "listen", listening);
    Py_XDECREF(listening);
    if (!all->again)
        return NULL;
    if (((waits *)arguments[1])->count > 0 && !call_method_soon((waits *)arguments[1], "tell", NULL))
        return NULL;
    /* Read only now: until then the loop calls again, whatever the handler of a signal raises. */
    if (read((int)descriptor, ignored, sizeof ignored) < 0)
        Py_RETURN_NONE; /* it was read already */
    bool within = all->telling;
    all->telling = true;
    PyObject *result = waits_tell(self, NULL);
    all->telling = within;
    return result;
}

/* forget(): whoever still waits is not told. Nothing here touches the log any more. */
static PyObject *waits_forget(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    ((waits *)self)->binding = NULL;
    (void)clear_waits(self);
    Py_RETURN_NONE;
}

/* ---- the types ---- */

static PyMethodDef waits_methods[] = {
    {"submit", FAST(waits_submit), NULL},
    {"add", FAST(waits_add), NULL},
    {"end_turn", waits_end_turn, METH_NOARGS, NULL},
    {"settle", waits_settle, METH_NOARGS, NULL},
    {"tell", waits_tell, METH_NOARGS, NULL},
    {"listen", waits_listen, METH_O, NULL},
    {"woken", FAST(waits_woken), NULL},
    {"forget", waits_forget, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot waits_slots[] = {
    {Py_tp_dealloc, free_waits},
    {Py_tp_traverse, visit_waits},
    {Py_tp_clear, clear_waits},
    {Py_tp_methods, waits_methods},
    {0, NULL},
};

static PyType_Spec waits_spec = {"pylogwal._core.Waits", sizeof(waits), 0, LW_TYPE_FLAGS, waits_slots};

static bool has_types(void)
{
    if (lw_has_waiter_type() && waits_type == NULL)
        waits_type = (PyTypeObject *)PyType_FromSpec(&waits_spec);
    return waits_type != NULL;
}

PyObject *lw_py_waits(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    if (!lw_has_count(count, 3) || !has_types())
        return NULL;
    long descriptor = PyLong_AsLong(arguments[1]);
    if (descriptor == -1 && PyErr_Occurred())
        return NULL;
    waits *all = PyObject_GC_New(waits, waits_type);
    if (all == NULL)
        return NULL;
    all->binding = lw_binding_of(capsule);
    Py_INCREF(arguments[0]);
    all->loop = arguments[0];
    all->descriptor = (int)descriptor;
    all->durable = arguments[2] == Py_True;
    all->turn_ends = all->telling = all->again = false;
    all->head = all->tail = NULL;
    all->count = all->asked = all->came = 0;
    all->synced_ns = 0;
    all->crowd = 1;
    all->overlaps = true;
    all->raised = NULL;
    PyObject_GC_Track((PyObject *)all);
    return (PyObject *)all;
}

#endif
