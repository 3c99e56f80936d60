/*
 * The functions that CPython gets for each handle beside cffi: csrc/python/entries.c and csrc/python/waits.c.
 *
 * They keep the interpreter's lock, where a call through cffi would drop it and take it again (0.05 us against 0.15, and
 * against tens of microseconds beside a busy thread). All of it keeps to the limited API of 3.10. An implementation without
 * it goes through cffi.
 */
#include "logwal.h"

#ifdef LW_NOT_CPYTHON

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

#include "binding.h"

static const char capsule_name[] = "pylogwal.binding";

binding *lw_binding_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, capsule_name);
}

PyObject *lw_error_object(const binding *b, const lw_error *error)
{
    PyObject *made = PyObject_CallFunction(b->make_error, "n", (Py_ssize_t)(uintptr_t)error);
    if (made == NULL) {
        PyObject *type;
        PyObject *traceback;
        PyErr_Fetch(&type, &made, &traceback);
        PyErr_NormalizeException(&type, &made, &traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
    return made;
}

PyObject *lw_raise_error(const binding *b, const lw_error *error)
{
    PyObject *made = lw_error_object(b, error);
    PyErr_SetObject((PyObject *)Py_TYPE(made), made);
    Py_DECREF(made);
    return NULL;
}

bool lw_has_count(Py_ssize_t count, Py_ssize_t wanted)
{
    if (count != wanted)
        (void)PyErr_Format(PyExc_TypeError, "%zd arguments, not %zd", count, wanted);
    return count == wanted;
}

static PyMethodDef functions[] = {
    {"persist", FAST(lw_py_persist), "persist(entries, durable)"},
    {"replace", FAST(lw_py_replace), "replace(from_index, entries, durable)"},
    {"submit", lw_py_submit, METH_O, "submit(entries) -> ticket, negative where it is queued"},
    {"waits", FAST(lw_py_waits), "waits(loop, descriptor, durable)"},
    {"get_entries", FAST(lw_py_get_entries), "get_entries(first, last, max_bytes)"},
    {"entry", lw_py_entry, METH_O, "entry(index)"},
    {"small_entry", lw_py_small_entry, METH_O, "small_entry(index), or NotImplemented"},
    {"first_index", lw_py_first_index, METH_NOARGS, "first_index()"},
    {"last_index", lw_py_last_index, METH_NOARGS, "last_index()"},
    {"durable_index", lw_py_durable_index, METH_NOARGS, "durable_index()"},
    {"term", lw_py_term, METH_O, "term(index)"},
};

enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static void free_binding(PyObject *capsule)
{
    binding *b = lw_binding_of(capsule);
    Py_DECREF(b->owner);
    Py_DECREF((PyObject *)b->entry_type);
    Py_DECREF(b->make_error);
    PyMem_Free(b);
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
    b->makes_directly = lw_can_make_directly(b);
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
