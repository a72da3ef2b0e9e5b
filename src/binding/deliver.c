/* Events of an endpoint without a loop: each goes to the handler for it.  On an event
 * loop aio_deliver.c is in its place, and uses some of this. */
#include "aio.h"

/* ---- errors of handlers ------------------------------------------------ */

/* A handler that raises harms nothing else.  What is meant to end the program
 * ends the guest's call, as it would end any other call of the main thread. */
bool bridge_keeps_exception(bridge_thread *t) {
    if (!t->guest || t->pending
        || !(PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)
             || PyErr_ExceptionMatches(PyExc_SystemExit)))
        return false;
    t->pending = take_exception();
    return true;
}

void bridge_handler_failed(bridge_thread *t, PyObject *callable) {
    if (!bridge_keeps_exception(t))
        PyErr_WriteUnraisable(callable);
}

static inline void finish_call(bridge_thread *t, PyObject *callable, PyObject *result) {
    if (result)
        Py_DECREF(result);
    else
        bridge_handler_failed(t, callable);
}

PyObject *bridge_call(endpoint_object *s, const handler *h, PyObject **args, size_t n) {
    /* args[0] is free for the object itself; args[1] on are the event's. */
    args[0] = (PyObject *)s;
    PyObject **from = h->takes_self ? args : args + 1;
    size_t count = n + (h->takes_self ? 1 : 0);
    size_t flags = count | (h->takes_self ? 0 : PY_VECTORCALL_ARGUMENTS_OFFSET);
    return PyObject_Vectorcall(h->callable, from, flags, NULL);
}

static void call(endpoint_object *s, bridge_thread *t, handler_index i, PyObject **args, size_t n) {
    handler h = endpoint_handles(s, i) ? endpoint_handler(s, i) : (handler){0};
    if (h.callable)
        finish_call(t, h.callable, bridge_call(s, &h, args, n));
    Py_XDECREF(h.callable);     /* it may have replaced itself */
}

/* ---- events ------------------------------------------------------------ */

/* A client's object has been there since connect(), and may have been connected
 * before. */
static connection_object *object_of(endpoint_object *s, np_event *e) {
    connection_object *c = np_connection_user(e->connection);
    if (!c) {
        c = s->aio ? aio_connection_new(s->state, s->bridge, s->aio->loop)
                   : connection_new(s->state, s->state->server_connection_type, s->bridge);
        if (c)
            connection_take(c, e->connection);
        return c;
    }
    np_mutex_lock(&c->guard);
    PyObject *error = c->error, *peer = c->peer;
    c->lives++;
    c->error = c->peer = NULL;
    np_mutex_unlock(&c->guard);
    c->lost = false;
    Py_XDECREF(error);
    Py_XDECREF(peer);
    return (connection_object *)Py_NewRef((PyObject *)c);
}

connection_object *bridge_connected(endpoint_object *s, np_event *e) {
    connection_object *c = object_of(s, e);
    if (!c || PySet_Add(s->live, (PyObject *)c) < 0) {
        Py_XDECREF(c);
        np_connection_close(e->connection);
        return NULL;
    }
    np_connection_set_user(e->connection, c);
    return c;
}

static void on_connected(endpoint_object *s, bridge_thread *t, np_event *e) {
    connection_object *c = bridge_connected(s, e);
    if (!c) {
        PyErr_WriteUnraisable((PyObject *)s);
        return;
    }
    PyObject *args[] = {NULL, (PyObject *)c};
    call(s, t, ON_CONNECTED, args, 1);
    Py_DECREF(c);
}

void bridge_keep_error(connection_object *c, PyObject *error) {
    np_mutex_lock(&c->guard);
    if (!c->error)
        c->error = Py_NewRef(error);
    np_mutex_unlock(&c->guard);
}

PyObject *bridge_error(endpoint_object *s, connection_object *c, np_event *e) {
    /* An orderly end of a read that carried a cookie: no failure to report. */
    if (e->u.error.code == NP_E_EOF
        || (e->u.error.code == NP_E_CANCELED && e->u.error.activity == NP_DOING_READ))
        return NULL;
    np_endpoint *ep = c ? NULL : endpoint_current(s);
    const char *address = c    ? np_connection_address(c->connection)
                          : ep ? np_endpoint_address(ep)
                               : "";
    PyObject *error = errors_make(s->state, &e->u.error, address, e->cookie);
    if (ep)
        np_endpoint_release(ep);
    bool own = c && !e->cookie && e->u.error.activity != NP_DOING_BROADCAST;
    if (error && own)
        bridge_keep_error(c, error);
    return error;
}

/* Takes the error over. */
static void report(endpoint_object *s, bridge_thread *t, connection_object *c, PyObject *error) {
    if (endpoint_handles(s, ON_ERROR)) {
        PyObject *args[] = {NULL, c ? (PyObject *)c : Py_None, error};
        call(s, t, ON_ERROR, args, 2);
    } else {
        errors_log(error);
    }
    Py_DECREF(error);
}

static void on_error(endpoint_object *s, bridge_thread *t, connection_object *c, np_event *e) {
    PyObject *error = bridge_error(s, c, e);
    if (error)
        report(s, t, c, error);
    else if (PyErr_Occurred())
        PyErr_WriteUnraisable((PyObject *)s);
}

void bridge_disconnected(endpoint_object *s, connection_object *c) {
    if (!c->dialed)     /* a client's may be connected again */
        np_connection_set_user(c->connection, NULL);
    if (PySet_Discard(s->live, (PyObject *)c) < 0)
        PyErr_WriteUnraisable((PyObject *)c);
}

