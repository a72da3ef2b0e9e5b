/* The host side of an endpoint: threads, the GIL, and who is there for its events. */
#include "aio.h"
#include "secrets.h"

#include <stdlib.h>

/* From here on getting the GIL counts as long: somebody computes, and what
 * arrived meanwhile is better delivered together. */
#define CONTENDED_NS 200000

/* ---- events ------------------------------------------------------------ */

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
                        : bridge_deliver_one(s, t, &events[i], count - i);
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
        bridge_handler_failed(t, object);
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
