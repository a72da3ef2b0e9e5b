/* npipes.aio.Connection: what came and waits to be received, and the methods
 * that an application's tasks await. */
#include "aio.h"

#include <structmember.h>

/* A connection whose messages nobody takes is not read from any more. */
enum { PAUSE_BYTES = 1 << 20 };

/* ---- messages ---------------------------------------------------------- */

int aio_connection_grow(aio_connection *c) {
    size_t capacity = c->capacity ? c->capacity * 2 : 4;
    PyObject **messages = PyMem_Malloc(capacity * sizeof *messages);
    if (!messages)
        return PyErr_NoMemory(), -1;
    for (size_t i = 0; i < c->count; i++)
        messages[i] = c->messages[(c->head + i) & (c->capacity - 1)];
    PyMem_Free(c->messages);
    c->messages = messages;
    c->head = 0;
    c->capacity = capacity;
    return 0;
}

static void drop_messages(aio_connection *c) {
    while (c->count)
        Py_DECREF(aio_connection_pop(c));
    PyMem_Free(c->messages);
    c->messages = NULL;
    c->capacity = c->head = 0;
}

void aio_connection_balance(aio_connection *c) {
    bool paused = c->paused ? c->bytes > PAUSE_BYTES / 2 : c->bytes > PAUSE_BYTES;
    if (paused == c->paused)
        return;
    c->paused = paused;
    np_connection_pause(c->base.connection, paused || c->finishing);
}

/* ---- who waits --------------------------------------------------------- */

aio *aio_of(const aio_connection *c) {
    endpoint_object *s = c->base.bridge->object;
    return s ? s->aio : NULL;
}

void aio_connection_wake_readers(aio_connection *c) {
    waiter_skip_abandoned(c);
    if (c->readers.first && (c->count || aio_connection_is_over(c)))
        waiter_wake_first(&c->readers);
}

void aio_connection_wake_writers(aio_connection *c) {
    if (!c->writers.first)
        return;
    if (c->closed || c->closing || !np_connection_is_full(c->base.connection))
        waiter_wake_first(&c->writers);
}

/* ---- the end ----------------------------------------------------------- */

static const char *address_of(const aio_connection *c) {
    return np_connection_address(c->base.connection);
}

/* Why nothing can be received (or, of one that never opened, why it did not). */
PyObject *aio_connection_raise_end(aio_connection *c) {
    np_error error = c->end;
    if (!error.code) {
        bool here = c->closing || c->finishing || !c->ended;
        error = (np_error){.code = NP_E_EOF, .activity = NP_DOING_READ, .value = here};
    }
    return errors_raise(c->base.state, &error, address_of(c));
}

/* After a failure a send says what it was, also where the event of it has yet to
 * come: a task that got the last message before it may be the one that sends. */
static int raise_unsent(aio_connection *c, np_error *error) {
    if (error->code == NP_E_CLOSED) {
        np_error failure = c->end.code ? c->end : np_connection_failure(c->base.connection);
        if (failure.code)
            *error = failure;
        else
            error->limit = np_connection_is_opening(c->base.connection);
    }
    errors_raise(c->base.state, error, address_of(c));
    return -1;
}

bool aio_connection_append(aio_connection *c, PyObject *data) {
    return PyBytes_CheckExact(data) && PyBytes_GET_SIZE(data) < NP_PAYLOAD_HOLD
           && np_connection_append(c->base.connection, PyBytes_AS_STRING(data),
                                   (size_t)PyBytes_GET_SIZE(data));
}

int aio_connection_send(aio_connection *c, PyObject *data) {
    payload p;
    np_error error;
    np_connection *connection = c->base.connection;
    if (payload_get(&p, data, false) < 0)
        return -1;
    aio *a = aio_of(c);
    if (a && p.size >= NP_PAYLOAD_HOLD)
        a->large = true;
    np_code code = np_connection_write(connection, p.data, (size_t)p.size, p.hold, NULL, &error);
    payload_release(&p);
    np_endpoint_discard(np_connection_endpoint(connection));
    return code == NP_OK ? 0 : raise_unsent(c, &error);
}

