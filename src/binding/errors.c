/* Engine errors become exceptions here, and only here. */
#include "state.h"

#include "errnos.h"

const char *errors_activity(np_activity activity) {
    switch (activity) {
    case NP_DOING_START: return "start";
    case NP_DOING_ACCEPT: return "accept";
    case NP_DOING_READ: return "read";
    case NP_DOING_WRITE: return "write";
    case NP_DOING_BROADCAST: return "broadcast";
    case NP_DOING_CONNECT: return "connect";
    case NP_DOING_SEND: return "send";
    case NP_DOING_RECEIVE: return "recv";
    default: return "";
    }
}

typedef unsigned long long ull;

/* Why a client could not connect; limit: milliseconds it has tried.  NULL
 * without an exception: nothing of its own. */
static PyObject *describe_connect(const np_error *e, const char *subject) {
    char time[48] = "";
    if (e->limit)
        PyOS_snprintf(time, sizeof time, " within %g seconds", (double)e->limit / 1000);
    switch (e->code) {
    case NP_E_NOT_FOUND:
        return PyUnicode_FromFormat("%s: nobody serves this address%s", subject, time);
    case NP_E_BUSY:
        return PyUnicode_FromFormat("%s: the server has no room for another client%s", subject,
                                    time);
    case NP_E_BROKEN:
        return PyUnicode_FromFormat("%s: the server closed while this client connected", subject);
    case NP_E_ACCESS: return PyUnicode_FromFormat("%s: this user may not connect", subject);
    case NP_E_EOF:
        return PyUnicode_FromFormat("%s: the server closed before it had proved that it has the "
                                    "authkey",
                                    subject);
    case NP_E_OWNER:
        if (host_has_descriptors)
            return PyUnicode_FromFormat("%s: the server is one of uid %llu", subject,
                                        (ull)e->value);
        return PyUnicode_FromFormat("%s: the server is another user's", subject);
    case NP_E_STREAM:
        return PyUnicode_FromFormat("%s: the server's pipe is of byte type, a stream without "
                                    "messages; a ClientManager with mode=\"byte\" reads it",
                                    subject);
    default: return NULL;
    }
}

/* Of a blocking call: value is the timeout in nanoseconds. */
static PyObject *describe_timeout(const np_error *e, const char *subject) {
    char time[32];
    PyOS_snprintf(time, sizeof time, "%g seconds", (double)e->value / 1e9);
    switch (e->activity) {
    case NP_DOING_ACCEPT:
        return PyUnicode_FromFormat("%s: no client came within %s", subject, time);
    case NP_DOING_CONNECT:
        if (e->limit == NP_E_AUTH)
            return PyUnicode_FromFormat("%s: the server did not prove within %s that it has the "
                                        "authkey",
                                        subject, time);
        return PyUnicode_FromFormat(e->limit == NP_E_BUSY
                                        ? "%s: the server had no room for another client for %s"
                                        : "%s: nobody served this address for %s",
                                    subject, time);
    case NP_DOING_SEND: return PyUnicode_FromFormat("%s: not sent within %s", subject, time);
    default: return PyUnicode_FromFormat("%s: no whole message came within %s", subject, time);
    }
}

/* What a blocking call says of a code in words of its own; NULL without an
 * exception: nothing. */
static PyObject *describe_blocking(const np_error *e, const char *subject) {
    ull value = e->value, limit = e->limit;
    switch (e->code) {
    case NP_E_TIMEOUT: return describe_timeout(e, subject);
    case NP_E_TOO_LARGE:
        return PyUnicode_FromFormat("%s: a message of %llu bytes is more than the %llu bytes that "
                                    "are allowed",
                                    subject, value, limit);
    case NP_E_RESET:
        if (value || limit)
            return NULL;
        return PyUnicode_FromFormat("%s: the peer went away without reading all it was sent",
                                    subject);
    case NP_E_BROKEN:
        return PyUnicode_FromFormat("%s: the peer has closed the connection", subject);
    case NP_E_CLOSED:
        if (e->activity != NP_DOING_ACCEPT)
            return NULL;
        return PyUnicode_FromFormat("%s: the listener is closed", subject);
    default: return NULL;
    }
}

