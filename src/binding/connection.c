/* What ServerConnection and ClientConnection share: all but how they call the
 * object they belong to. */
#include "bridge.h"
#include "sequence.h"

#include <structmember.h>

connection_object *connection_new(module_state *state, PyTypeObject *type, bridge *b) {
    connection_object *self = (connection_object *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->state = state;
    self->bridge = b;
    self->custom_data = Py_NewRef(Py_None);
    np_mutex_init(&self->guard);
    return self;
}

void connection_take(connection_object *self, np_connection *connection) {
    self->connection = connection;
    np_connection_retain(connection);
}

int connection_traverse(PyObject *op, visitproc visit, void *arg) {
    connection_object *self = (connection_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->custom_data);
    Py_VISIT(self->error);
    Py_VISIT(self->peer);
    return 0;
}

int connection_clear(PyObject *op) {
    connection_object *self = (connection_object *)op;
    Py_CLEAR(self->custom_data);
    Py_CLEAR(self->error);
    Py_CLEAR(self->peer);
    return 0;
}

void connection_dealloc(PyObject *op) {
    connection_object *self = (connection_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(op);
    connection_clear(op);
    if (self->connection)
        np_connection_release(self->connection);
    type->tp_free(op);
    Py_DECREF(type);
}

static const char *address_of(connection_object *self) {
    return np_connection_address(self->connection);
}

PyObject *connection_repr(PyObject *op) {
    connection_object *self = (connection_object *)op;
    const char *state = np_connection_is_open(self->connection)      ? "connected"
                        : np_connection_is_opening(self->connection) ? "opening"
                                                                     : "closed";
    return PyUnicode_FromFormat("<%s on %s, %s, at %p>", Py_TYPE(op)->tp_name, address_of(self),
                                state, self);
}

/* ---- operations -------------------------------------------------------- */

/* Below this a write from a foreign thread is over sooner than the GIL would
 * be given away and taken back. */
#define RELEASE_GIL_SIZE (64 * 1024)

static PyObject *raise_write(connection_object *self, np_error *error) {
    if (error->code == NP_E_CLOSED)
        error->limit = np_connection_is_opening(self->connection);
    return errors_raise(self->state, error, address_of(self));
}

static PyObject *write_payload(connection_object *self, payload *p, PyObject *cookie) {
    np_error error;
    np_code code;
    np_connection *c = self->connection;
    Py_XINCREF(cookie);
    size_t size = (size_t)p->size;
    if (p->size >= RELEASE_GIL_SIZE && !np_endpoint_is_inside(np_connection_endpoint(c))) {
        Py_BEGIN_ALLOW_THREADS code = np_connection_write(c, p->data, size, p->hold, cookie,
                                                          &error);
        Py_END_ALLOW_THREADS
    } else {
        code = np_connection_write(c, p->data, size, p->hold, cookie, &error);
    }
    payload_release(p);
    np_endpoint_discard(np_connection_endpoint(c));
    if (code == NP_OK)
        Py_RETURN_NONE;
    Py_XDECREF(cookie);
    return raise_write(self, &error);
}

static bool is_name(PyObject *name, const char *expected) {
    return PyUnicode_CompareWithASCIIString(name, expected) == 0;
}

/* One argument and an optional cookie, by position or name. */
static int parse_pair(const char *function, const char *first, PyObject *const *args,
                      Py_ssize_t count, PyObject *names, PyObject *out[2]) {
    out[0] = count > 0 ? args[0] : NULL;
    out[1] = count > 1 ? args[1] : NULL;
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int at = is_name(name, first) ? 0 : is_name(name, "cookie") ? 1 : -1;
        if (at < 0 || out[at]) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected argument %R", function, name);
            return -1;
        }
        out[at] = args[count + i];
    }
    if (count > 2) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most 2 arguments (%zd given)", function,
                     count);
        return -1;
    }
    if (!out[0]) {
        PyErr_Format(PyExc_TypeError, "%s() misses the argument '%s'", function, first);
        return -1;
    }
    if (out[1] == Py_None)
        out[1] = NULL;
    return 0;
}

static PyObject *connection_write(PyObject *op, PyObject *const *args, Py_ssize_t count,
                                  PyObject *names) {
    connection_object *self = (connection_object *)op;
    PyObject *given[2] = {count ? args[0] : NULL, NULL};
    if ((count != 1 || names) && parse_pair("write", "data", args, count, names, given) < 0)
        return NULL;
    payload p;
    if (PyBytes_CheckExact(given[0]) && PyBytes_GET_SIZE(given[0]) < NP_PAYLOAD_HOLD) {
        /* Most messages: small, and copied by the engine at once. */
        if (!given[1] && PyBytes_GET_SIZE(given[0])
            && np_connection_append(self->connection, PyBytes_AS_STRING(given[0]),
                                    (size_t)PyBytes_GET_SIZE(given[0])))
            Py_RETURN_NONE;
        p.data = PyBytes_AS_STRING(given[0]);
        p.size = PyBytes_GET_SIZE(given[0]);
        p.hold = NULL;
        p.view.obj = NULL;
    } else if (payload_get(&p, given[0], false) < 0) {
        return NULL;
    }
    if (p.size == 0) {
        payload_release(&p);
        Py_RETURN_NONE;
    }
    return write_payload(self, &p, given[1]);
}

