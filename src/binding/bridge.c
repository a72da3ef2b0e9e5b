#include "aio.h"
#include "secrets.h"

#include <stdlib.h>

/* From here on getting the GIL counts as long: somebody computes, and what
 * arrived meanwhile is better delivered together. */
#define CONTENDED_NS 200000

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

static void handler_failed(bridge_thread *t, PyObject *callable) {
    if (!bridge_keeps_exception(t))
        PyErr_WriteUnraisable(callable);
}

static inline void finish_call(bridge_thread *t, PyObject *callable, PyObject *result) {
    if (result)
        Py_DECREF(result);
    else
        handler_failed(t, callable);
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

static bool is_message_of(const np_event *e, const np_connection *connection) {
    return e->kind == NP_EVENT_MESSAGE && e->connection == connection;
}

/* Messages of one connection, e and those that follow it; how many. */
static size_t on_message(endpoint_object *s, bridge_thread *t, PyObject *c, np_event *e,
                         size_t left) {
    np_connection *connection = e->connection;
    uint32_t changes = np_load32(&s->changes);
    handler h = endpoint_handler(s, ON_MESSAGE);
    vectorcallfunc vectorcall = h.callable ? PyVectorcall_Function(h.callable) : NULL;
    PyObject *args[] = {(PyObject *)s, c, NULL, NULL};
    PyObject **from = h.takes_self ? args : args + 1;
    size_t flags = h.takes_self ? 4 : 3 | PY_VECTORCALL_ARGUMENTS_OFFSET;
    PyObject *data = NULL;
    size_t n = 0;
    do {
        data = payload_message_into(data, &e[n]);
        args[2] = data;
        args[3] = e[n].cookie ? e[n].cookie : Py_None;
        if (!data)
            PyErr_WriteUnraisable(c);
        else if (vectorcall)
            finish_call(t, h.callable, vectorcall(h.callable, from, flags, NULL));
        else if (h.callable)
            finish_call(t, h.callable, PyObject_Vectorcall(h.callable, from, flags, NULL));
        Py_CLEAR(e[n].cookie);
        /* A handler may be replaced by itself. */
    } while (++n < left && is_message_of(&e[n], connection) && np_load32(&s->changes) == changes);
    Py_XDECREF(data);
    Py_XDECREF(h.callable);
    return n;
}

/* The same as one list. */
static size_t on_messages(endpoint_object *s, bridge_thread *t, PyObject *c, np_event *e,
                          size_t left) {
    size_t n = 1;
    while (n < left && is_message_of(&e[n], e->connection))
        n++;
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *data = payload_message(&e[i]);
        if (!data)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, data);
    }
    if (list) {
        PyObject *args[] = {NULL, c, list};
        call(s, t, ON_MESSAGES, args, 2);
        Py_DECREF(list);
    } else {
        PyErr_WriteUnraisable(c);
    }
    for (size_t i = 0; i < n; i++)
        Py_CLEAR(e[i].cookie);
    return n;
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
    if (error && own) {
        np_mutex_lock(&c->guard);
        if (!c->error)
            c->error = Py_NewRef(error);
        np_mutex_unlock(&c->guard);
    }
    return error;
}

