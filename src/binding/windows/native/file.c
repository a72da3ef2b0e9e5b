/* The functions that pipes share with files. */
#include "native.h"

PyObject *native_CreateFile(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"lpFileName",
                            "dwDesiredAccess",
                            "dwShareMode",
                            "lpSecurityAttributes",
                            "dwCreationDisposition",
                            "dwFlagsAndAttributes",
                            NULL};
    native_name name = {0};
    DWORD access, share = 0, disposition = OPEN_EXISTING;
    DWORD flags = SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
    PyObject *attributes = Py_None;
    SECURITY_ATTRIBUTES *security;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&|O&OO&O&:CreateFile", names,
                                     native_name_get, &name, native_dword, &access, native_dword,
                                     &share, &attributes, native_dword, &disposition, native_dword,
                                     &flags))
        return NULL;
    if (!native_security_get(module, attributes, &security)) {
        native_name_free(&name);
        return NULL;
    }
    HANDLE handle;
    DWORD os;
    Py_BEGIN_ALLOW_THREADS handle = CreateFileW(name.text, access, share, security, disposition,
                                                flags, NULL);
    os = GetLastError();
    Py_END_ALLOW_THREADS PyObject *result = handle == INVALID_HANDLE_VALUE
                                                ? native_raise(os, name.object)
                                                : PyLong_FromVoidPtr(handle);
    native_name_free(&name);
    return result;
}

PyObject *native_ReadFile(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"hFile", "nNumberOfBytesToRead", NULL};
    HANDLE handle;
    DWORD size, count = 0, os;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&:ReadFile", names, native_handle, &handle,
                                     native_dword, &size))
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!bytes)
        return NULL;
    Py_BEGIN_ALLOW_THREADS native_wait wait;
    os = native_wait_begin(&wait, handle);
    if (!os) {
        BOOL done = ReadFile(handle, PyBytes_AS_STRING(bytes), size, NULL, &wait.overlapped);
        os = native_wait_end(&wait, done, &count);
    }
    Py_END_ALLOW_THREADS return native_message(bytes, count, os, NULL);
}

PyObject *native_WriteFile(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"hFile", "lpBuffer", NULL};
    HANDLE handle;
    Py_buffer data;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&y*:WriteFile", names, native_handle, &handle,
                                     &data))
        return NULL;
    PyObject *result = NULL;
    if (native_fits_dword(&data)) {
        DWORD count = 0, os;
        Py_BEGIN_ALLOW_THREADS native_wait wait;
        os = native_wait_begin(&wait, handle);
        if (!os) {
            BOOL done = WriteFile(handle, data.buf, (DWORD)data.len, NULL, &wait.overlapped);
            os = native_wait_end(&wait, done, &count);
        }
        Py_END_ALLOW_THREADS result = os ? native_raise(os, NULL) : PyLong_FromUnsignedLong(count);
    }
    PyBuffer_Release(&data);
    return result;
}

/* The one argument of most functions. */
static bool parse_handle(PyObject *args, PyObject *kwargs, const char *format, const char *name,
                         HANDLE *handle) {
    char *names[] = {(char *)name, NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, format, names, native_handle, handle);
}

/* The system has no other way than to wait inside this call. */
PyObject *native_FlushFileBuffers(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    HANDLE handle;
    DWORD os, count;
    if (!parse_handle(args, kwargs, "O&:FlushFileBuffers", "hFile", &handle))
        return NULL;
    Py_BEGIN_ALLOW_THREADS native_wait wait;
    os = native_wait_begin(&wait, handle);
    if (!os)
        os = native_wait_end(&wait, FlushFileBuffers(handle), &count);
    Py_END_ALLOW_THREADS return native_none(os, NULL);
}

PyObject *native_CancelIo(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    HANDLE handle;
    DWORD os;
    if (!parse_handle(args, kwargs, "O&:CancelIo", "hFile", &handle))
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = native_wait_cancel(handle);
    Py_END_ALLOW_THREADS return native_none(os, NULL);
}

PyObject *native_CloseHandle(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    HANDLE handle;
    DWORD os;
    if (!parse_handle(args, kwargs, "O&:CloseHandle", "hObject", &handle))
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = CloseHandle(handle) ? 0 : GetLastError();
    Py_END_ALLOW_THREADS return native_none(os, NULL);
}
