/*
 * Lists of Entry in and out, for CPython: functions that keep the interpreter's lock, where a call through cffi would drop it
 * and take it again (0.05 us against 0.15, and against tens of microseconds beside a busy thread), and that build
 * entries without a Python call each.
 *
 * They take what is exactly right - a list or tuple of Entry with ints and bytes - and answer NotImplemented to
 * everything else; the caller then checks, explains or converts in Python (pylogwal/checks.py). All of it keeps to the
 * limited API of 3.10. An implementation without it gets lw_wal_submit and lw_wal_read through cffi.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "logwal.h"

#ifdef PYPY_VERSION

int lw_python_bind(lw_wal *wal, size_t owner, size_t list, size_t entry_type, size_t make_error)
{
    (void)wal;
    (void)owner;
    (void)list;
    (void)entry_type;
    (void)make_error;
    return 0;
}

#else

#include "reader.h"

enum {
    FIELDS = 4,
    STACK_ENTRIES = 16,
    /* A batch larger than this is copied with the interpreter's lock dropped. */
    LARGE_BATCH_BYTES = 1 << 18,
};

typedef struct binding {
    lw_wal *wal;
    PyObject *owner;
    PyTypeObject *entry_type;
    PyObject *make_error;
    bool makes_directly; /* see make_entry */
} binding;

static const char capsule_name[] = "pylogwal.binding";

static binding *binding_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, capsule_name);
}

static PyObject *raise_error(const binding *b, const lw_error *error)
{
    PyObject *made = PyObject_CallFunction(b->make_error, "n", (Py_ssize_t)(uintptr_t)error);
    if (made != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(made), made);
        Py_DECREF(made);
    }
    return NULL;
}

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

/* Tries at once with the interpreter's lock; where another thread is writing, or the batch is large, without it. */
static int submit_batch(const binding *b, const lw_batch *batch, uint64_t bytes, bool queues, uint64_t *ticket,
                        lw_error *error)
{
    int status = LW_BUSY;
    if (bytes <= LARGE_BATCH_BYTES)
        status = lw_wal_submit(b->wal, batch, queues ? LW_QUEUE : LW_TRY, ticket, error);
    if (status != LW_BUSY)
        return status;
    Py_BEGIN_ALLOW_THREADS
    status = lw_wal_submit(b->wal, batch, queues ? LW_QUEUE : LW_WAIT, ticket, error);
    Py_END_ALLOW_THREADS
    return status;
}

/* NotImplemented, or the ticket with *status; NULL with an exception. */
static PyObject *submit_entries(const binding *b, PyObject *given, bool queues, uint64_t *ticket, int *status)
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
    lw_batch batch = {.operation = LW_PERSIST, .entries = entries, .count = count};
    if (ours)
        *status = submit_batch(b, &batch, bytes, queues, ticket, &error);
    if (entries != on_stack)
        PyMem_Free(entries);
    Py_DECREF(tuple);
    if (!ours)
        return not_ours();
    if (*status != LW_OK && *status != LW_PENDING)
        return raise_error(b, &error);
    Py_RETURN_NONE;
}

static bool has_count(Py_ssize_t count, Py_ssize_t wanted)
{
    if (count != wanted)
        (void)PyErr_Format(PyExc_TypeError, "%zd arguments, not %zd", count, wanted);
    return count == wanted;
}

/* persist(entries, durable): blocks as long as that takes. */
static PyObject *persist(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    const binding *b = binding_of(capsule);
    lw_error error = {.status = LW_OK};
    uint64_t ticket = 0;
    int status = LW_OK;
    if (!has_count(count, 2))
        return NULL;
    PyObject *durable = arguments[1];
    PyObject *result = submit_entries(b, arguments[0], false, &ticket, &status);
    if (result != Py_None || (durable == Py_False && status == LW_OK))
        return result;
    Py_BEGIN_ALLOW_THREADS
    status = lw_wal_wait(b->wal, ticket, durable != Py_False, -1, &error);
    Py_END_ALLOW_THREADS
    if (status == LW_OK)
        return result;
    Py_DECREF(result);
    return raise_error(b, &error);
}

/* submit(entries, descriptor) -> ticket, negative where it is queued. With a descriptor (not -1) it is armed, and a sync
 * started. Never blocks. */
static PyObject *submit(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    const binding *b = binding_of(capsule);
    uint64_t ticket = 0;
    int status = LW_OK;
    if (!has_count(count, 2))
        return NULL;
    long descriptor = PyLong_AsLong(arguments[1]);
    if (descriptor == -1 && PyErr_Occurred())
        return NULL;
    PyObject *result = submit_entries(b, arguments[0], true, &ticket, &status);
    if (result != Py_None)
        return result;
    Py_DECREF(result);
    if (descriptor >= 0)
        lw_wal_arm(b->wal, (int)descriptor, ticket, true);
    return PyLong_FromLongLong(status == LW_PENDING ? -(long long)ticket : (long long)ticket);
}

/* ---- waiting ---- */

static bool as_wait(PyObject *const *arguments, uint64_t *ticket, bool *durable)
{
    *ticket = PyLong_AsUnsignedLongLong(arguments[0]);
    *durable = arguments[1] != Py_False;
    return *ticket != (uint64_t)-1 || PyErr_Occurred() == NULL;
}