/* The messages of a sequence as the engine takes them; those that are empty
 * are left out, as by write(). */
static int collect(PyObject *sequence, payload *payloads, np_message *messages, size_t *count) {
    Py_ssize_t n = PySequence_Fast_GET_SIZE(sequence);
    PyObject **items = PySequence_Fast_ITEMS(sequence);
    *count = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        payload *p = &payloads[*count];
        if (payload_get(p, items[i], false) < 0)
            return -1;
        if (p->size == 0) {
            payload_release(p);
            continue;
        }
        messages[(*count)++] = (np_message){p->data, (size_t)p->size, p->hold};
    }
    return 0;
}

static PyObject *write_sequence(connection_object *self, PyObject *sequence, PyObject *cookie) {
    size_t n = (size_t)PySequence_Fast_GET_SIZE(sequence), count = 0;
    payload *payloads = PyMem_Calloc(n + 1, sizeof *payloads);
    np_message *messages = PyMem_Calloc(n + 1, sizeof *messages);
    np_error error = {0};
    np_code code = NP_E_MEMORY;
    int collected = -1;
    if (payloads && messages)
        collected = collect(sequence, payloads, messages, &count);
    else
        PyErr_NoMemory();
    if (collected == 0) {
        Py_XINCREF(cookie);
        code = count ? np_connection_write_many(self->connection, messages, count, cookie, &error)
                     : NP_OK;
        if (code != NP_OK || !count)
            Py_XDECREF(cookie);
    }
    for (size_t i = 0; i < count; i++)
        payload_release(&payloads[i]);
    PyMem_Free(payloads);
    PyMem_Free(messages);
    np_endpoint_discard(np_connection_endpoint(self->connection));
    if (collected < 0)
        return NULL;
    if (code != NP_OK)
        return raise_write(self, &error);
    Py_RETURN_NONE;
}

enum { FEW = 64 };

/* What most write_many() get: a few small bytes objects, which nothing can
 * change while they are copied.  False, and nothing has happened, where it is
 * something else. */
static bool write_few(connection_object *self, PyObject *given, np_code *code, np_error *error) {
    np_message messages[FEW];
    if (!PyList_CheckExact(given) && !PyTuple_CheckExact(given))
        return false;
    Py_ssize_t n = PySequence_Fast_GET_SIZE(given);
    PyObject **items = PySequence_Fast_ITEMS(given);
    if (n == 0 || n > FEW)
        return false;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_ssize_t size = PyBytes_CheckExact(items[i]) ? PyBytes_GET_SIZE(items[i]) : 0;
        if (size == 0 || size >= NP_PAYLOAD_HOLD)
            return false;
        messages[i] = (np_message){PyBytes_AS_STRING(items[i]), (size_t)size, NULL};
    }
    *code = np_connection_write_many(self->connection, messages, (size_t)n, NULL, error);
    return true;
}

static PyObject *connection_write_many(PyObject *op, PyObject *const *args, Py_ssize_t count,
                                       PyObject *names) {
    connection_object *self = (connection_object *)op;
    PyObject *given[2];
    np_code code;
    np_error error;
    if (parse_pair("write_many", "messages", args, count, names, given) < 0)
        return NULL;
    if (!given[1] && write_few(self, given[0], &code, &error)) {
        np_endpoint_discard(np_connection_endpoint(self->connection));
        if (code != NP_OK)
            return raise_write(self, &error);
        Py_RETURN_NONE;
    }
    /* A copy: what a message's buffer does must not change the list. */
    PyObject *sequence = PySequence_Tuple(given[0]);
    if (!sequence)
        return NULL;
    PyObject *r = write_sequence(self, sequence, given[1]);
    Py_DECREF(sequence);
    return r;
}

static PyObject *connection_read(PyObject *op, PyObject *args, PyObject *kwargs) {
    connection_object *self = (connection_object *)op;
    static char *names[] = {"cookie", NULL};
    PyObject *cookie = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:read", names, &cookie))
        return NULL;
    PyObject *owned = cookie == Py_None ? NULL : Py_NewRef(cookie);
    np_code code = np_connection_read(self->connection, owned);
    if (code == NP_OK)
        Py_RETURN_NONE;
    Py_XDECREF(owned);
    if (code == NP_E_STATE) {
        PyErr_SetString(PyExc_RuntimeError, "read() is for connections with "
                                            "continuous_read=False; this one reads by itself");
        return NULL;
    }
    np_error error = {.code = code, .activity = NP_DOING_READ};
    return raise_write(self, &error);
}

static PyObject *connection_close(PyObject *op, PyObject *unused) {
    (void)unused;
    np_connection_close(((connection_object *)op)->connection);
    Py_RETURN_NONE;
}

/* ---- attributes -------------------------------------------------------- */

PyObject *connection_get_handle(PyObject *op, void *unused) {
    (void)unused;
    return PyLong_FromSsize_t(np_connection_handle(((connection_object *)op)->connection));
}