/* The peer of whoever accepts is a client, of whoever connects a server. */
static PyObject *describe_auth(const np_error *e, const char *subject) {
    const char *peer = e->activity == NP_DOING_ACCEPT ? "a client" : "the server";
    switch ((np_auth_reason)e->value) {
    case NP_AUTH_WRONG:
        return PyUnicode_FromFormat("%s: %s does not have the same authkey", subject, peer);
    case NP_AUTH_REJECTED:
        return PyUnicode_FromFormat("%s: %s refused the authkey of this end", subject, peer);
    case NP_AUTH_DIGEST:
        return PyUnicode_FromFormat(e->limit ? "%s: %s needs MD5, as Python before 3.12 does, "
                                               "which is not available here"
                                             : "%s: %s needs a digest that is not known here",
                                    subject, peer);
    case NP_AUTH_MIRROR:
        return PyUnicode_FromFormat("%s: %s passed a challenge of another client on", subject,
                                    peer);
    case NP_AUTH_SLOW:
        return PyUnicode_FromFormat("%s: %s did not prove within %llu seconds that it has the "
                                    "authkey",
                                    subject, peer, (ull)e->limit);
    case NP_AUTH_LEFT:
        return PyUnicode_FromFormat("%s: %s left before it had proved that it has the authkey",
                                    subject, peer);
    case NP_AUTH_CROWDED:
        return PyUnicode_FromFormat("%s: %s did not prove that it has the authkey, and had to "
                                    "make room: max_handshakes is %llu",
                                    subject, peer, (ull)e->limit);
    default:
        return PyUnicode_FromFormat("%s: what %s sent is no part of a handshake; perhaps it has "
                                    "no authkey",
                                    subject, peer);
    }
}

static PyObject *describe_late(ull came, ull timeout_ns, const char *subject) {
    char time[32];
    PyOS_snprintf(time, sizeof time, "%g", (double)timeout_ns / 1e9);
    return PyUnicode_FromFormat("%s: a message came too slowly: after %llu bytes of it, "
                                "message_timeout, %s seconds, has brought neither its end nor %d "
                                "bytes",
                                subject, came, time, NP_PROGRESS);
}

static PyObject *describe(const np_error *e, const char *subject) {
    ull value = e->value, limit = e->limit;
    if (e->activity == NP_DOING_CONNECT) {
        PyObject *text = describe_connect(e, subject);
        if (text || PyErr_Occurred())
            return text;
    }
    if (e->activity >= NP_DOING_CONNECT || e->activity == NP_DOING_ACCEPT) {
        PyObject *text = describe_blocking(e, subject);
        if (text || PyErr_Occurred())
            return text;
    }
    switch (e->code) {
    case NP_E_AUTH: return describe_auth(e, subject);
    case NP_E_TOO_LARGE:
        return PyUnicode_FromFormat("%s: a message of %llu bytes is more than max_message_size, "
                                    "%llu bytes",
                                    subject, value, limit);
    case NP_E_PROTOCOL:
        if (limit && value <= INT32_MAX)
            return PyUnicode_FromFormat("%s: a message of %llu bytes where a handshake has at "
                                        "most %llu; perhaps the peer has no authkey",
                                        subject, value, limit);
        return PyUnicode_FromFormat("%s: a message can't have the length %lld", subject,
                                    (long long)(value >> 32 ? (int64_t)value : (int32_t)value));
    case NP_E_RESET:
        if (!limit)
            return PyUnicode_FromFormat("%s: the peer left after %llu bytes of a message's header",
                                        subject, value);
        return PyUnicode_FromFormat("%s: the peer left after %llu of the %llu bytes of a message",
                                    subject, value, limit);
    case NP_E_BROKEN:
        return PyUnicode_FromFormat("%s: the peer left with %llu bytes not handed over", subject,
                                    value);
    case NP_E_CLOSED:
        return PyUnicode_FromFormat(limit ? "%s: the connection is not open yet"
                                          : "%s: the connection is closed",
                                    subject);
    case NP_E_FULL:
        return PyUnicode_FromFormat("%s: a write of %llu bytes would exceed max_pending_bytes, "
                                    "%llu bytes",
                                    subject, value, limit);
    case NP_E_ACCESS:
        return PyUnicode_FromFormat("%s: a client of uid %llu was refused; access is for uid %llu",
                                    subject, value, limit);
    case NP_E_CANCELED:
        return PyUnicode_FromFormat("%s: closed before %llu bytes were handed over", subject,
                                    value);
    case NP_E_TIMEOUT:
        if (e->activity == NP_DOING_READ)
            return describe_late(value, limit, subject);
        return PyUnicode_FromFormat("%s: closed with %llu bytes that the peer did not take within "
                                    "%llu seconds",
                                    subject, value, limit);
    case NP_E_MEMORY: return PyUnicode_FromFormat("%s: no memory for %llu bytes", subject, value);
    case NP_E_FORKED:
        return PyUnicode_FromFormat("%s: belongs to the parent process, and can't be used in a "
                                    "child of fork",
                                    subject);
    case NP_E_EOF:
        return PyUnicode_FromFormat(value ? "%s: the connection was closed here"
                                          : "%s: the peer closed the connection",
                                    subject);
    case NP_E_HALF_SENT:
        return PyUnicode_FromFormat("%s: an earlier send ended inside a message, so nothing more "
                                    "can be sent",
                                    subject);
    case NP_E_STATE:
        return PyUnicode_FromFormat("%s: this thread is inside such a call already", subject);
    default: return PyUnicode_FromFormat("%s: engine error %d", subject, (int)e->code);
    }
}

