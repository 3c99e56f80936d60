/*
 * Lists of Entry in and out, without a Python call for each.
 *
 * The functions take what is exactly right - a list or tuple of Entry with ints and bytes - and answer NotImplemented to
 * everything else; the caller then checks, explains or converts in Python (pylogwal/checks.py), and uses lw_wal_submit and
 * lw_wal_read through cffi.
 */
#ifndef LW_NOT_CPYTHON

#include "binding.h"

#include "reader.h"

enum {
    FIELDS = 4,
    STACK_ENTRIES = 16,
    /* A batch larger than this is copied with the interpreter's lock dropped. */
    LARGE_BATCH_BYTES = 1 << 18,
    /* A call that waits looks so often for signals. */
    SIGNALS_EVERY_NS = 100 * 1000000,
};

static PyObject *not_ours(void)
{
    PyErr_Clear();
    Py_INCREF(Py_NotImplemented);
    return Py_NotImplemented;
}

/* ---- in ---- */

static bool as_uint64(PyObject *number, uint64_t *value)
{
    if (!PyLong_CheckExact(number))
        return false;
    *value = PyLong_AsUnsignedLongLong(number);
    return *value != (uint64_t)-1 || PyErr_Occurred() == NULL;
}

static bool gather_one(const binding *b, PyObject *item, lw_entry *entry)
{
    uint64_t kind;
    char *payload;
    Py_ssize_t size;
    if (Py_TYPE(item) != b->entry_type || PyTuple_Size(item) != FIELDS)
        return false;
    PyObject *bytes = PyTuple_GetItem(item, 2);
    if (!as_uint64(PyTuple_GetItem(item, 0), &entry->index) || !as_uint64(PyTuple_GetItem(item, 1), &entry->term) ||
        !as_uint64(PyTuple_GetItem(item, 3), &kind) || kind > 255 || !PyBytes_CheckExact(bytes) ||
        PyBytes_AsStringAndSize(bytes, &payload, &size) != 0)
        return false;
    entry->payload = payload;
    entry->size = (uint64_t)size;
    entry->kind = (uint8_t)kind;
    return true;
}

static bool gather(const binding *b, PyObject *tuple, lw_entry *entries, size_t count, uint64_t *bytes)
{
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (!gather_one(b, PyTuple_GetItem(tuple, (Py_ssize_t)i), &entries[i]))
            return false;
        *bytes += entries[i].size;
    }
    return true;
}

/* LW_QUEUE_FULL: waits for room and tries again, but for a signal: then -1, with an exception. */
static int submit_when_there_is_room(const binding *b, const lw_batch *batch, bool waits, uint64_t *ticket, lw_error *error)
{
    for (;;) {
        int status;
        lw_error ignored;
        Py_BEGIN_ALLOW_THREADS
        status = lw_wal_submit(b->wal, batch, LW_QUEUE, ticket, error);
        if (status == LW_QUEUE_FULL && waits)
            (void)lw_wal_wait_room(b->wal, SIGNALS_EVERY_NS, &ignored);
        Py_END_ALLOW_THREADS
        if (status != LW_QUEUE_FULL || !waits)
            return status;
        if (PyErr_CheckSignals() != 0)
            return -1;
    }
}

/* Tries at once with the interpreter's lock; where another thread is writing, or the batch is large, without it. */
static int submit_batch(const binding *b, const lw_batch *batch, uint64_t bytes, bool queues, uint64_t *ticket,
                        lw_error *error)
{
    int status = LW_BUSY;
    if (bytes <= LARGE_BATCH_BYTES)
        status = lw_wal_submit(b->wal, batch, queues ? LW_QUEUE : LW_TRY, ticket, error);
    if (status != LW_BUSY && (status != LW_QUEUE_FULL || queues))
        return status;
    return submit_when_there_is_room(b, batch, !queues, ticket, error);
}

PyObject *lw_submit_entries(const binding *b, lw_batch *batch, PyObject *given, bool queues, uint64_t *ticket, int *status)
{
    lw_entry on_stack[STACK_ENTRIES];
    lw_entry *entries = on_stack;
    lw_error error = {.status = LW_OK};
    uint64_t bytes;
    if (!PyList_CheckExact(given) && !PyTuple_CheckExact(given))
        return not_ours();
    PyObject *tuple = PySequence_Tuple(given); /* holds the payloads while the interpreter's lock is dropped */
    if (tuple == NULL)
        return NULL;
    size_t count = (size_t)PyTuple_Size(tuple);
    if (count > STACK_ENTRIES)
        entries = PyMem_Malloc(count * sizeof *entries);
    if (entries == NULL) {
        Py_DECREF(tuple);
        return PyErr_NoMemory();
    }
    bool ours = gather(b, tuple, entries, count, &bytes);
    batch->entries = entries;
    batch->count = count;
    if (ours)
        *status = submit_batch(b, batch, bytes, queues, ticket, &error);
    if (entries != on_stack)
        PyMem_Free(entries);
    Py_DECREF(tuple);
    if (!ours)
        return not_ours();
    if (*status < 0)
        return NULL;
    if (*status != LW_OK && *status != LW_PENDING)
        return lw_raise_error(b, &error);
    Py_RETURN_NONE;
}