static void on_disconnected(endpoint_object *s, bridge_thread *t, connection_object *c) {
    PyObject *args[] = {NULL, (PyObject *)c};
    call(s, t, ON_DISCONNECTED, args, 1);
    bridge_disconnected(s, c);
}

/* Nothing here keeps the object of a client's connection any more. */
void bridge_ended(endpoint_object *s, connection_object *c) {
    np_connection_set_user(c->connection, NULL);
    if (PySet_Discard(s->dialed, (PyObject *)c) < 0)
        PyErr_WriteUnraisable((PyObject *)c);
}

/* ---- messages ---------------------------------------------------------- */

/* What came behind a message that was lost would look as if nothing were missing. */
static void message_lost(endpoint_object *s, bridge_thread *t, connection_object *c) {
    PyObject *error = take_exception();
    c->lost = true;
    bridge_keep_error(c, error);
    np_connection_close(c->connection);
    report(s, t, c, error);
}

/* Of one connection, in a row from e on. */
static size_t count_messages(const np_event *e, size_t left) {
    size_t n = 1;
    while (n < left && bridge_is_message_of(&e[n], e->connection))
        n++;
    return n;
}

/* Of n messages that were delivered, or are nobody's. */
static size_t clear_cookies(np_event *e, size_t n) {
    for (size_t i = 0; i < n; i++)
        Py_CLEAR(e[i].cookie);
    return n;
}

/* Messages of one connection, e and those that follow it; how many. */
static size_t on_message(endpoint_object *s, bridge_thread *t, connection_object *c, np_event *e,
                         size_t left) {
    np_connection *connection = e->connection;
    uint32_t changes = np_load32(&s->changes);
    handler h = endpoint_handler(s, ON_MESSAGE);
    vectorcallfunc vectorcall = h.callable ? PyVectorcall_Function(h.callable) : NULL;
    PyObject *args[] = {(PyObject *)s, (PyObject *)c, NULL, NULL};
    PyObject **from = h.takes_self ? args : args + 1;
    size_t flags = h.takes_self ? 4 : 3 | PY_VECTORCALL_ARGUMENTS_OFFSET;
    PyObject *data = NULL;
    size_t n = 0;
    do {
        data = payload_message_into(data, &e[n]);
        args[2] = data;
        args[3] = e[n].cookie ? e[n].cookie : Py_None;
        if (!data)
            message_lost(s, t, c);
        else if (vectorcall)
            finish_call(t, h.callable, vectorcall(h.callable, from, flags, NULL));
        else if (h.callable)
            finish_call(t, h.callable, PyObject_Vectorcall(h.callable, from, flags, NULL));
        Py_CLEAR(e[n].cookie);
        /* A handler may be replaced by itself. */
    } while (++n < left && bridge_is_message_of(&e[n], connection)
             && np_load32(&s->changes) == changes && !c->lost);
    Py_XDECREF(data);
    Py_XDECREF(h.callable);
    return n;
}

/* The same as one list. */
static size_t on_messages(endpoint_object *s, bridge_thread *t, connection_object *c, np_event *e,
                          size_t left) {
    size_t n = count_messages(e, left);
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *data = payload_message(&e[i]);
        if (!data)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, data);
    }
    if (list) {
        PyObject *args[] = {NULL, (PyObject *)c, list};
        call(s, t, ON_MESSAGES, args, 2);
        Py_DECREF(list);
    } else {
        message_lost(s, t, c);
    }
    return clear_cookies(e, n);
}

static size_t messages(endpoint_object *s, bridge_thread *t, connection_object *c, np_event *e,
                       size_t left) {
    if (c->lost)
        return clear_cookies(e, count_messages(e, left));
    return endpoint_handles(s, ON_MESSAGES) ? on_messages(s, t, c, e, left)
                                            : on_message(s, t, c, e, left);
}

size_t bridge_deliver_one(endpoint_object *s, bridge_thread *t, np_event *e, size_t left) {
    size_t taken = 1;
    if (!e->connection) {
        PyObject *args[] = {NULL};
        if (e->kind == NP_EVENT_READY)
            call(s, t, ON_READY, args, 0);
        else if (e->kind == NP_EVENT_ERROR)
            on_error(s, t, NULL, e);
    } else if (e->kind == NP_EVENT_CONNECTED) {
        on_connected(s, t, e);
    } else {
        PyObject *c = np_connection_user(e->connection);
        PyObject *args[] = {NULL, c, e->cookie ? e->cookie : Py_None};
        Py_XINCREF(c);
        if (!c)
            ;   /* its object could not be made; it is being closed */
        else if (e->kind == NP_EVENT_MESSAGE)
            taken = messages(s, t, (connection_object *)c, e, left);
        else if (e->kind == NP_EVENT_SENT)
            call(s, t, ON_SENT, args, 2);
        else if (e->kind == NP_EVENT_DRAINED)
            call(s, t, ON_DRAINED, args, 1);
        else if (e->kind == NP_EVENT_ERROR)
            on_error(s, t, (connection_object *)c, e);
        else if (e->kind == NP_EVENT_ENDED)
            bridge_ended(s, (connection_object *)c);
        else
            on_disconnected(s, t, (connection_object *)c);
        Py_XDECREF(c);
    }
    Py_CLEAR(e->cookie);
    return taken;
}