static PyObject *class_of(module_state *state, np_code code, int *os) {
    switch (code) {
    case NP_E_TOO_LARGE: *os = EMSGSIZE; return state->too_large_error;
    case NP_E_STREAM:
    case NP_E_PROTOCOL: *os = EPROTO; return state->protocol_error;
    case NP_E_RESET: *os = ECONNRESET; return state->reset_error;
    case NP_E_BROKEN:
    case NP_E_CLOSED:
    case NP_E_HALF_SENT:
    case NP_E_FORKED: *os = EPIPE; return state->closed_error;
    case NP_E_EOF: *os = EPIPE; return state->eof_error;
    case NP_E_NOT_FOUND: *os = ENOENT; return state->not_found_error;
    case NP_E_BUSY: *os = EBUSY; return state->busy_error;
    case NP_E_STATE: *os = EDEADLK; return state->pipe_error;
    case NP_E_FULL: *os = ENOBUFS; return state->queue_full_error;
    case NP_E_OWNER:
    case NP_E_ACCESS: *os = EACCES; return state->access_error;
    case NP_E_AUTH: *os = EACCES; return state->authentication_error;
    case NP_E_TIMEOUT: *os = ETIMEDOUT; return state->timeout_error;
    case NP_E_MEMORY: *os = ENOMEM; return state->pipe_error;
    case NP_E_CANCELED: *os = ECANCELED; return state->pipe_error;
    default: *os = EIO; return state->pipe_error;
    }
}

PyObject *errors_make(module_state *state, const np_error *e, const char *subject,
                      PyObject *cookie) {
    PyObject *error = NULL;
    if (e->code == NP_E_SYSTEM) {
        PyObject *name = PyUnicode_FromString(subject);
        error = name ? host_os_error(state->pipe_error, e->os, NULL, name) : NULL;
        Py_XDECREF(name);
    } else {
        int os;
        PyObject *type = class_of(state, e->code, &os);
        PyObject *text = describe(e, subject);
        error = text ? PyObject_CallFunction(type, "iO", os, text) : NULL;
        Py_XDECREF(text);
    }
    if (!error)
        return NULL;
    PyObject *operation = PyUnicode_FromString(errors_activity(e->activity));
    if (!operation || PyObject_SetAttr(error, state->str_operation, operation) < 0
        || PyObject_SetAttr(error, state->str_cookie, cookie ? cookie : Py_None) < 0)
        Py_CLEAR(error);
    Py_XDECREF(operation);
    return error;
}