/* Blocks as long as that takes, but for a signal whose handler raises: then the write stays accepted. */
static PyObject *submit_and_wait(const binding *b, lw_batch *batch, PyObject *entries, PyObject *durable)
{
    lw_error error = {.status = LW_OK};
    uint64_t ticket = 0;
    int status = LW_OK;
    PyObject *result = lw_submit_entries(b, batch, entries, false, &ticket, &status);
    if (result != Py_None || (durable == Py_False && status == LW_OK))
        return result;
    do {
        Py_BEGIN_ALLOW_THREADS
        status = lw_wal_wait_slice(b->wal, ticket, durable != Py_False, SIGNALS_EVERY_NS, &error);
        Py_END_ALLOW_THREADS
    } while (status == LW_TIMED_OUT && PyErr_CheckSignals() == 0);
    if (status == LW_OK)
        return result;
    Py_DECREF(result);
    return status == LW_TIMED_OUT ? NULL : lw_raise_error(b, &error);
}

/* persist(entries, durable) */
PyObject *lw_py_persist(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    lw_batch batch = {.operation = LW_PERSIST};
    if (!lw_has_count(count, 2))
        return NULL;
    return submit_and_wait(lw_binding_of(capsule), &batch, arguments[0], arguments[1]);
}

/* replace(from_index, entries, durable); without entries it truncates. */
PyObject *lw_py_replace(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    lw_batch batch = {.operation = LW_REPLACE};
    if (!lw_has_count(count, 3))
        return NULL;
    if (!as_uint64(arguments[0], &batch.at.index))
        return not_ours();
    return submit_and_wait(lw_binding_of(capsule), &batch, arguments[1], arguments[2]);
}

/* submit(entries) -> ticket, negative where it is queued. Never blocks. */
PyObject *lw_py_submit(PyObject *capsule, PyObject *entries)
{
    uint64_t ticket = 0;
    int status = LW_OK;
    lw_batch batch = {.operation = LW_PERSIST};
    PyObject *result = lw_submit_entries(lw_binding_of(capsule), &batch, entries, true, &ticket, &status);
    if (result != Py_None)
        return result;
    Py_DECREF(result);
    return PyLong_FromLongLong(status == LW_PENDING ? -(long long)ticket : (long long)ticket);
}

/* ---- out ---- */

typedef struct building {
    const binding *binding;
    PyObject *list;   /* or NULL: a single entry, into `entry` */
    PyObject *entry;
    PyObject *payload; /* not yet in an entry: in a guarded copy */
    PyObject *term;    /* the last one, shared while it stays the same */
    uint64_t term_value;
    Py_ssize_t count;
    Py_ssize_t capacity; /* of the list, as far as it was made ahead */
} building;

static PyObject *term_of(building *made, uint64_t term)
{
    if (made->term == NULL || made->term_value != term) {
        Py_XDECREF(made->term);
        made->term = PyLong_FromUnsignedLongLong(term);
        made->term_value = term;
    }
    Py_XINCREF(made->term);
    return made->term;
}

/* A tuple with this many fields free to set. Since 3.14 a tuple keeps its hash, in a field that only its own constructor
 * sets; there entries are made by the type, from a tuple. */
static PyObject *new_fields(const binding *b)
{
    return b->makes_directly ? PyType_GenericAlloc(b->entry_type, FIELDS) : PyTuple_New(FIELDS);
}

static PyObject *finish_entry(const binding *b, PyObject *fields)
{
    PyObject *entry = fields;
    if (!b->makes_directly) {
        PyObject *arguments = PyTuple_New(1);
        if (arguments == NULL) {
            Py_DECREF(fields);
            return NULL;
        }
        (void)PyTuple_SetItem(arguments, 0, fields);
        newfunc make = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
        entry = make(b->entry_type, arguments, NULL);
        Py_DECREF(arguments);
        if (entry == NULL)
            return NULL;
    }
    PyObject_GC_UnTrack(entry); /* it holds nothing that could refer back to it */
    return entry;
}