static PyObject *get_is_connected(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(np_connection_is_open(((connection_object *)op)->connection));
}

static PyObject *get_is_opening(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(np_connection_is_opening(((connection_object *)op)->connection));
}

PyObject *connection_get_pending(PyObject *op, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(
        np_connection_pending(((connection_object *)op)->connection));
}

PyObject *connection_get_endpoint(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *endpoint = bridge_object(((connection_object *)op)->bridge);
    return endpoint ? (PyObject *)endpoint : Py_NewRef(Py_None);
}

PyObject *connection_get_error(PyObject *op, void *unused) {
    (void)unused;
    connection_object *self = (connection_object *)op;
    PyObject *error = guarded_get(&self->guard, &self->error);
    return error ? error : Py_NewRef(Py_None);
}

static PyObject *number_or_none(int64_t value) {
    return value < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(value);
}

static PyObject *text_or_none(const char *text) {
    return *text ? PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace")
                 : Py_NewRef(Py_None);
}

PyObject *peer_new(module_state *state, const np_peer *who) {
    PyObject *items[] = {number_or_none(who->pid), number_or_none(who->uid),
                         number_or_none(who->gid), text_or_none(who->sid), text_or_none(who->user)};
    return sequence_new(state->peer_type, sizeof items / sizeof *items, items);
}

PyObject *connection_get_peer(PyObject *op, void *unused) {
    (void)unused;
    connection_object *self = (connection_object *)op;
    np_mutex_lock(&self->guard);
    PyObject *known = Py_XNewRef(self->peer);
    unsigned lives = self->lives;
    np_mutex_unlock(&self->guard);
    if (known)
        return known;
    np_peer who;
    np_error error = {.activity = NP_DOING_NOTHING};
    Py_BEGIN_ALLOW_THREADS error.code = np_connection_peer(self->connection, &who);
    Py_END_ALLOW_THREADS if (error.code != NP_OK) return raise_write(self, &error);
    PyObject *peer = peer_new(self->state, &who);
    if (!peer)
        return NULL;
    np_mutex_lock(&self->guard);
    if (lives == self->lives && !self->peer)
        self->peer = Py_NewRef(peer);
    np_mutex_unlock(&self->guard);
    return peer;
}

static PyGetSetDef getset[] = {
    {"handle", connection_get_handle, NULL,
     "Descriptor or handle of the system's; 0 when there is none any more.", NULL},
    {"is_connected", get_is_connected, NULL,
     "False as soon as the connection is closing, closed or known to have failed.", NULL},
    {"is_opening", get_is_opening, NULL,
     "True while it is being connected, or will be connected again.", NULL},
    {"pending_bytes", connection_get_pending, NULL, "Bytes that were written and wait to go out.",
     NULL},
    {"error", connection_get_error, NULL,
     "Why the connection ended: None after an orderly close, else the exception.", NULL},
    {"peer", connection_get_peer, NULL,
     "Who the other end is, as the system knows it: (pid, uid, gid, sid, user); what a system\n"
     "doesn't have is None.  Raises PipeClosedError when first asked after the end.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"custom_data", T_OBJECT, offsetof(connection_object, custom_data), 0,
     "Any object of the application's; None at first."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(connection_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyMethodDef connection_methods[] = {
    {"write", (PyCFunction)(void (*)(void))connection_write, METH_FASTCALL | METH_KEYWORDS,
     "write($self, /, data, cookie=None)\n--\n\n"
     "Send data, any contiguous bytes-like object, as one message.  Never blocks; b'' is a\n"
     "no-op.  Inside a handler it goes out with the batch, from another thread at once.\n"
     "on_sent gets the cookie when all of it was handed over.  Raises PipeClosedError once the\n"
     "connection is closed and QueueFullError beyond max_pending_bytes.  Any thread."},
    {"write_many", (PyCFunction)(void (*)(void))connection_write_many,
     METH_FASTCALL | METH_KEYWORDS,
     "write_many($self, /, messages, cookie=None)\n--\n\n"
     "Send every item of an iterable of bytes-like objects as a message of its own, like one\n"
     "write(): all are accepted or none, and on_sent comes once, after the last.  Any thread."},
    {"read", (PyCFunction)(void (*)(void))connection_read, METH_VARARGS | METH_KEYWORDS,
     "read($self, /, cookie=None)\n--\n\n"
     "Ask for one message, with continuous_read=False; on_message gets the cookie.  Several may\n"
     "be outstanding.  Raises RuntimeError when the connection reads by itself and\n"
     "PipeClosedError once the connection is closed.  Any thread."},
    {"close", connection_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Stop reading, hand over what was written (for at most 5 seconds), disconnect.  Returns at\n"
     "once; on_disconnected follows.  Does nothing the second time.  Any thread."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc, "One connection of a Server or ClientManager, as its events get it.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_traverse, connection_traverse},
    {Py_tp_clear, connection_clear},
    {Py_tp_repr, connection_repr},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {Py_tp_methods, connection_methods},
    {0, NULL},
};

PyType_Spec connection_spec = {
    .name = "npipes._npipes._Connection",
    .basicsize = sizeof(connection_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};
