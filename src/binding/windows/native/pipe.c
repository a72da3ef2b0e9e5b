/* The functions of named pipes. */
#include "native.h"
#include "sequence.h"

PyObject *native_CreateNamedPipe(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"lpName",          "dwOpenMode",           "dwPipeMode",
                            "nMaxInstances",   "nOutBufferSize",       "nInBufferSize",
                            "nDefaultTimeOut", "lpSecurityAttributes", NULL};
    native_name name = {0};
    DWORD open, mode, instances = PIPE_UNLIMITED_INSTANCES, out = 65536, in = 65536, timeout = 0;
    PyObject *attributes = Py_None;
    SECURITY_ATTRIBUTES *security;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&O&|O&O&O&O&O:CreateNamedPipe", names,
                                     native_name_get, &name, native_dword, &open, native_dword,
                                     &mode, native_dword, &instances, native_dword, &out,
                                     native_dword, &in, native_dword, &timeout, &attributes))
        return NULL;
    if (!native_security_get(module, attributes, &security)) {
        native_name_free(&name);
        return NULL;
    }
    HANDLE handle;
    DWORD os;
    Py_BEGIN_ALLOW_THREADS handle = CreateNamedPipeW(name.text, open, mode, instances, out, in,
                                                     timeout, security);
    os = GetLastError();
    Py_END_ALLOW_THREADS PyObject *result = handle == INVALID_HANDLE_VALUE
                                                ? native_raise(os, name.object)
                                                : PyLong_FromVoidPtr(handle);
    native_name_free(&name);
    return result;
}

/* The one argument of many functions. */
static bool parse_handle(PyObject *args, PyObject *kwargs, const char *format, HANDLE *handle) {
    static char *names[] = {"hNamedPipe", NULL};
    return PyArg_ParseTupleAndKeywords(args, kwargs, format, names, native_handle, handle);
}

PyObject *native_ConnectNamedPipe(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    HANDLE handle;
    DWORD os, count;
    if (!parse_handle(args, kwargs, "O&:ConnectNamedPipe", &handle))
        return NULL;
    Py_BEGIN_ALLOW_THREADS native_wait wait;
    os = native_wait_begin(&wait, handle);
    if (!os)
        os = native_wait_end(&wait, ConnectNamedPipe(handle, &wait.overlapped), &count);
    Py_END_ALLOW_THREADS if (os && os != ERROR_PIPE_CONNECTED) return native_raise(os, NULL);
    return PyLong_FromUnsignedLong(os);
}

PyObject *native_DisconnectNamedPipe(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    HANDLE handle;
    DWORD os;
    if (!parse_handle(args, kwargs, "O&:DisconnectNamedPipe", &handle))
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = DisconnectNamedPipe(handle) ? 0 : GetLastError();
    Py_END_ALLOW_THREADS return native_none(os, NULL);
}

PyObject *native_TransactNamedPipe(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"hNamedPipe", "lpInBuffer", "nOutBufferSize", NULL};
    HANDLE handle;
    Py_buffer data;
    DWORD size, count = 0, os;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&y*O&:TransactNamedPipe", names, native_handle,
                                     &handle, &data, native_dword, &size))
        return NULL;
    PyObject *bytes = native_fits_dword(&data) ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size)
                                               : NULL;
    if (bytes) {
        Py_BEGIN_ALLOW_THREADS native_wait wait;
        os = native_wait_begin(&wait, handle);
        if (!os) {
            BOOL done = TransactNamedPipe(handle, data.buf, (DWORD)data.len,
                                          PyBytes_AS_STRING(bytes), size, NULL, &wait.overlapped);
            os = native_wait_end(&wait, done, &count);
        }
        Py_END_ALLOW_THREADS bytes = native_message(bytes, count, os, NULL);
    }
    PyBuffer_Release(&data);
    return bytes;
}

PyObject *native_CallNamedPipe(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"lpNamedPipeName", "lpInBuffer", "nOutBufferSize", "nTimeOut", NULL};
    native_name name = {0};
    Py_buffer data;
    DWORD size, timeout, count = 0, os;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&y*O&O&:CallNamedPipe", names, native_name_get,
                                     &name, &data, native_dword, &size, native_dword, &timeout))
        return NULL;
    PyObject *bytes = native_fits_dword(&data) ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size)
                                               : NULL;
    if (bytes) {
        Py_BEGIN_ALLOW_THREADS os = CallNamedPipeW(name.text, data.buf, (DWORD)data.len,
                                                   PyBytes_AS_STRING(bytes), size, &count, timeout)
                                        ? 0
                                        : GetLastError();
        Py_END_ALLOW_THREADS bytes = native_message(bytes, count, os, name.object);
    }
    PyBuffer_Release(&data);
    native_name_free(&name);
    return bytes;
}