static PyObject *make_entry(building *made, const lw_frame *frame)
{
    const binding *b = made->binding;
    PyObject *fields = new_fields(b);
    PyObject *index = PyLong_FromUnsignedLongLong(frame->index);
    PyObject *term = term_of(made, frame->term);
    PyObject *kind = PyLong_FromLong(frame->kind);
    if (fields == NULL || index == NULL || term == NULL || kind == NULL) {
        Py_XDECREF(fields);
        Py_XDECREF(index);
        Py_XDECREF(term);
        Py_XDECREF(kind);
        return NULL;
    }
    (void)PyTuple_SetItem(fields, 0, index);
    (void)PyTuple_SetItem(fields, 1, term);
    (void)PyTuple_SetItem(fields, 2, made->payload);
    (void)PyTuple_SetItem(fields, 3, kind);
    made->payload = NULL;
    return finish_entry(b, fields);
}

PyObject *lw_new_entry(const binding *b, const lw_entry *entry, PyObject *payload)
{
    const lw_frame frame = {.index = entry->index, .term = entry->term, .kind = entry->kind};
    building made = {.binding = b, .payload = payload};
    PyObject *object = make_entry(&made, &frame);
    Py_CLEAR(made.payload);
    Py_CLEAR(made.term);
    return object;
}

/* Touches the mapping only in its memcpy, when all that it has made is reachable from `made`. */
static int build_entry(void *argument, const lw_frame *frame, const uint8_t *payload)
{
    building *made = argument;
    made->payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)frame->size);
    if (made->payload == NULL)
        return LW_NO_MEMORY;
    memcpy(PyBytes_AsString(made->payload), payload, frame->size);
    PyObject *entry = make_entry(made, frame);
    if (entry == NULL)
        return LW_NO_MEMORY;
    if (made->list == NULL) {
        made->entry = entry;
        return LW_OK;
    }
    if (made->count++ < made->capacity)
        return PyList_SetItem(made->list, made->count - 1, entry) == 0 ? LW_OK : LW_NO_MEMORY;
    int failed = PyList_Append(made->list, entry);
    Py_DECREF(entry);
    return failed ? LW_NO_MEMORY : LW_OK;
}

static int enter_range(const binding *b, uint64_t first, uint64_t last, lw_range *range)
{
    lw_error error = {.status = LW_OK};
    int status = lw_enter(b->wal, &error);
    if (status == LW_OK) {
        status = lw_range_open(b->wal, first, last, range, &error);
        if (status != LW_OK)
            lw_leave(b->wal);
    }
    if (status != LW_OK)
        (void)lw_raise_error(b, &error);
    return status;
}

/* Builds from the range, and leaves it. Until then no other Python code may run: a finalizer that closes the log would wait
 * for this very call. LW_OK, or an error with a Python exception set. */
static int build_and_leave(building *made, lw_range *range, bool as_list, uint64_t max_bytes)
{
    lw_error error = {.status = LW_OK};
    int status = LW_NO_MEMORY;
    int collects = PyGC_Disable();
    made->list = as_list ? PyList_New(made->capacity) : NULL;
    if (made->list != NULL || !as_list)
        status = lw_range_visit(range, max_bytes, build_entry, made, &error);
    Py_CLEAR(made->payload);
    Py_CLEAR(made->term);
    if (collects)
        (void)PyGC_Enable();
    lw_range_close(range);
    lw_leave(made->binding->wal);
    if (status != LW_OK && !PyErr_Occurred())
        (void)lw_raise_error(made->binding, &error);
    return status;
}

static Py_ssize_t entries_in(const lw_range *range)
{
    uint64_t count = 0;
    for (size_t i = 0; i < range->count; i++)
        count += range->spans[i].next - range->spans[i].first;
    return (Py_ssize_t)count;
}

/* get_entries(first, last, max_bytes): ints in 0..2^64-1. */
PyObject *lw_py_get_entries(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    const binding *b = lw_binding_of(capsule);
    uint64_t numbers[3];
    lw_range range;
    if (!lw_has_count(count, 3))
        return NULL;
    for (Py_ssize_t i = 0; i < 3; i++)
        if (!as_uint64(arguments[i], &numbers[i]))
            return not_ours();
    if (enter_range(b, numbers[0], numbers[1], &range) != LW_OK)
        return NULL;
    building made = {.binding = b, .capacity = numbers[2] == UINT64_MAX ? entries_in(&range) : 0};
    if (build_and_leave(&made, &range, true, numbers[2]) != LW_OK)
        Py_CLEAR(made.list);
    return made.list;
}

