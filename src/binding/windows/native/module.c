/* The module npipes._native: what each function means, and its making. */
#include "native.h"

#define FUNCTION(name, signature, text)                                               \
    {#name, (PyCFunction)(void (*)(void))native_##name, METH_VARARGS | METH_KEYWORDS, \
     #name "($module, " signature ")\n--\n\n" text}

static PyMethodDef functions[] = {
    FUNCTION(
        CreateNamedPipe,
        "lpName, dwOpenMode, dwPipeMode, nMaxInstances=255, nOutBufferSize=65536, "
        "nInBufferSize=65536, nDefaultTimeOut=0, lpSecurityAttributes=None",
        "Makes an instance of a pipe, and the pipe if there is none of that name; its handle.\n\n"
        "lpName: \\\\.\\pipe\\ and a leaf, as npipes.address gives it.  dwOpenMode: PIPE_ACCESS_*\n"
        "and FILE_FLAG_*.  dwPipeMode: PIPE_TYPE_*, PIPE_READMODE_*, PIPE_WAIT or PIPE_NOWAIT,\n"
        "PIPE_REJECT_REMOTE_CLIENTS.  nMaxInstances: 1 to 254, or PIPE_UNLIMITED_INSTANCES.\n"
        "nOutBufferSize, nInBufferSize: bytes that the system reserves for the pipe.\n"
        "nDefaultTimeOut: milliseconds for NMPWAIT_USE_DEFAULT_WAIT; 0: 50.\n"
        "lpSecurityAttributes: SecurityAttributes; None: Windows' default, which lets everyone\n"
        "read.  OSError: 5 with FILE_FLAG_FIRST_PIPE_INSTANCE for a name that is taken, 231 for\n"
        "nMaxInstances instances, 123 for a name that is none."),
    FUNCTION(
        ConnectNamedPipe, "hNamedPipe",
        "Waits until a client has connected to this instance.\n\n"
        "0, or ERROR_PIPE_CONNECTED if it had come before the call: connected, both of them.\n"
        "OSError: 232 when a client has come and left (DisconnectNamedPipe is next), 536 when\n"
        "none is there and the pipe is in PIPE_NOWAIT mode, 995 after CancelIo."),
    FUNCTION(DisconnectNamedPipe, "hNamedPipe",
             "Parts the client from this instance, which can then be connected again.\n\n"
             "The client loses what it has not read: FlushFileBuffers before waits for that."),
    FUNCTION(
        CallNamedPipe, "lpNamedPipeName, lpInBuffer, nOutBufferSize, nTimeOut",
        "Connects to a message pipe, writes one message, reads one and closes: (data, more).\n\n"
        "lpInBuffer: the message to write, any contiguous bytes-like object.  nOutBufferSize:\n"
        "bytes of the answer to take.  more: the answer was longer, and its rest is gone with\n"
        "the connection.  nTimeOut: milliseconds to wait for a free instance, or NMPWAIT_*; the\n"
        "answer is waited for without limit.  OSError: 2 for no such pipe, 231 or 121 when the\n"
        "time was over."),
    FUNCTION(
        TransactNamedPipe, "hNamedPipe, lpInBuffer, nOutBufferSize",
        "Writes one message and reads one: (data, more) like ReadFile.\n\n"
        "The handle must be in PIPE_READMODE_MESSAGE (else OSError 230), with nothing left to\n"
        "read (else OSError 231).  lpInBuffer: the message to write, any contiguous bytes-like\n"
        "object.  nOutBufferSize: bytes of the answer to take; the rest remains for ReadFile."),
    FUNCTION(WaitNamedPipe, "lpNamedPipeName, nTimeOut",
             "Waits until an instance of the pipe is free to connect to.\n\n"
             "Another client may still be faster.  nTimeOut: milliseconds,\n"
             "NMPWAIT_USE_DEFAULT_WAIT or NMPWAIT_WAIT_FOREVER.  OSError: 2 at once for no such\n"
             "pipe, 121 when the time was over."),
    FUNCTION(PeekNamedPipe, "hNamedPipe, nBufferSize=0",
             "Looks at what could be read, without waiting and without taking it: a PeekResult.\n\n"
             "nBufferSize: bytes to look at, of the first message only where there are messages.\n"
             "OSError: 109 when the other end is gone and nothing is left to read."),
    FUNCTION(GetNamedPipeHandleState, "hNamedPipe", "How a handle reads: a PipeHandleState."),
    FUNCTION(SetNamedPipeHandleState,
             "hNamedPipe, lpMode=None, lpMaxCollectionCount=None, lpCollectDataTimeout=None",
             "Changes how a handle reads; None leaves a thing as it is.\n\n"
             "lpMode: PIPE_READMODE_* and PIPE_WAIT or PIPE_NOWAIT.  lpMaxCollectionCount (bytes)\n"
             "and lpCollectDataTimeout (milliseconds) are for byte pipes of other machines.\n"
             "OSError: 87 for PIPE_READMODE_MESSAGE on a byte pipe."),
    FUNCTION(GetNamedPipeInfo, "hNamedPipe", "What a pipe was made with: a PipeInfo."),
    FUNCTION(GetNamedPipeServerProcessId, "hNamedPipe", "The process that made this instance."),
    FUNCTION(
        CreateFile,
        "lpFileName, dwDesiredAccess, dwShareMode=0, lpSecurityAttributes=None, "
        "dwCreationDisposition=3, dwFlagsAndAttributes=1114112",
        "Opens the client's end of a pipe (or a file); its handle.\n\n"
        "dwDesiredAccess: GENERIC_*, FILE_WRITE_ATTRIBUTES.  dwCreationDisposition: for pipes\n"
        "OPEN_EXISTING.  dwFlagsAndAttributes: FILE_FLAG_* and SECURITY_*; by default\n"
        "SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, so that a server can't act as this\n"
        "user: keep them when adding flags.  The handle reads bytes until\n"
        "SetNamedPipeHandleState.  OSError: 2 for no such pipe, 231 when every instance is\n"
        "busy (WaitNamedPipe is next)."),
    FUNCTION(
        ReadFile, "hFile, nNumberOfBytesToRead",
        "Waits for bytes or a message: (data, more).\n\n"
        "more: there was ERROR_MORE_DATA; data is the beginning of a message, and the next\n"
        "calls get the rest.  b'' with more False is a message without bytes.\n"
        "nNumberOfBytesToRead: 0 to 4294967295, all of it allocated for the time of the call.\n"
        "OSError: 109 when the other end is gone, 232 for nothing there in PIPE_NOWAIT mode,\n"
        "233 when disconnected, 995 after CancelIo."),
    FUNCTION(WriteFile, "hFile, lpBuffer",
             "Writes bytes, as one message where the pipe has messages; the number written.\n\n"
             "lpBuffer: any contiguous bytes-like object, b'' too.  Waits while the pipe is full.\n"
             "The number is less than what was given in PIPE_NOWAIT mode only.  OSError: 232 when\n"
             "the other end is gone, 233 when disconnected, 995 after CancelIo."),
    FUNCTION(FlushFileBuffers, "hFile",
             "Waits until the other end has read everything.\n\n"
             "OSError: 109 or 232 when it is gone."),
    FUNCTION(
        CancelIo, "hFile",
        "Ends the calls of this process that wait on the handle, whichever thread they are of.\n\n"
        "They raise OSError 995.  Does nothing if none waits (yet)."),
    FUNCTION(
        CloseHandle, "hObject",
        "Closes a handle.\n\n"
        "CancelIo, and the end of the waiting calls, come before: a handle that another thread\n"
        "uses must not be closed, its number may soon be another one's."),
    {NULL, NULL, 0, NULL},
};

/* ---- results with named items ------------------------------------------ */

static PyStructSequence_Field handle_state_fields[] = {
    {"state", "PIPE_NOWAIT and PIPE_READMODE_MESSAGE, as far as they are set"},
    {"instances", "instances of the pipe"},
    {NULL, NULL},
};

static PyStructSequence_Desc handle_state_desc = {
    "npipes.native.PipeHandleState",
    "How a handle reads: GetNamedPipeHandleState.",
    handle_state_fields,
    2,
};

static PyStructSequence_Field info_fields[] = {
    {"flags", "PIPE_SERVER_END and PIPE_TYPE_MESSAGE, as far as they are set"},
    {"out_buffer_size", "bytes of the buffer from server to client; 0: as needed"},
    {"in_buffer_size", "bytes of the buffer from client to server; 0: as needed"},
    {"max_instances", "how many instances there may be; 255: no limit"},
    {NULL, NULL},
};

static PyStructSequence_Desc info_desc = {
    "npipes.native.PipeInfo",
    "What a pipe was made with: GetNamedPipeInfo.",
    info_fields,
    4,
};

static PyStructSequence_Field peek_fields[] = {
    {"data", "the first bytes, at most nBufferSize"},
    {"total_available", "bytes that wait to be read"},
    {"left_this_message", "bytes of the first message that are not in data; 0 in a byte pipe"},
    {NULL, NULL},
};

static PyStructSequence_Desc peek_desc = {
    "npipes.native.PeekResult",
    "What waits to be read: PeekNamedPipe.",
    peek_fields,
    3,
};

/* ---- making ------------------------------------------------------------ */

static PyTypeObject *add_type(PyObject *module, PyTypeObject *type) {
    if (type && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

static int exec(PyObject *module) {
    native_state *s = native_state_of(module);
    s->security_type = add_type(
        module, (PyTypeObject *)PyType_FromModuleAndSpec(module, &native_security_spec, NULL));
    s->handle_state_type = add_type(module, PyStructSequence_NewType(&handle_state_desc));
    s->info_type = add_type(module, PyStructSequence_NewType(&info_desc));
    s->peek_type = add_type(module, PyStructSequence_NewType(&peek_desc));
    return s->security_type && s->handle_state_type && s->info_type && s->peek_type ? 0 : -1;
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    native_state *s = native_state_of(module);
    Py_VISIT(s->security_type);
    Py_VISIT(s->handle_state_type);
    Py_VISIT(s->info_type);
    Py_VISIT(s->peek_type);
    return 0;
}

static int clear(PyObject *module) {
    native_state *s = native_state_of(module);
    Py_CLEAR(s->security_type);
    Py_CLEAR(s->handle_state_type);
    Py_CLEAR(s->info_type);
    Py_CLEAR(s->peek_type);
    return 0;
}

static void module_free(void *module) { clear(module); }

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec},
    {0, NULL},
};

static struct PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "npipes._native",
    .m_doc = "Windows' functions for named pipes.",
    .m_size = sizeof(native_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&native_module); }
