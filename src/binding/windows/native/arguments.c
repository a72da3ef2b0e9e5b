/* Python's values to Windows' and back; every error is raised from here. */
#include "native.h"

int native_dword(PyObject *object, void *out) {
    PyObject *number = PyNumber_Index(object);
    if (!number)
        return 0;
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (value == -1 && !overflow && PyErr_Occurred())
        return 0;
    if (overflow || value < 0 || value > MAXDWORD) {
        PyErr_Format(PyExc_ValueError, "a DWORD is 0 to 4294967295, not %S", object);
        return 0;
    }
    *(DWORD *)out = (DWORD)value;
    return 1;
}

int native_optional_dword(PyObject *object, void *out) {
    optional_dword *optional = out;
    optional->given = object != Py_None;
    return !optional->given || native_dword(object, &optional->value);
}

int native_handle(PyObject *object, void *out) {
    PyObject *number = PyNumber_Index(object);
    if (!number)
        return 0;
    void *value = PyLong_AsVoidPtr(number);
    Py_DECREF(number);
    if (!value && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_Format(PyExc_ValueError, "%S is not a handle", object);
        return 0;
    }
    *(HANDLE *)out = value;
    return 1;
}

int native_name_get(PyObject *object, void *out) {
    native_name *name = out;
    if (!object) {          /* a later argument was wrong */
        native_name_free(name);
        return 1;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "a name must be str, not %.200s", Py_TYPE(object)->tp_name);
        return 0;
    }
    name->object = object;
    name->text = PyUnicode_AsWideCharString(object, NULL);
    return name->text ? Py_CLEANUP_SUPPORTED : 0;
}

void native_name_free(native_name *name) {
    PyMem_Free(name->text);
    name->text = NULL;
}

bool native_fits_dword(const Py_buffer *buffer) {
    if ((unsigned long long)buffer->len <= MAXDWORD)
        return true;
    PyErr_Format(PyExc_ValueError, "a message has at most 4294967295 bytes, not %zd", buffer->len);
    return false;
}

PyObject *native_raise(DWORD os, PyObject *name) {
    return PyErr_SetExcFromWindowsErrWithFilenameObject(PyExc_OSError, (int)os, name);
}

PyObject *native_none(DWORD os, PyObject *name) {
    if (os)
        return native_raise(os, name);
    Py_RETURN_NONE;
}

PyObject *native_shortened(PyObject *bytes, DWORD count) {
    if (PyBytes_GET_SIZE(bytes) != (Py_ssize_t)count)
        _PyBytes_Resize(&bytes, (Py_ssize_t)count);
    return bytes;
}

PyObject *native_message(PyObject *bytes, DWORD count, DWORD os, PyObject *name) {
    if (os && os != ERROR_MORE_DATA) {
        Py_DECREF(bytes);
        return native_raise(os, name);
    }
    /* Not every way to the count has it when there is more: the bytes that
     * there was room for are there then. */
    if (os)
        count = (DWORD)PyBytes_GET_SIZE(bytes);
    bytes = native_shortened(bytes, count);
    return bytes ? Py_BuildValue("NO", bytes, os ? Py_True : Py_False) : NULL;
}
