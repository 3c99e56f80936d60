/* An entry that is verified and copied without the interpreter's lock: other threads run meanwhile, an event loop among them. */
#ifndef LW_NOT_CPYTHON

#include "binding.h"

PyObject *lw_large_entry(const binding *b, uint64_t index)
{
    for (;;) {
        lw_error error = {.status = LW_OK};
        lw_entry entry;
        uint64_t size;
        int status = lw_wal_payload_size(b->wal, index, &size, &error);
        if (status == LW_NOT_FOUND)
            Py_RETURN_NONE;
        if (status != LW_OK)
            return lw_raise_error(b, &error);
        PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
        if (payload == NULL)
            return NULL;
        uint8_t *bytes = (uint8_t *)PyBytes_AsString(payload);
        Py_BEGIN_ALLOW_THREADS
        status = lw_wal_copy_entry(b->wal, index, bytes, size, &entry, &error);
        Py_END_ALLOW_THREADS
        if (status == LW_OK)
            return lw_new_entry(b, &entry, payload);
        Py_DECREF(payload);
        if (status != LW_NOT_FOUND) /* else it was replaced meanwhile, by one of another size */
            return lw_raise_error(b, &error);
    }
}

#endif