/* NotImplemented where the payload is too large to be copied with the interpreter's lock held. */
static PyObject *small_entry(const binding *b, uint64_t index)
{
    lw_range range;
    if (enter_range(b, index, index, &range) != LW_OK)
        return NULL;
    bool held = range.count > 0;
    range.bounded = true;
    building made = {.binding = b};
    if (build_and_leave(&made, &range, false, LW_LARGE_ENTRY_BYTES) != LW_OK)
        Py_CLEAR(made.entry);
    else if (made.entry == NULL && held)
        return not_ours();
    else if (made.entry == NULL)
        Py_RETURN_NONE;
    return made.entry;
}

/* entry(index): an int in 0..2^64-1. */
PyObject *lw_py_entry(PyObject *capsule, PyObject *number)
{
    const binding *b = lw_binding_of(capsule);
    uint64_t index;
    if (!as_uint64(number, &index))
        return not_ours();
    PyObject *entry = small_entry(b, index);
    if (entry != Py_NotImplemented)
        return entry;
    Py_DECREF(entry);
    return lw_large_entry(b, index);
}

/* The same, but NotImplemented for one that is large. */
PyObject *lw_py_small_entry(PyObject *capsule, PyObject *number)
{
    uint64_t index;
    return as_uint64(number, &index) ? small_entry(lw_binding_of(capsule), index) : not_ours();
}

/* ---- numbers ---- */

/* False with an exception where the handle is closed. This enters no call (lw_enter), so a close in another thread does not
 * wait for the caller, who may read only what stays until lw_wal_free. */
static bool is_open(const binding *b)
{
    lw_error error;
    if (!__atomic_load_n(&b->wal->closing, __ATOMIC_RELAXED) && !lw_forked(b->wal))
        return true;
    if (lw_wal_check_open(b->wal, &error) == LW_OK)
        return true;
    (void)lw_raise_error(b, &error);
    return false;
}

PyObject *lw_py_first_index(PyObject *capsule, PyObject *nothing)
{
    const binding *b = lw_binding_of(capsule);
    (void)nothing;
    return is_open(b) ? PyLong_FromUnsignedLongLong(lw_wal_first_index(b->wal)) : NULL;
}

PyObject *lw_py_last_index(PyObject *capsule, PyObject *nothing)
{
    const binding *b = lw_binding_of(capsule);
    (void)nothing;
    return is_open(b) ? PyLong_FromUnsignedLongLong(lw_wal_last_index(b->wal)) : NULL;
}

PyObject *lw_py_durable_index(PyObject *capsule, PyObject *nothing)
{
    const binding *b = lw_binding_of(capsule);
    (void)nothing;
    return is_open(b) ? PyLong_FromUnsignedLongLong(lw_wal_durable_index(b->wal)) : NULL;
}

/* term(index): an int of any size. */
PyObject *lw_py_term(PyObject *capsule, PyObject *number)
{
    const binding *b = lw_binding_of(capsule);
    lw_error error;
    uint64_t term;
    if (!PyLong_CheckExact(number))
        return not_ours();
    uint64_t index = PyLong_AsUnsignedLongLong(number);
    if (index == (uint64_t)-1 && PyErr_Occurred()) {
        PyErr_Clear(); /* out of range: no log holds it */
        index = UINT64_MAX;
    }
    int status = lw_wal_term(b->wal, index, &term, &error);
    if (status == LW_OK)
        return PyLong_FromUnsignedLongLong(term);
    if (status == LW_NOT_FOUND)
        Py_RETURN_NONE;
    return lw_raise_error(b, &error);
}

/* Whether an entry that was made directly has the hash that a tuple made by its own constructor has. */
bool lw_can_make_directly(binding *b)
{
    const lw_frame frame = {.index = 300, .term = 300};
    building made = {.binding = b};
    b->makes_directly = true;
    made.payload = PyBytes_FromStringAndSize(NULL, 0);
    PyObject *entry = made.payload == NULL ? NULL : make_entry(&made, &frame);
    PyObject *list = entry == NULL ? NULL : PySequence_List(entry);
    PyObject *tuple = list == NULL ? NULL : PyList_AsTuple(list);
    bool equal = tuple != NULL && PyObject_Hash(entry) == PyObject_Hash(tuple);
    Py_XDECREF(entry);
    Py_XDECREF(list);
    Py_XDECREF(tuple);
    Py_CLEAR(made.term);
    PyErr_Clear();
    return equal;
}

#endif