PyObject *errors_raise(module_state *state, const np_error *e, const char *subject) {
    if (e->code == NP_E_MEMORY)
        return PyErr_NoMemory();
    PyObject *error = errors_make(state, e, subject, NULL);
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

static PyObject *raise_directory(const np_error *e, const char *address) {
    const char *slash = strrchr(address, '/');
    PyObject *path = PyUnicode_DecodeFSDefaultAndSize(address, slash ? slash - address : 0);
    if (!path)
        return NULL;
    char mode[16];
    PyOS_snprintf(mode, sizeof mode, "%o", (unsigned)e->value);
    PyObject *text = PyUnicode_FromFormat(
        "the directory of named sockets must be a directory of this user's with mode 0700, "
        "not one of uid %llu with mode %s",
        (ull)e->limit, mode);
    PyObject *args = text ? Py_BuildValue("iOO", e->os, text, path) : NULL;
    if (args)
        PyErr_SetObject(PyExc_OSError, args);
    Py_XDECREF(args);
    Py_XDECREF(text);
    Py_DECREF(path);
    return NULL;
}

PyObject *errors_raise_start(const np_error *e, PyObject *name, const char *address) {
    switch (e->code) {
    case NP_E_NAME_EMPTY:
        PyErr_Format(PyExc_ValueError, "cannot %s without specifying a pipe name",
                     e->activity == NP_DOING_CONNECT ? "connect" : "start");
        return NULL;
    case NP_E_NAME_CHAR:
        return PyErr_Format(PyExc_ValueError, "%R is not a pipe name: it can't have '%c' there",
                            name, (int)(e->value & 0xff));
    case NP_E_NAME_LONG:
        return PyErr_Format(PyExc_ValueError,
                            "the address of pipe name %R is %llu bytes long, at most %llu are "
                            "possible",
                            name, (ull)e->value, (ull)e->limit);
    case NP_E_INVALID:
        PyErr_Format(PyExc_ValueError, "access for pipe name %R is not one this system has", name);
        return NULL;
    case NP_E_GROUP:
        if (e->value == NP_GROUP_OTHERS)
            break;
        PyErr_Format(PyExc_ValueError,
                     e->value == NP_GROUP_UNKNOWN
                         ? "access for pipe name %R: there is no such group"
                         : "access for a group needs a path, not the pipe name %R: the directory "
                           "of leaf names is closed to others, and an abstract name has no file",
                     name);
        return NULL;
    case NP_E_DIRECTORY: return raise_directory(e, address);
    case NP_E_MEMORY: return PyErr_NoMemory();
    default: break;
    }
    PyObject *path = PyUnicode_DecodeFSDefault(*address ? address : "");
    if (!path)
        return NULL;
    PyObject *error;
    if (e->code == NP_E_EXISTS)
        error = PyObject_CallFunction(PyExc_OSError, "isO", EEXIST,
                                      "a server, or a file that is not a stale socket, already "
                                      "has this address",
                                      path);
    else if (e->code == NP_E_GROUP)
        error = PyObject_CallFunction(PyExc_OSError, "isO", EPERM,
                                      "this user is not in the group that access names", path);
    else
        error = host_os_error(PyExc_OSError, e->os, NULL, path);
    Py_DECREF(path);
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

/* ---- without a handler -------------------------------------------------- */

void errors_log(PyObject *error) {
    PyObject *logging = PyImport_ImportModule("logging");
    PyObject *logger = logging ? PyObject_CallMethod(logging, "getLogger", "s", "npipes") : NULL;
    PyObject *r = logger ? PyObject_CallMethod(logger, "warning", "sO", "%s", error) : NULL;
    if (!r)
        PyErr_WriteUnraisable(error);
    Py_XDECREF(r);
    Py_XDECREF(logger);
    Py_XDECREF(logging);
}

/* ---- the classes ------------------------------------------------------- */

static PyObject *add_class(PyObject *module, const char *name, const char *doc, PyObject *base,
                           PyObject *second) {
    PyObject *bases = second ? PyTuple_Pack(2, base, second) : PyTuple_Pack(1, base);
    PyObject *dict = Py_BuildValue("{s:s,s:O}", "operation", "", "cookie", Py_None);
    PyObject *type = NULL;
    char full[64];
    PyOS_snprintf(full, sizeof full, "npipes.%s", name);
    if (bases && dict)
        type = PyErr_NewExceptionWithDoc(full, doc, bases, dict);
    Py_XDECREF(bases);
    Py_XDECREF(dict);
    if (type && PyModule_AddObjectRef(module, name, type) < 0)
        Py_CLEAR(type);
    return type;
}

int errors_init(PyObject *module, module_state *s) {
    s->pipe_error = add_class(
        module, "PipeError",
        "A pipe operation failed.  operation: what was being done ('accept', 'read', 'write',\n"
        "'broadcast', 'connect'); cookie: the cookie of that operation, or None.",
        PyExc_OSError, NULL);
    if (!s->pipe_error)
        return -1;
    const struct {
        PyObject **slot;
        const char *name, *doc;
        PyObject *second;
    } kinds[] = {
        {&s->closed_error, "PipeClosedError",
         "The connection is closed, or the peer left before everything was handed over.",
         PyExc_BrokenPipeError},
        {&s->reset_error, "PipeResetError", "The peer went away inside a message.",
         PyExc_ConnectionResetError},
        {&s->too_large_error, "MessageTooLargeError", "A message is longer than max_message_size.",
         NULL},
        {&s->protocol_error, "ProtocolError",
         "The peer sent a length that can't be, or has no messages at all.", NULL},
        {&s->queue_full_error, "QueueFullError",
         "A write would let more wait to go out than max_pending_bytes.", NULL},
        {&s->access_error, "AccessDeniedError", "The peer's user may not connect.",
         PyExc_PermissionError},
        {&s->timeout_error, "PipeTimeoutError", "The peer took too long.", PyExc_TimeoutError},
        {&s->eof_error, "ConnectionClosed", "The peer closed the connection between messages.",
         PyExc_EOFError},
        {&s->not_found_error, "PipeNotFoundError", "Nobody serves the address.",
         PyExc_FileNotFoundError},
        {&s->busy_error, "PipeBusyError", "The server has no room for another client now.", NULL},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        *kinds[i].slot = add_class(module, kinds[i].name, kinds[i].doc, s->pipe_error,
                                   kinds[i].second);
        if (!*kinds[i].slot)
            return -1;
    }
    return 0;
}