static void on_error(endpoint_object *s, bridge_thread *t, connection_object *c, np_event *e) {
    PyObject *error = bridge_error(s, c, e);
    if (!error) {
        if (PyErr_Occurred())
            PyErr_WriteUnraisable((PyObject *)s);
        return;
    }
    if (endpoint_handles(s, ON_ERROR)) {
        PyObject *args[] = {NULL, c ? (PyObject *)c : Py_None, error};
        call(s, t, ON_ERROR, args, 2);
    } else {
        errors_log(error);
    }
    Py_DECREF(error);
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

/* One event, or several that are delivered together; how many. */
static size_t deliver_one(endpoint_object *s, bridge_thread *t, np_event *e, size_t left) {
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
        else if (e->kind == NP_EVENT_MESSAGE && endpoint_handles(s, ON_MESSAGES))
            taken = on_messages(s, t, c, e, left);
        else if (e->kind == NP_EVENT_MESSAGE)
            taken = on_message(s, t, c, e, left);
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

/* How often, and for how long each time, events wait for a finalizer. */
enum { REVIVAL_ATTEMPTS = 1000, REVIVAL_NS = 1000000 };

/* Waits for an object whose finalizer has yet to say that it waits for events. */
static endpoint_object *object_for_events(bridge *b) {
    endpoint_object *s = bridge_object(b);
    bool gone = false;
    for (unsigned i = 0; !s && !gone && i < REVIVAL_ATTEMPTS; i++) {
        PyThreadState *state = PyEval_SaveThread();
        np_mutex_lock(&b->guard);
        gone = !b->object;
        if (!gone)
            np_cond_wait_for(&b->revived, &b->guard, REVIVAL_NS);
        np_mutex_unlock(&b->guard);
        PyEval_RestoreThread(state);
        s = bridge_object(b);
    }
    return s;
}

static bool deliver(void *user, void *thread, np_event *events, size_t count) {
    bridge *b = user;
    bridge_thread *t = thread;
    endpoint_object *s = object_for_events(b);
    for (size_t i = 0; i < count;) {
        if (s) {
            i += s->aio ? aio_deliver_one(s, t, &events[i], count - i)
                        : deliver_one(s, t, &events[i], count - i);
        } else {
            Py_CLEAR(events[i].cookie);
            i++;
        }
    }
    Py_XDECREF(s);
    /* A loop that is never idle must see Ctrl-C as well. */
    if (t->guest && !t->holds && !t->pending && PyErr_CheckSignals() < 0)
        t->pending = take_exception();
    return !t->pending;
}

/* ---- threads and the GIL ----------------------------------------------- */

static void *thread_begin(void *user) {
    (void)user;
    return calloc(1, sizeof(bridge_thread));
}

void bridge_keep_object(bridge *b) { np_swap_ptr(&b->kept, Py_NewRef((PyObject *)b->object)); }

/* The last worker to end finds that all has ended, and lets go of an object
 * that was kept for it. */
static void release_kept(bridge *b) {
    endpoint_object *object = np_load_ptr(&b->kept);
    if (!object || !np_endpoint_has_stopped(object->endpoint))
        return;
    np_swap_ptr(&b->kept, NULL);
    Py_DECREF(object);
}

/* The worker's thread state is made once and kept: making one for every batch
 * would cost more than the batch. */
static bool enter(void *user, void *thread) {
    bridge *b = user;
    bridge_thread *t = thread;
    if (t->holds)
        return false;
    if (!t->state)
        t->state = PyThreadState_New(b->interpreter);
    int64_t begin = np_clock();
    PyEval_RestoreThread(t->state);
    return np_clock() - begin > CONTENDED_NS;
}

static void leave(void *user, void *thread) {
    bridge *b = user;
    bridge_thread *t = thread;
    PyObject *raised = np_load_ptr(&b->raised) ? np_swap_ptr(&b->raised, NULL) : NULL;
    if (raised) {
        PyObject *object = (PyObject *)bridge_object(b);
        put_exception(raised);
        handler_failed(t, object);
        Py_XDECREF(object);
    }
    if (!t->holds)
        t->state = PyEval_SaveThread();
}

static void thread_end(void *user, void *thread) {
    bridge *b = user;
    bridge_thread *t = thread;
    if (t && (t->state || np_load_ptr(&b->kept))) {
        enter(b, t);
        release_kept(b);
        PyThreadState_Clear(t->state);
        PyThreadState_DeleteCurrent();
    }
    free(t);
}

static bool interrupted(void *user, void *thread) {
    bridge_thread *t = thread;
    (void)user;
    PyEval_RestoreThread(t->state);
    if (PyErr_CheckSignals() < 0 && !t->pending)
        t->pending = take_exception();
    t->state = PyEval_SaveThread();
    return !t->pending;
}

int bridge_post_packets(bridge *b, intptr_t port, intptr_t address) {
    if (!b->packet_lock && !(b->packet_lock = PyThread_allocate_lock())) {
        PyErr_NoMemory();
        return -1;
    }
    PyThread_acquire_lock(b->packet_lock, WAIT_LOCK);
    b->packet_port = port;
    b->packet_address = address;
    PyThread_release_lock(b->packet_lock);
    return 0;
}

static bool post_packet(bridge *b) {
    if (!b->packet_lock)
        return false;
    PyThread_acquire_lock(b->packet_lock, WAIT_LOCK);
    bool posted = b->packet_port && host_post(b->packet_port, b->packet_address);
    PyThread_release_lock(b->packet_lock);
    return posted;
}

/* A worker has queued what the loop's thread is to deliver. */
static void waiting(void *user, void *thread) {
    bridge *b = user;
    if (post_packet(b))
        return;
    enter(b, thread);
    endpoint_object *s = bridge_object(b);
    if (s && s->aio)
        aio_wake(s);
    Py_XDECREF(s);
    leave(b, thread);
}

void bridge_guest_begin(bridge_thread *t) {
    *t = (bridge_thread){.guest = true, .state = PyEval_SaveThread()};
}

void bridge_guest_end(bridge_thread *t) { PyEval_RestoreThread(t->state); }

/* ---- handshakes -------------------------------------------------------- */

/* Gives the object back.  What a step raises is for leave, which knows the thread; false: it
 * did raise. */
static bool step_ended(bridge *b, endpoint_object *s) {
    PyObject *raised = PyErr_Occurred() ? take_exception() : NULL;
    if (raised && !np_cas_ptr(&b->raised, NULL, raised)) {
        put_exception(raised);
        PyErr_WriteUnraisable((PyObject *)s);
    }
    Py_XDECREF(s);
    return !raised;
}

static bool step_random(void *user, uint8_t *out, size_t size) {
    bridge *b = user;
    endpoint_object *s = bridge_object(b);
    bool done = s && secrets_random(s->state, out, size);
    return step_ended(b, s) && done;
}

/* Without its object a run has no key, and is about to end. */
static int step_mac(void *user, const char *digest, const uint8_t *message, size_t size,
                    uint8_t out[NP_MAC_MAX]) {
    bridge *b = user;
    endpoint_object *s = bridge_object(b);
    int length = s && s->key ? secrets_mac(s->state, s->key, digest, message, size, out) : -1;
    return step_ended(b, s) ? length : -1;
}

static bool step_equal(void *user, const uint8_t *a, const uint8_t *c, size_t size) {
    bridge *b = user;
    endpoint_object *s = bridge_object(b);
    bool equal = s && secrets_equal(s->state, a, c, size);
    return step_ended(b, s) && equal;
}

/* ---- life -------------------------------------------------------------- */

static np_buffer *buffer_new(void *user, size_t size) {
    endpoint_object *s = bridge_object(user);
    if (s && !np_load32(&s->state->expects_large) && !np_swap32(&s->state->expects_large, 1))
        host_expect_large_messages();
    Py_XDECREF(s);
    return payload_new(size);
}

static void discard(void *user, np_buffer *buffer) {
    (void)user;
    payload_discard(buffer);
}

void bridge_retain(bridge *b) { np_add32(&b->refs, 1); }

static void released(void *user) {
    bridge *b = user;
    if (np_add32(&b->refs, (uint32_t)-1) != 1)
        return;
    if (b->packet_lock)
        PyThread_free_lock(b->packet_lock);
    free(b);
}

endpoint_object *bridge_object(bridge *b) {
    np_mutex_lock(&b->guard);
    endpoint_object *s = b->object;
    if (s && !try_reference((PyObject *)s))
        s = NULL;
    np_mutex_unlock(&b->guard);
    return s;
}

void bridge_revive_object(bridge *b) {
    allow_try_reference((PyObject *)b->object);
    np_cond_broadcast(&b->revived);
}

void bridge_leave(bridge *b) {
    np_mutex_lock(&b->guard);
    b->object = NULL;
    np_mutex_unlock(&b->guard);
    np_cond_broadcast(&b->revived);
    released(b);
}

bridge *bridge_new(endpoint_object *object) {
    bridge *b = calloc(1, sizeof *b);
    if (!b) {
        PyErr_NoMemory();
        return NULL;
    }
    np_store32(&b->refs, 1);
    np_mutex_init(&b->guard);
    np_cond_init(&b->revived);
    b->interpreter = PyInterpreterState_Get();
    b->object = object;
    allow_try_reference((PyObject *)object);
    return b;
}

void bridge_host(bridge *b, np_host *host) {
    *host = (np_host){
        .user = b,
        .thread_begin = thread_begin,
        .thread_end = thread_end,
        .enter = enter,
        .leave = leave,
        .deliver = deliver,
        .buffer_new = buffer_new,
        .discard = discard,
        .interrupted = interrupted,
        .waiting = b->object->aio ? waiting : NULL,
        .released = released,
    };
    if (b->object->key)
        host->secrets = (np_secrets){b, step_random, step_mac, step_equal};
}