/* ---- methods ----------------------------------------------------------- */

static PyObject *receive(PyObject *op, PyObject *unused) {
    (void)unused;
    return waiter_new((aio_connection *)op, WAIT_RECV, NULL);
}

static PyObject *anext(PyObject *op) { return waiter_new((aio_connection *)op, WAIT_NEXT, NULL); }

static PyObject *send(PyObject *op, PyObject *data) {
    return waiter_new((aio_connection *)op, WAIT_SEND, data);
}

static PyObject *call(PyObject *op, PyObject *data) {
    return waiter_new((aio_connection *)op, WAIT_CALL, data);
}

static PyObject *drain(PyObject *op, PyObject *unused) {
    (void)unused;
    return waiter_new((aio_connection *)op, WAIT_DRAIN, NULL);
}

static PyObject *wait_closed(PyObject *op, PyObject *unused) {
    (void)unused;
    return waiter_new((aio_connection *)op, WAIT_CLOSED, NULL);
}

static PyObject *wait_opened(PyObject *op, PyObject *unused) {
    (void)unused;
    return waiter_new((aio_connection *)op, WAIT_OPEN, NULL);
}

static PyObject *aenter(PyObject *op, PyObject *unused) {
    (void)unused;
    return waiter_new((aio_connection *)op, WAIT_ENTER, NULL);
}

