/* What the files of npipes._native share.  It is a module of its own: Windows'
 * functions under their own names, with nothing of the engine in it. */
#ifndef NP_NATIVE_H
#define NP_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "win32.h"

typedef struct native_state {
    PyTypeObject *security_type, *handle_state_type, *info_type, *peek_type;
} native_state;

static inline native_state *native_state_of(PyObject *module) {
    return (native_state *)PyModule_GetState(module);
}

/* ---- arguments.c: converters of PyArg_Parse ("O&"), and results --------- */

/* A DWORD; ValueError beyond. */
int native_dword(PyObject *object, void *out);
/* The same, or None: `given` stays false. */
typedef struct optional_dword {
    DWORD value;
    bool given;
} optional_dword;
int native_optional_dword(PyObject *object, void *out);
/* A HANDLE from an int, signed or not. */
int native_handle(PyObject *object, void *out);

/* A str for Windows, with the object it came from for error messages. */
typedef struct native_name {
    PyObject *object;       /* borrowed */
    wchar_t *text;
} native_name;
int native_name_get(PyObject *object, void *out);
void native_name_free(native_name *name);

/* Whether WriteFile and its kind can take that much; ValueError if not. */
bool native_fits_dword(const Py_buffer *buffer);

/* OSError with winerror; name may be NULL.  Always NULL. */
PyObject *native_raise(DWORD os, PyObject *name);
/* None, or the OSError. */
PyObject *native_none(DWORD os, PyObject *name);
/* The first `count` bytes of a bytes object of that capacity; steals it. */
PyObject *native_shortened(PyObject *bytes, DWORD count);
/* (data, more): what a read that ended with `os` got.  Steals `bytes`. */
PyObject *native_message(PyObject *bytes, DWORD count, DWORD os, PyObject *name);

/* ---- wait.c: calls that may wait for the other end ---------------------- */

/* One call of this thread that is under way, in a list of all of them. */
typedef struct native_wait native_wait;
struct native_wait {
    HANDLE handle;
    HANDLE thread, event;
    OVERLAPPED overlapped;
    native_wait *previous, *next;
};

/* Makes wait->overlapped ready for a call on the handle; without the GIL.  0 or
 * an error.  A call that began ends with native_wait_end. */
DWORD native_wait_begin(native_wait *wait, HANDLE handle);
/* The call returned `done`: waits if it is still under way.  0 or the error it
 * ended with; *count: the bytes moved. */
DWORD native_wait_end(native_wait *wait, BOOL done, DWORD *count);
/* Ends every call under way on the handle, if any.  0 or an error. */
DWORD native_wait_cancel(HANDLE handle);

/* ---- security.c -------------------------------------------------------- */

extern PyType_Spec native_security_spec;
/* What a function is to be given for a SecurityAttributes object or None; false
 * with TypeError.  It lives as long as the object does. */
bool native_security_get(PyObject *module, PyObject *object, SECURITY_ATTRIBUTES **out);

/* ---- the functions: pipe.c, file.c ------------------------------------- */

typedef PyObject *native_function(PyObject *module, PyObject *args, PyObject *kwargs);

native_function native_CreateNamedPipe, native_ConnectNamedPipe, native_DisconnectNamedPipe,
    native_CallNamedPipe, native_TransactNamedPipe, native_WaitNamedPipe, native_PeekNamedPipe,
    native_GetNamedPipeHandleState, native_SetNamedPipeHandleState, native_GetNamedPipeInfo,
    native_GetNamedPipeServerProcessId;
native_function native_CreateFile, native_ReadFile, native_WriteFile, native_FlushFileBuffers,
    native_CancelIo, native_CloseHandle;

#endif
