/* Events of an endpoint on an event loop: what came goes to the connection's
 * queue, or to a plain on_message function, and whoever waits for it runs. */
#include "aio.h"

/* From a message of this size on a drive moves so many bytes that other threads
 * should have the GIL meanwhile. */
enum { LARGE_MESSAGE = 64 << 10 };

static void call(endpoint_object *s, handler_index i, PyObject *connection, PyObject **args,
                 size_t n) {
    handler h = endpoint_handles(s, i) ? endpoint_handler(s, i) : (handler){0};
    if (!h.callable)
        return;
    bool outer = s->aio->calling;
    s->aio->calling = true;
    PyObject *result = bridge_call(s, &h, args, n);
    s->aio->calling = outer;
    Py_DECREF(h.callable);
    if (!result)
        aio_report(s, handler_names[i], connection);
    Py_XDECREF(result);
}

/* ---- messages ---------------------------------------------------------- */

static void note_size(endpoint_object *s, const np_event *e) {
    if (e->u.message.size >= LARGE_MESSAGE)
        s->aio->large = true;
}

static bool takes_messages(const aio_connection *c) { return !c->closing && !c->ended; }

/* A function that raises, or that should have been awaited, ends its connection:
 * what has come behind that message is not for anybody. */
static void handler_failed(endpoint_object *s, aio_connection *c) {
    c->ended = true;
    aio_report(s, handler_names[ON_MESSAGE], (PyObject *)c);
    np_connection_close(c->base.connection);
}

/* Always NULL. */
static PyObject *refuse_coroutine(PyObject *coroutine) {
    Py_XDECREF(PyObject_CallMethod(coroutine, "close", NULL));
    Py_DECREF(coroutine);
    PyErr_SetString(PyExc_TypeError, "on_message returned a coroutine; a function that is to be "
                                     "awaited must be a coroutine function (async def)");
    return NULL;
}

static size_t to_queue(endpoint_object *s, aio_connection *c, np_event *e, size_t left);

static size_t to_function(endpoint_object *s, aio_connection *c, np_event *e, size_t left) {
    np_connection *connection = e->connection;
    handler h = endpoint_handler(s, ON_MESSAGE);
    PyObject *args[] = {(PyObject *)s, (PyObject *)c, NULL};
    PyObject **from = h.takes_self ? args : args + 1;
    size_t flags = h.takes_self ? 3 : 2 | PY_VECTORCALL_ARGUMENTS_OFFSET;
    PyObject *data = NULL;
    size_t n = 0;
    if (!h.callable)
        return to_queue(s, c, e, left);
    for (; n < left && bridge_is_message_of(&e[n], connection) && takes_messages(c); n++) {
        note_size(s, &e[n]);
        data = payload_message_into(data, &e[n]);
        args[2] = data;
        PyObject *r = data ? PyObject_Vectorcall(h.callable, from, flags, NULL) : NULL;
        if (r && r != Py_None && PyCoro_CheckExact(r))
            r = refuse_coroutine(r);
        if (!r)
            handler_failed(s, c);
        Py_XDECREF(r);
    }
    Py_XDECREF(data);
    while (n < left && bridge_is_message_of(&e[n], connection))    /* it is closed */
        n++;
    Py_DECREF(h.callable);
    return n;
}

static void message_lost(endpoint_object *s, aio_connection *c) {
    PyObject *error = take_exception();
    c->end = (np_error){.code = NP_E_MEMORY, .activity = NP_DOING_READ};
    bridge_keep_error(&c->base, error);
    put_exception(error);
    handler_failed(s, c);
}

static size_t to_queue(endpoint_object *s, aio_connection *c, np_event *e, size_t left) {
    np_connection *connection = e->connection;
    size_t n = 0;
    do {
        if (!takes_messages(c))
            continue;
        note_size(s, &e[n]);
        PyObject *data = payload_message(&e[n]);
        if (!data || aio_connection_push(c, data) < 0) {
            Py_XDECREF(data);
            message_lost(s, c);
        }
    } while (++n < left && bridge_is_message_of(&e[n], connection));
    if (c->readers.first)
        aio_connection_wake_readers(c);
    aio_connection_balance(c);
    return n;
}

