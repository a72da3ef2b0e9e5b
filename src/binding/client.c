/* npipes.Client: the object.  What it sends and receives is in client_send.c
 * and client_receive.c. */
#include "client.h"

#include <structmember.h>

PyObject *client_new(module_state *state, np_channel *channel, const char *address,
                     uint64_t max_message_size, PyObject *reading) {
    PyTypeObject *type = state->client_type;
    client_object *self = (client_object *)type->tp_alloc(type, 0);
    if (!self) {
        np_channel_free(channel);
        return NULL;
    }
    self->state = state;
    self->channel = channel;
    self->reading = Py_XNewRef(reading);
    self->readable = self->writable = true;
    np_channel_set_max_message_size(channel, max_message_size);
    self->address = PyBytes_FromString(address);
    if (!self->address)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((client_object *)op)->reading);
    return 0;
}

static int clear(PyObject *op) {
    Py_CLEAR(((client_object *)op)->reading);
    return 0;
}

static void dealloc(PyObject *op) {
    client_object *self = (client_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(op);
    if (self->channel) {
        Py_XDECREF((PyObject *)np_channel_incoming(self->channel)->owner);
        np_channel_free(self->channel);
    }
    Py_XDECREF(self->address);
    Py_XDECREF(self->reading);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *repr(PyObject *op) {
    client_object *self = (client_object *)op;
    return PyUnicode_FromFormat("<npipes.Client on %s, %s, at %p>",
                                PyBytes_AS_STRING(self->address),
                                np_channel_is_closed(self->channel) ? "closed" : "connected", self);
}

/* ---- errors ------------------------------------------------------------ */

PyObject *client_raise(client_object *self, np_error *error, const patience *p) {
    patience_explain(p, error);
    return errors_raise(self->state, error, PyBytes_AS_STRING(self->address));
}

static int check_open(client_object *self) {
    if (!np_channel_is_closed(self->channel))
        return 0;
    np_error error = {.code = NP_E_CLOSED};
    errors_raise(self->state, &error, PyBytes_AS_STRING(self->address));
    return -1;
}

/* Closed comes first, as it does in the standard library. */
static int refuse(client_object *self, const char *what) {
    if (check_open(self) == 0)
        PyErr_Format(self->state->pipe_error, "%s: connection is %s",
                     PyBytes_AS_STRING(self->address), what);
    return -1;
}

int client_check_readable(client_object *self) {
    return self->readable ? 0 : refuse(self, "write-only");
}

int client_check_writable(client_object *self) {
    return self->writable ? 0 : refuse(self, "read-only");
}

int client_begin(client_object *self, begin_function *begin, patience *p) {
    np_error error;
    np_wait at_once = {.deadline = NP_AT_ONCE};
    np_code code = begin(self->channel, &at_once, &error);
    if (code == NP_E_TIMEOUT && patience_prepare(p) < 0)
        return -1;
    while (code == NP_E_TIMEOUT || code == NP_E_INTERRUPTED) {
        if (code == NP_E_INTERRUPTED && patience_signals(p) < 0)
            return -1;
        Py_BEGIN_ALLOW_THREADS code = begin(self->channel, &p->wait, &error);
        Py_END_ALLOW_THREADS if (code == NP_E_TIMEOUT) break;
    }
    if (code == NP_OK)
        return 0;
    client_raise(self, &error, p);
    return -1;
}

/* ---- methods ----------------------------------------------------------- */

static np_code poll_steps(client_object *self, patience *p, np_error *error) {
    if (patience_prepare(p) < 0)
        return NP_E_INTERRUPTED;
    for (;;) {
        np_code code;
        Py_BEGIN_ALLOW_THREADS code = np_channel_poll(self->channel, &p->wait, error);
        Py_END_ALLOW_THREADS if (code != NP_E_INTERRUPTED || patience_signals(p) < 0) return code;
    }
}

/* Like the standard library's, and unlike the others, it takes a time that is
 * over for 0. */
static int poll_patience(patience *p, PyObject *timeout) {
    double seconds = timeout && timeout != Py_None ? PyFloat_AsDouble(timeout) : 0;
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (timeout && !(seconds < 0))
        return patience_begin(p, timeout);
    *p = (patience){.wait = {.deadline = np_clock()}};
    return 0;
}

static PyObject *client_poll(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    client_object *self = (client_object *)op;
    PyObject *timeout = NULL;
    patience p;
    np_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:poll", names, &timeout)
        || client_check_readable(self) < 0 || poll_patience(&p, timeout) < 0)
        return NULL;
    if (client_begin(self, np_channel_receive_begin, &p) < 0) {
        if (!PyErr_ExceptionMatches(self->state->timeout_error))
            return NULL;
        PyErr_Clear();
        Py_RETURN_FALSE;
    }
    np_code code = poll_steps(self, &p, &error);
    np_channel_receive_end(self->channel);
    if (code == NP_OK)
        Py_RETURN_TRUE;
    if (code == NP_E_TIMEOUT)
        Py_RETURN_FALSE;
    return PyErr_Occurred() ? NULL : client_raise(self, &error, &p);
}

static PyObject *client_fileno(PyObject *op, PyObject *unused) {
    (void)unused;
    client_object *self = (client_object *)op;
    intptr_t handle = np_channel_handle(self->channel);
    if (handle == NP_NO_HANDLE)
        return check_open(self), NULL;
    return PyLong_FromSsize_t(handle);
}

static PyObject *client_close(PyObject *op, PyObject *unused) {
    (void)unused;
    np_channel_close(((client_object *)op)->channel);
    Py_RETURN_NONE;
}

static PyObject *enter(PyObject *op, PyObject *unused) {
    (void)unused;
    return Py_NewRef(op);
}

static PyObject *leave(PyObject *op, PyObject *args) {
    (void)args;
    np_channel_close(((client_object *)op)->channel);
    Py_RETURN_FALSE;
}

/* What it takes to make it again in another process is in Python. */
static PyObject *reduce(PyObject *op, PyObject *unused) {
    (void)unused;
    client_object *self = (client_object *)op;
    if (check_open(self) < 0)
        return NULL;
    if (np_channel_is_partial(self->channel)) {
        PyErr_Format(self->state->pipe_error,
                     "%s: a message has come in part, which can't go to "
                     "another process",
                     PyBytes_AS_STRING(self->address));
        return NULL;
    }
    PyObject *module = PyImport_ImportModule("npipes.client");
    PyObject *r = module ? PyObject_CallMethod(module, "_reduce", "O", op) : NULL;
    Py_XDECREF(module);
    return r;
}

/* ---- attributes -------------------------------------------------------- */

static PyObject *get_closed(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(np_channel_is_closed(((client_object *)op)->channel));
}

static PyObject *get_address(PyObject *op, void *unused) {
    (void)unused;
    PyObject *address = ((client_object *)op)->address;
    return PyUnicode_DecodeFSDefaultAndSize(PyBytes_AS_STRING(address), PyBytes_GET_SIZE(address));
}

static PyObject *get_max_message_size(PyObject *op, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(np_channel_max_message_size(((client_object *)op)->channel));
}

static PyObject *get_peer(PyObject *op, void *unused) {
    (void)unused;
    client_object *self = (client_object *)op;
    np_peer who;
    np_error error;
    np_code code;
    Py_BEGIN_ALLOW_THREADS code = np_channel_peer(self->channel, &who, &error);
    Py_END_ALLOW_THREADS if (code == NP_OK) return peer_new(self->state, &who);
    return errors_raise(self->state, &error, PyBytes_AS_STRING(self->address));
}

static PyObject *get_reading(PyObject *op, void *unused) {
    (void)unused;
    PyObject *reading = ((client_object *)op)->reading;
    return Py_NewRef(reading ? reading : Py_None);
}

static PyObject *get_holds(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(np_channel_holds(((client_object *)op)->channel));
}

static PyObject *get_got_empty(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(np_channel_took_empty(((client_object *)op)->channel));
}

static int set_got_empty(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    int truth = value ? PyObject_IsTrue(value) : 0;
    if (truth < 0)
        return -1;
    np_channel_set_took_empty(((client_object *)op)->channel, truth);
    return 0;
}

static PyGetSetDef getset[] = {
    {"closed", get_closed, NULL, "Whether close() was called.", NULL},
    {"address", get_address, NULL, "The address that it is connected to.", NULL},
    {"peer", get_peer, NULL,
     "Who the other end is, as the system knows it: (pid, uid, gid, sid, user); what a system\n"
     "doesn't have is None.  Raises PipeClosedError once closed.",
     NULL},
    {"max_message_size", get_max_message_size, NULL, "Bytes a received message may have.", NULL},
    {"_reading", get_reading, NULL, "What recv() may make; None: as loads() does.", NULL},
    {"_holds", get_holds, NULL, "Something came that the system can't tell of any more.", NULL},
    {"_got_empty_message", get_got_empty, set_got_empty,
     "Windows: a wait has taken an empty message out of the pipe.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"readable", T_BOOL, offsetof(client_object, readable), READONLY,
     "False for the sending end of Pipe(duplex=False)."},
    {"writable", T_BOOL, offsetof(client_object, writable), READONLY,
     "False for the receiving end of Pipe(duplex=False)."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(client_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define WITH_KEYWORDS(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef methods[] = {
    {"send_bytes", WITH_KEYWORDS(client_send_bytes), METH_FASTCALL | METH_KEYWORDS,
     "send_bytes($self, /, buf, offset=0, size=None, *, timeout=None)\n--\n\n"
     "Send the bytes of a bytes-like object, or a part of it, as one message; b'' is one too.\n"
     "Returns when the system has taken it.  Any thread; messages never mix.  Raises\n"
     "PipeTimeoutError when that takes longer than timeout seconds; after that nothing more can\n"
     "be sent if a part had gone out."},
    {"send_many", WITH_KEYWORDS(client_send_many), METH_VARARGS | METH_KEYWORDS,
     "send_many($self, /, messages, *, timeout=None)\n--\n\n"
     "Send every item of an iterable of bytes-like objects as a message of its own, many of them\n"
     "with one call of the system."},
    {"recv_bytes", WITH_KEYWORDS(client_recv_bytes), METH_FASTCALL | METH_KEYWORDS,
     "recv_bytes($self, /, maxlength=None, *, timeout=None)\n--\n\n"
     "Wait for a message.  Raises ConnectionClosed (an EOFError) when the peer has closed,\n"
     "PipeResetError when it left inside a message, PipeTimeoutError after timeout seconds, and\n"
     "MessageTooLargeError for one longer than maxlength or max_message_size.  After the last two\n"
     "nothing is lost: a later call goes on with the same message."},
    {"recv_bytes_into", WITH_KEYWORDS(client_recv_bytes_into), METH_VARARGS | METH_KEYWORDS,
     "recv_bytes_into($self, /, buf, offset=0, *, timeout=None)\n--\n\n"
     "Wait for a message and put it into a writable buffer; its length.  A message that does not\n"
     "fit comes as the argument of multiprocessing.BufferTooShort."},
    {"recv_many", WITH_KEYWORDS(client_recv_many), METH_VARARGS | METH_KEYWORDS,
     "recv_many($self, /, max=None, *, timeout=None)\n--\n\n"
     "Wait for a message; a list of it and those that are there as well, at most max of them."},
    {"send", WITH_KEYWORDS(client_send), METH_VARARGS | METH_KEYWORDS,
     "send($self, /, obj, *, timeout=None)\n--\n\n"
     "Send an object, pickled, as one message.  timeout and errors are those of send_bytes(); an\n"
     "object that can't be pickled sends nothing."},
    {"recv", WITH_KEYWORDS(client_recv), METH_VARARGS | METH_KEYWORDS,
     "recv($self, /, *, timeout=None)\n--\n\n"
     "Wait for a message and return the object in it.  Raises what recv_bytes() does, and\n"
     "UnsafePayloadError for a message that is no pickle of plain values and of what allow names,\n"
     "unless the Client is trusted: nothing of it has run, and the next call gets the next\n"
     "message."},
    {"call", WITH_KEYWORDS(client_call), METH_VARARGS | METH_KEYWORDS,
     "call($self, /, data, *, timeout=None)\n--\n\n"
     "Send a message and wait for the next one that comes.  Calls of several threads take turns."},
    {"_call", client_call_on, METH_VARARGS,
     "_call($self, data, timeout, spent, /)\n--\n\n"
     "call(), when spent seconds of the timeout are over."},
    {"poll", WITH_KEYWORDS(client_poll), METH_VARARGS | METH_KEYWORDS,
     "poll($self, /, timeout=0.0)\n--\n\n"
     "Whether there is something to receive, or the end, within timeout seconds."},
    {"fileno", client_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\n"
     "The descriptor (Linux: readable while there is something to receive) or handle."},
    {"close", client_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "End the connection.  Calls that wait in other threads raise PipeClosedError.  Does nothing\n"
     "the second time.  Any thread."},
    {"__enter__", enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", leave, METH_VARARGS, "__exit__($self, exc_type, exc_value, traceback, /)\n--\n\n"},
    {"__reduce__", reduce, METH_NOARGS, "__reduce__($self, /)\n--\n\n"},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc, "One end of a connection, for calls that wait.  Made by connect(), Pipe() and\n"
                  "Listener.accept().");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc}, {Py_tp_dealloc, dealloc}, {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},     {Py_tp_repr, repr},       {Py_tp_getset, getset},
    {Py_tp_members, members}, {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec client_spec = {
    .name = "npipes.Client",
    .basicsize = sizeof(client_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
