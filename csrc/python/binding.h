#ifndef LW_PYTHON_BINDING_H
#define LW_PYTHON_BINDING_H

/* What the functions of one handle share that are made for CPython (csrc/python/binding.c). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "logwal.h"

/* In a PyMethodDef. */
#define FAST(function) ((PyCFunction)(void (*)(void))(function)), METH_FASTCALL

typedef struct binding {
    lw_wal *wal;
    PyObject *owner; /* kept alive: the handle */
    PyTypeObject *entry_type;
    PyObject *make_error;
    bool makes_directly; /* see make_entry */
} binding;

binding *lw_binding_of(PyObject *capsule);
/* The exception, or the one that kept it from being made. */
PyObject *lw_error_object(const binding *, const lw_error *);
/* Returns NULL. */
PyObject *lw_raise_error(const binding *, const lw_error *);
bool lw_has_count(Py_ssize_t count, Py_ssize_t wanted);

/* csrc/python/entries.c */
bool lw_can_make_directly(binding *);
/* `batch` says what to do with the entries. NotImplemented where they are not exactly right; None with *ticket and *status
 * (LW_OK or LW_PENDING); NULL with an exception. Never waits where it `queues`. */
PyObject *lw_submit_entries(const binding *, lw_batch *batch, PyObject *entries, bool queues, uint64_t *ticket, int *status);
PyObject *lw_py_persist(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count);
PyObject *lw_py_replace(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count);
PyObject *lw_py_submit(PyObject *capsule, PyObject *entries);
PyObject *lw_py_get_entries(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count);
PyObject *lw_py_entry(PyObject *capsule, PyObject *index);
PyObject *lw_py_small_entry(PyObject *capsule, PyObject *index);
PyObject *lw_py_first_index(PyObject *capsule, PyObject *nothing);
PyObject *lw_py_last_index(PyObject *capsule, PyObject *nothing);
PyObject *lw_py_durable_index(PyObject *capsule, PyObject *nothing);
PyObject *lw_py_term(PyObject *capsule, PyObject *index);

/* Takes the reference to `payload`. */
PyObject *lw_new_entry(const binding *, const lw_entry *, PyObject *payload);

/* csrc/python/large_entry.c: an Entry, None, or NULL with an exception. */
PyObject *lw_large_entry(const binding *, uint64_t index);

/* csrc/python/waits.c */
PyObject *lw_py_waits(PyObject *capsule, PyObject *const *arguments, Py_ssize_t count);

#endif