/* poll(ticket, durable) -> whether it is so. */
static PyObject *poll(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    const binding *b = binding_of(capsule);
    lw_error error = {.status = LW_OK};
    uint64_t ticket;
    bool durable;
    if (!has_count(count, 2) || !as_wait(arguments, &ticket, &durable))
        return NULL;
    int status = lw_wal_poll(b->wal, ticket, durable, &error);
    if (status != LW_OK && status != LW_PENDING)
        return raise_error(b, &error);
    return PyBool_FromLong(status == LW_OK);
}

/* arm(ticket, durable, descriptor) */
static PyObject *arm(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    uint64_t ticket;
    bool durable;
    if (!has_count(count, 3) || !as_wait(arguments, &ticket, &durable))
        return NULL;
    long descriptor = PyLong_AsLong(arguments[2]);
    if (descriptor == -1 && PyErr_Occurred())
        return NULL;
    lw_wal_arm(binding_of(capsule)->wal, (int)descriptor, ticket, durable);
    Py_RETURN_NONE;
}

static PyObject *durable_ticket(PyObject *capsule, PyObject *nothing)
{
    (void)nothing;
    return PyLong_FromUnsignedLongLong(lw_wal_durable_ticket(binding_of(capsule)->wal));
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
        (void)raise_error(b, &error);
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
        (void)raise_error(made->binding, &error);
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
static PyObject *get_entries(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count)
{
    const binding *b = binding_of(capsule);
    uint64_t numbers[3];
    lw_range range;
    if (!has_count(count, 3))
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

/* entry(index): an int in 0..2^64-1. */
static PyObject *get_entry(PyObject *capsule, PyObject *number)
{
    const binding *b = binding_of(capsule);
    uint64_t index;
    lw_range range;
    if (!as_uint64(number, &index))
        return not_ours();
    if (enter_range(b, index, index, &range) != LW_OK)
        return NULL;
    building made = {.binding = b};
    if (build_and_leave(&made, &range, false, UINT64_MAX) != LW_OK)
        Py_CLEAR(made.entry);
    else if (made.entry == NULL)
        Py_RETURN_NONE;
    return made.entry;
}

static PyObject *last_index(PyObject *capsule, PyObject *nothing)
{
    const binding *b = binding_of(capsule);
    lw_error error = {.status = LW_OK};
    (void)nothing;
    if (__atomic_load_n(&b->wal->closing, __ATOMIC_RELAXED) || lw_forked(b->wal)) {
        if (lw_enter(b->wal, &error) != LW_OK)
            return raise_error(b, &error);
        lw_leave(b->wal);
    }
    return PyLong_FromUnsignedLongLong(lw_wal_last_index(b->wal));
}

/* ---- the functions ---- */

#define FAST(function) ((PyCFunction)(void (*)(void))(function)), METH_FASTCALL

static PyMethodDef functions[] = {
    {"persist", FAST(persist), "persist(entries, durable)"},
    {"submit", FAST(submit), "submit(entries, descriptor) -> ticket, negative where it is queued"},
    {"poll", FAST(poll), "poll(ticket, durable)"},
    {"arm", FAST(arm), "arm(ticket, durable, descriptor)"},
    {"durable_ticket", durable_ticket, METH_NOARGS, "durable_ticket()"},
    {"get_entries", FAST(get_entries), "get_entries(first, last, max_bytes)"},
    {"entry", get_entry, METH_O, "entry(index)"},
    {"last_index", last_index, METH_NOARGS, "last_index()"},
};

enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static void free_binding(PyObject *capsule)
{
    binding *b = binding_of(capsule);
    Py_DECREF(b->owner);
    Py_DECREF((PyObject *)b->entry_type);
    Py_DECREF(b->make_error);
    PyMem_Free(b);
}

/* Whether an entry that was made directly has the hash that a tuple made by its own constructor has. */
static bool can_make_directly(binding *b)
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

static PyObject *make_capsule(lw_wal *wal, PyObject *owner, PyObject *entry_type, PyObject *make_error)
{
    binding *b = PyMem_Malloc(sizeof *b);
    if (b == NULL)
        return PyErr_NoMemory();
    *b = (binding){.wal = wal, .owner = owner, .entry_type = (PyTypeObject *)entry_type, .make_error = make_error};
    PyObject *capsule = PyCapsule_New(b, capsule_name, free_binding);
    if (capsule == NULL) {
        PyMem_Free(b);
        return NULL;
    }
    Py_INCREF(owner);
    Py_INCREF(entry_type);
    Py_INCREF(make_error);
    b->makes_directly = can_make_directly(b);
    return capsule;
}

static int append_functions(PyObject *capsule, PyObject *list)
{
    for (int i = 0; i < FUNCTIONS; i++) {
        PyObject *function = PyCFunction_NewEx(&functions[i], capsule, NULL);
        int failed = function == NULL ? -1 : PyList_Append(list, function);
        Py_XDECREF(function);
        if (failed)
            return i;
    }
    return FUNCTIONS;
}

int lw_python_bind(lw_wal *wal, size_t owner, size_t list, size_t entry_type, size_t make_error)
{
    PyGILState_STATE state = PyGILState_Ensure(); /* cffi has dropped the lock for this call */
    PyObject *capsule = make_capsule(wal, (PyObject *)owner, (PyObject *)entry_type, (PyObject *)make_error);
    int count = capsule == NULL ? 0 : append_functions(capsule, (PyObject *)list);
    Py_XDECREF(capsule);
    PyErr_Clear();
    PyGILState_Release(state);
    return count;
}

#endif
