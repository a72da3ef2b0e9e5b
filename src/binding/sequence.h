/* Results with named items, of either extension module. */
#ifndef SEQUENCE_H
#define SEQUENCE_H

#include <Python.h>

#include <stdbool.h>

/* Steals the items, and is NULL if one of them is. */
static inline PyObject *sequence_new(PyTypeObject *type, Py_ssize_t count, PyObject **items) {
    PyObject *result = PyStructSequence_New(type);
    bool whole = result != NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        whole &= items[i] != NULL;
        if (result)
            PyStructSequence_SetItem(result, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    if (!whole)
        Py_CLEAR(result);
    return result;
}

#endif