PyObject *native_WaitNamedPipe(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"lpNamedPipeName", "nTimeOut", NULL};
    native_name name = {0};
    DWORD timeout, os;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&:WaitNamedPipe", names, native_name_get,
                                     &name, native_dword, &timeout))
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = WaitNamedPipeW(name.text, timeout) ? 0 : GetLastError();
    Py_END_ALLOW_THREADS PyObject *result = native_none(os, name.object);
    native_name_free(&name);
    return result;
}

/* ---- what a pipe is and has -------------------------------------------- */

PyObject *native_PeekNamedPipe(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"hNamedPipe", "nBufferSize", NULL};
    HANDLE handle;
    DWORD size = 0, count = 0, total = 0, left = 0, os;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|O&:PeekNamedPipe", names, native_handle,
                                     &handle, native_dword, &size))
        return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!bytes)
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = PeekNamedPipe(handle, size ? PyBytes_AS_STRING(bytes) : NULL, size,
                                              &count, &total, &left)
                                    ? 0
                                    : GetLastError();
    Py_END_ALLOW_THREADS if (os && os != ERROR_MORE_DATA) {
        Py_DECREF(bytes);
        return native_raise(os, NULL);
    }
    return sequence_new(native_state_of(module)->peek_type, 3,
                        (PyObject *[]){native_shortened(bytes, count),
                                       PyLong_FromUnsignedLong(total),
                                       PyLong_FromUnsignedLong(left)});
}

PyObject *native_GetNamedPipeHandleState(PyObject *module, PyObject *args, PyObject *kwargs) {
    HANDLE handle;
    DWORD state, instances, os;
    if (!parse_handle(args, kwargs, "O&:GetNamedPipeHandleState", &handle))
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = GetNamedPipeHandleStateW(handle, &state, &instances, NULL, NULL,
                                                         NULL, 0)
                                    ? 0
                                    : GetLastError();
    Py_END_ALLOW_THREADS if (os) return native_raise(os, NULL);
    return sequence_new(native_state_of(module)->handle_state_type, 2,
                        (PyObject *[]){PyLong_FromUnsignedLong(state),
                                       PyLong_FromUnsignedLong(instances)});
}

PyObject *native_SetNamedPipeHandleState(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    static char *names[] = {"hNamedPipe", "lpMode", "lpMaxCollectionCount", "lpCollectDataTimeout",
                            NULL};
    HANDLE handle;
    DWORD os;
    optional_dword mode = {0}, count = {0}, timeout = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|O&O&O&:SetNamedPipeHandleState", names,
                                     native_handle, &handle, native_optional_dword, &mode,
                                     native_optional_dword, &count, native_optional_dword,
                                     &timeout))
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = SetNamedPipeHandleState(handle, mode.given ? &mode.value : NULL,
                                                        count.given ? &count.value : NULL,
                                                        timeout.given ? &timeout.value : NULL)
                                    ? 0
                                    : GetLastError();
    Py_END_ALLOW_THREADS return native_none(os, NULL);
}

PyObject *native_GetNamedPipeInfo(PyObject *module, PyObject *args, PyObject *kwargs) {
    HANDLE handle;
    DWORD flags, out, in, instances, os;
    if (!parse_handle(args, kwargs, "O&:GetNamedPipeInfo", &handle))
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = GetNamedPipeInfo(handle, &flags, &out, &in, &instances)
                                    ? 0
                                    : GetLastError();
    Py_END_ALLOW_THREADS if (os) return native_raise(os, NULL);
    return sequence_new(native_state_of(module)->info_type, 4,
                        (PyObject *[]){PyLong_FromUnsignedLong(flags), PyLong_FromUnsignedLong(out),
                                       PyLong_FromUnsignedLong(in),
                                       PyLong_FromUnsignedLong(instances)});
}

PyObject *native_GetNamedPipeServerProcessId(PyObject *module, PyObject *args, PyObject *kwargs) {
    HANDLE handle;
    ULONG process = 0;
    DWORD os;
    (void)module;
    if (!parse_handle(args, kwargs, "O&:GetNamedPipeServerProcessId", &handle))
        return NULL;
    Py_BEGIN_ALLOW_THREADS os = GetNamedPipeServerProcessId(handle, &process) ? 0 : GetLastError();
    Py_END_ALLOW_THREADS return os ? native_raise(os, NULL) : PyLong_FromUnsignedLong(process);
}