/* ---- the others -------------------------------------------------------- */

static void on_connected(endpoint_object *s, np_event *e) {
    aio_connection *c = (aio_connection *)bridge_connected(s, e);
    if (!c) {
        aio_report(s, "a connection has no object", Py_None);
        return;
    }
    c->opened = true;
    PyObject *args[] = {NULL, (PyObject *)c};
    call(s, ON_CONNECTED, (PyObject *)c, args, 1);
    waiter_wake_watchers(c);
    Py_DECREF(c);
}

/* What a connection's own tasks learn by an exception is logged for nobody. */
static void on_error(endpoint_object *s, aio_connection *c, np_event *e) {
    PyObject *subject = c ? (PyObject *)c : Py_None;
    PyObject *error = bridge_error(s, c ? &c->base : NULL, e);
    if (!error) {
        if (PyErr_Occurred())
            aio_report(s, handler_names[ON_ERROR], subject);
        return;
    }
    bool own = c && e->u.error.activity != NP_DOING_BROADCAST;
    if (own && !c->end.code)
        c->end = e->u.error;
    PyObject *args[] = {NULL, subject, error};
    if (endpoint_handles(s, ON_ERROR))
        call(s, ON_ERROR, subject, args, 2);
    else if (!own)
        errors_log(error);
    Py_DECREF(error);
}

static void on_end(endpoint_object *s, aio_connection *c) {
    c->ended = true;
    /* Nobody else would end it: its handler waits for nothing but the end. */
    if (endpoint_handles(s, ON_MESSAGE) || waiter_wants_end(c))
        np_connection_close(c->base.connection);
    aio_connection_wake_readers(c);
}

static void on_closed(aio_connection *c) {
    c->closed = c->ended = true;
    aio_connection_wake_readers(c);
    aio_connection_wake_writers(c);
}

static void on_disconnected(endpoint_object *s, aio_connection *c) {
    PyObject *args[] = {NULL, (PyObject *)c};
    on_closed(c);
    call(s, ON_DISCONNECTED, (PyObject *)c, args, 1);
    bridge_disconnected(s, &c->base);
    waiter_wake_watchers(c);
}

/* The last of a connection that connect() made. */
static void on_ended(endpoint_object *s, aio_connection *c) {
    on_closed(c);
    bridge_ended(s, &c->base);
    bool outer = s->aio->calling;
    s->aio->calling = true;
    PyObject *r = PyObject_CallOneArg(s->aio->ended, (PyObject *)c);
    s->aio->calling = outer;
    if (!r)
        aio_report(s, "a connection's end could not be noted", (PyObject *)c);
    Py_XDECREF(r);
    waiter_wake_watchers(c);
}

static size_t of_connection(endpoint_object *s, aio_connection *c, np_event *e, size_t left) {
    switch (e->kind) {
    case NP_EVENT_MESSAGE:
        return endpoint_handles(s, ON_MESSAGE) ? to_function(s, c, e, left)
                                               : to_queue(s, c, e, left);
    case NP_EVENT_DRAINED: aio_connection_wake_writers(c); break;
    case NP_EVENT_END: on_end(s, c); break;
    case NP_EVENT_ERROR: on_error(s, c, e); break;
    case NP_EVENT_DISCONNECTED: on_disconnected(s, c); break;
    case NP_EVENT_ENDED: on_ended(s, c); break;
    default: break;
    }
    return 1;
}

size_t aio_deliver_one(endpoint_object *s, bridge_thread *t, np_event *e, size_t left) {
    size_t taken = 1;
    s->aio->thread = t;
    if (!e->connection) {
        if (e->kind == NP_EVENT_ERROR)
            on_error(s, NULL, e);
    } else if (e->kind == NP_EVENT_CONNECTED) {
        on_connected(s, e);
    } else {
        aio_connection *c = np_connection_user(e->connection);
        if (c) {        /* else its object could not be made; it is being closed */
            Py_INCREF(c);
            taken = of_connection(s, c, e, left);
            Py_DECREF(c);
        }
    }
    s->aio->thread = NULL;
    return taken;
}