static PyObject *send_nowait(PyObject *op, PyObject *data) {
    aio_connection *c = (aio_connection *)op;
    if (!aio_connection_append(c, data) && aio_connection_send(c, data) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *close_connection(PyObject *op, PyObject *unused) {
    aio_connection *c = (aio_connection *)op;
    if (!c->closing) {
        c->closing = true;
        drop_messages(c);
        np_connection_close(c->base.connection);
        aio_connection_wake_readers(c);
        aio_connection_wake_writers(c);
    }
    return wait_closed(op, unused);
}

static PyObject *aexit(PyObject *op, PyObject *args) {
    (void)args;
    return close_connection(op, NULL);
}

/* The server closes: what has come is the last, what is sent still goes out. */
static PyObject *finish_receiving(PyObject *op, PyObject *unused) {
    (void)unused;
    aio_connection *c = (aio_connection *)op;
    c->finishing = true;
    np_connection_pause(c->base.connection, true);
    if (waiter_wants_end(c))
        np_connection_close(c->base.connection);
    aio_connection_wake_readers(c);
    Py_RETURN_NONE;
}

/* ---- attributes -------------------------------------------------------- */

static PyObject *get_is_connected(PyObject *op, void *unused) {
    (void)unused;
    aio_connection *c = (aio_connection *)op;
    return PyBool_FromLong(!c->ended && !c->closing && np_connection_is_open(c->base.connection));
}

static PyObject *get_address(PyObject *op, void *unused) {
    (void)unused;
    return PyUnicode_DecodeFSDefault(address_of((aio_connection *)op));
}

/* ---- life -------------------------------------------------------------- */

connection_object *aio_connection_new(module_state *state, bridge *b, PyObject *loop) {
    connection_object *self = connection_new(state, state->aio_connection_type, b);
    if (self)
        ((aio_connection *)self)->loop = Py_XNewRef(loop);
    return self;
}

static int traverse(PyObject *op, visitproc visit, void *arg) {
    aio_connection *c = (aio_connection *)op;
    Py_VISIT(c->loop);
    Py_VISIT(c->spares[0]);
    Py_VISIT(c->spares[1]);
    int r = waiter_queue_traverse(&c->readers, visit, arg);
    if (!r)
        r = waiter_queue_traverse(&c->writers, visit, arg);
    if (!r)
        r = waiter_queue_traverse(&c->watchers, visit, arg);
    return r ? r : connection_traverse(op, visit, arg);
}

static int clear(PyObject *op) {
    aio_connection *c = (aio_connection *)op;
    waiter_queue_clear(&c->readers);
    waiter_queue_clear(&c->writers);
    waiter_queue_clear(&c->watchers);
    Py_CLEAR(c->spares[0]);
    Py_CLEAR(c->spares[1]);
    drop_messages(c);
    return connection_clear(op);
}

static void dealloc(PyObject *op) {
    aio_connection *c = (aio_connection *)op;
    PyObject_GC_UnTrack(op);
    clear(op);
    Py_CLEAR(c->loop);
    connection_dealloc(op);
}

static PyGetSetDef getset[] = {
    {"address", get_address, NULL, "The address of the server.", NULL},
    {"handle", connection_get_handle, NULL,
     "Descriptor or handle of the system's; 0 when there is none any more.", NULL},
    {"is_connected", get_is_connected, NULL,
     "False once either side has closed, or the connection is known to have failed.", NULL},
    {"pending_bytes", connection_get_pending, NULL, "Bytes that were sent and wait to go out.",
     NULL},
    {"error", connection_get_error, NULL,
     "Why the connection ended: None after an orderly close, else the exception.", NULL},
    {"peer", connection_get_peer, NULL,
     "Who the other end is: (pid, uid, gid, sid, user); what a system doesn't have is None.\n"
     "Raises PipeClosedError when first asked after the end.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"custom_data", T_OBJECT, offsetof(aio_connection, base.custom_data), 0,
     "Any object of the application's; None at first."},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(aio_connection, base.weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
    {"recv", receive, METH_NOARGS,
     "recv($self, /)\n--\n\n"
     "The next message (bytes).  Raises ConnectionClosed, an EOFError, after the last one of a\n"
     "connection that was closed, and the error of one that failed.  Cancelling it loses nothing.\n"
     "Several tasks may wait; each gets a message, in the order in which they began to wait."},
    {"send", send, METH_O,
     "send($self, data, /)\n--\n\n"
     "Send data, any contiguous bytes-like object, as one message.  While more waits to go out\n"
     "than write_high_water (1 MiB) it waits until a quarter of that is left; then the message is\n"
     "accepted, and goes out with others of the same turn of the loop.  When it is cancelled the\n"
     "message is not sent.  Raises PipeClosedError on a closed connection, and the error of one\n"
     "that failed."},
    {"send_nowait", send_nowait, METH_O,
     "send_nowait($self, data, /)\n--\n\n"
     "Send data without waiting, before those that wait in send().  Raises QueueFullError beyond\n"
     "max_pending_bytes, and what send() raises."},
    {"drain", drain, METH_NOARGS,
     "drain($self, /)\n--\n\n"
     "Wait until no more than write_high_water waits to go out."},
    {"call", call, METH_O,
     "call($self, data, /)\n--\n\n"
     "Send a request and wait for its reply: the next message that nobody else waited for\n"
     "before.  Calls may overlap where the peer answers in order.  When it is cancelled after its\n"
     "request went out, its reply is dropped when it comes."},
    {"close", close_connection, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Stop receiving, hand over what was sent (for at most 5 seconds), disconnect.  Returns at\n"
     "once; what it returns can be awaited, and is wait_closed()."},
    {"wait_closed", wait_closed, METH_NOARGS,
     "wait_closed($self, /)\n--\n\n"
     "Wait until the connection has ended and nothing of it is left.  Once the peer has closed,\n"
     "waiting for the end closes this side, too.  Never raises."},
    {"__aenter__", aenter, METH_NOARGS, NULL},
    {"__aexit__", aexit, METH_VARARGS, NULL},
    {"_wait_opened", wait_opened, METH_NOARGS, NULL},
    {"_finish_receiving", finish_receiving, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc,
"A connection whose messages are awaited: async for message in connection.\n\n"
"Comes from connect() and to the handler of serve().  To be used on the loop's thread only.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_repr, connection_repr},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, anext},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec aio_connection_spec = {
    .name = "npipes.aio.Connection",
    .basicsize = sizeof(aio_connection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
