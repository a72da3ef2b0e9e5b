/* A Server or ClientManager from start to stop, and the threads that run its loop. */
#include "bridge.h"

#define STOP_SLICE_NS INT64_C(100000000)    /* how often a waiting stop() looks for signals */
#define LONGEST_S 1e9

/* ---- handlers ---------------------------------------------------------- */

int endpoint_resolve_handler(endpoint_object *self, handler_index i) {
    PyObject *found = PyObject_GetAttrString((PyObject *)self, handler_names[i]);
    if (!found)
        return -1;
    handler new = {0};
    if (found == Py_None) {
        Py_DECREF(found);
    } else if (PyMethod_Check(found) && PyMethod_GET_SELF(found) == (PyObject *)self) {
        /* Keeping the bound method would keep the object alive by itself. */
        new.callable = Py_NewRef(PyMethod_GET_FUNCTION(found));
        new.takes_self = true;
        Py_DECREF(found);
    } else {
        new.callable = found;
    }
    np_mutex_lock(&self->guard);
    handler old = self->resolved[i];
    self->resolved[i] = new;
    uint32_t bit = UINT32_C(1) << i, handled = np_load32(&self->handled);
    np_store32(&self->handled, new.callable ? handled | bit : handled & ~bit);
    np_add32(&self->changes, 1);
    if (self->endpoint)
        np_endpoint_want_sent(self->endpoint, endpoint_handles(self, ON_SENT));
    np_mutex_unlock(&self->guard);
    Py_XDECREF(old.callable);
    return 0;
}

static int resolve_all(endpoint_object *self) {
    for (int i = 0; i < HANDLER_COUNT; i++) {
        if (endpoint_resolve_handler(self, (handler_index)i) < 0)
            return -1;
        PyObject *callable = endpoint_handler(self, (handler_index)i).callable;
        bool right = !callable || handler_check((handler_index)i, callable) == 0;
        Py_XDECREF(callable);
        if (!right)
            return -1;
    }
    return 0;
}

/* ---- start ------------------------------------------------------------- */

static void enlist(endpoint_object *self) {
    np_mutex_lock(&self->state->lock);
    if (!self->listed) {
        self->next_running = self->state->running;
        self->state->running = self;
        self->listed = true;
    }
    np_mutex_unlock(&self->state->lock);
}

void endpoint_unlist(endpoint_object *self) {
    np_mutex_lock(&self->state->lock);
    endpoint_object **at = &self->state->running;
    while (self->listed && *at && *at != self)
        at = &(*at)->next_running;
    if (self->listed && *at)
        *at = self->next_running;
    self->listed = false;
    np_mutex_unlock(&self->state->lock);
}

/* The endpoint of this object is another one, or none; the reference is the object's. */
static void set_endpoint(endpoint_object *self, np_endpoint *ep) {
    np_mutex_lock(&self->guard);
    self->endpoint = ep;
    np_mutex_unlock(&self->guard);
}

/* Lets go of the run before this one.  -1: it has not ended yet. */
static int retire(endpoint_object *self) {
    np_endpoint *old = endpoint_current(self);
    if (!old)
        return 0;
    PyObject *stopped = NULL;
    if (np_endpoint_is_inside(old))
        PyErr_Format(PyExc_RuntimeError,
                     "the %s is stopping; it can start again when the "
                     "handler that runs now has returned",
                     self->kind->noun);
    else
        stopped = endpoint_stop((PyObject *)self, NULL);
    if (stopped) {
        set_endpoint(self, NULL);   /* nobody else starts one while this thread does */
        np_endpoint_release(old);
        Py_DECREF(stopped);
    }
    np_endpoint_release(old);
    return stopped ? 0 : -1;
}

/* A program may exit without destroying its subinterpreters, and whether Python then
 * waits for threads in them, waits for ever, or aborts, depends on its version. */
static int check_interpreter(const endpoint_object *self, const np_config *config) {
    if (config->driven || PyInterpreterState_Get() == PyInterpreterState_Main())
        return 0;
    PyErr_Format(PyExc_RuntimeError,
                 "a %s has threads, which npipes starts in the main interpreter only: "
                 "in a subinterpreter there are npipes.connect, Listener, Pipe%s",
                 self->kind->noun, np_endpoint_can_be_driven() ? " and npipes.aio" : "");
    return -1;
}

PyObject *endpoint_open(endpoint_object *self, const np_config *given, PyObject *name,
                        const char *encoded) {
    np_host host;
    np_error error;
    np_endpoint *ep;
    PyObject *shown = name ? name : Py_None;
    if (check_interpreter(self, given) < 0)
        return NULL;
    Py_XSETREF(self->key, guarded_get(&self->guard, &self->authkey));
    if (self->key && given->byte_mode) {
        PyErr_SetString(PyExc_ValueError, "authkey needs mode='message': a byte stream has no "
                                          "messages for the handshake");
        return NULL;
    }
    bridge_host(self->bridge, &host);
    np_config config = *given;
    config.want_sent = endpoint_handles(self, ON_SENT);
    np_code code = np_endpoint_new(&config, &host, &ep, &error);
    if (code != NP_OK) {
        error.code = code;
        return errors_raise_start(&error, shown, encoded ? encoded : "");
    }
    bridge_retain(self->bridge);    /* the endpoint's */
    /* Workers may deliver before it has started. */
    set_endpoint(self, ep);
    if (encoded) {
        Py_BEGIN_ALLOW_THREADS code = np_endpoint_listen(ep, encoded, &error);
        Py_END_ALLOW_THREADS
    } else {
        /* Soon done, and threads that connect first at a time start it once. */
        code = np_endpoint_open(ep, &error);
    }
    if (code == NP_OK) {
        enlist(self);
        Py_RETURN_NONE;
    }
    error.code = code;
    errors_raise_start(&error, shown, np_endpoint_address(ep));
    set_endpoint(self, NULL);
    np_endpoint_release(ep);
    return NULL;
}

PyObject *endpoint_start(PyObject *op, PyObject *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    np_endpoint *ep = endpoint_current(self);
    bool running = ep && np_endpoint_is_running(ep);
    if (ep)
        np_endpoint_release(ep);
    if (running)
        Py_RETURN_NONE;
    if (np_swap32(&self->starting, 1)) {
        PyErr_Format(PyExc_RuntimeError, "another thread is starting this %s", self->kind->noun);
        return NULL;
    }
    PyObject *result = NULL;
    if (retire(self) == 0 && resolve_all(self) == 0)
        result = self->kind->open(self);
    np_store32(&self->starting, 0);
    return result;
}

/* ---- stop -------------------------------------------------------------- */

/* Waits for the end of a run at most timeout_ns, delivering events where they
 * need this thread.  1: ended, or inside a handler of it; 0: not yet. */
static int stop_some(np_endpoint *ep, int64_t timeout_ns, PyObject **pending) {
    bridge_thread t;
    if (np_endpoint_is_inside(ep))
        return 1;
    bridge_guest_begin(&t);
    bool done = np_endpoint_stop_wait(ep, &t, timeout_ns);
    bridge_guest_end(&t);
    if (t.pending && *pending)
        Py_DECREF(t.pending);
    else if (t.pending)
        *pending = t.pending;
    return done;
}

static void stop_begin(np_endpoint *ep) {
    Py_BEGIN_ALLOW_THREADS np_endpoint_stop_begin(ep);
    Py_END_ALLOW_THREADS
}

/* No other thread has started a new one meanwhile. */
static bool is_still(endpoint_object *self, const np_endpoint *ep) {
    np_mutex_lock(&self->guard);
    bool still = self->endpoint == ep;
    np_mutex_unlock(&self->guard);
    return still;
}

PyObject *endpoint_stop(PyObject *op, PyObject *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    np_endpoint *ep = endpoint_current(self);
    if (!ep)
        Py_RETURN_NONE;
    PyObject *pending = NULL;
    bridge_revive_object(self->bridge);     /* it may be a __del__ that calls */
    np_add32(&self->stopping, 1);
    stop_begin(ep);
    int done = 0;
    while (!done && !PyErr_Occurred()) {
        done = stop_some(ep, STOP_SLICE_NS, &pending);
        if (!done)
            PyErr_CheckSignals();
    }
    np_add32(&self->stopping, (uint32_t)-1);
    if (done && !np_endpoint_is_inside(ep) && is_still(self, ep))
        endpoint_unlist(self);
    np_endpoint_release(ep);
    if (pending && !PyErr_Occurred())
        put_exception(pending);
    else
        Py_XDECREF(pending);
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

void endpoint_stop_quietly(endpoint_object *self, int64_t timeout_ns) {
    np_endpoint *ep = endpoint_current(self);
    if (!ep)
        return;
    PyObject *pending = NULL;
    stop_begin(ep);
    stop_some(ep, timeout_ns, &pending);
    np_endpoint_release(ep);
    if (pending) {
        put_exception(pending);
        PyErr_WriteUnraisable((PyObject *)self);
    }
}

/* ---- the message loop -------------------------------------------------- */

int endpoint_timeout(PyObject *value, int64_t *out) {
    *out = -1;
    if (value == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError, "timeout must be None or at least 0 seconds, not %R", value);
        return -1;
    }
    if (seconds < LONGEST_S)
        *out = (int64_t)(seconds * 1e9);
    return 0;
}

static np_endpoint *running_endpoint(endpoint_object *self, const char *method) {
    np_endpoint *ep = endpoint_current(self);
    if (ep && !np_endpoint_is_forked(ep) && !np_endpoint_has_stopped(ep))
        return ep;
    if (ep && np_endpoint_is_forked(ep))
        PyErr_Format(PyExc_RuntimeError,
                     "%s(): the %s belongs to the parent process, and "
                     "can't be used in a child of fork",
                     method, self->kind->noun);
    else
        PyErr_Format(PyExc_RuntimeError, "%s(): the %s is not running; start() it first", method,
                     self->kind->noun);
    if (ep)
        np_endpoint_release(ep);
    return NULL;
}

/* From here on this thread is a guest, which Ctrl-C wakes.  One that came
 * before is seen now. */
static int begin_guest(bridge_thread *t, interrupt_watch *watch, np_endpoint *ep, bool waits) {
    *watch = (interrupt_watch){0};
    if (waits)
        interrupt_watch_begin(watch, ep);
    if (PyErr_CheckSignals() < 0) {
        interrupt_watch_end(watch);
        np_endpoint_release(ep);
        return -1;
    }
    bridge_guest_begin(t);
    return 0;
}

/* Raises what a handler or a signal has left. */
static int end_guest(bridge_thread *t, interrupt_watch *watch, np_endpoint *ep) {
    bridge_guest_end(t);
    interrupt_watch_end(watch);
    np_endpoint_release(ep);
    if (!t->pending)
        return 0;
    put_exception(t->pending);
    return -1;
}

static PyObject *busy(const char *method) {
    return PyErr_Format(PyExc_RuntimeError, "%s(): a thread is inside run() or dispatch() already",
                        method);
}

PyObject *endpoint_run(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = Py_None;
    int64_t ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:run", names, &timeout)
        || endpoint_timeout(timeout, &ns) < 0)
        return NULL;
    np_endpoint *ep = running_endpoint((endpoint_object *)op, "run");
    if (!ep)
        return NULL;
    bridge_thread t;
    interrupt_watch watch;
    if (begin_guest(&t, &watch, ep, ns != 0) < 0)
        return NULL;
    np_run_result r = np_endpoint_run(ep, &t, ns);
    if (end_guest(&t, &watch, ep) < 0)
        return NULL;
    if (r == NP_RUN_BUSY)
        return busy("run");
    Py_RETURN_NONE;
}

PyObject *endpoint_dispatch(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    int64_t ns = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:dispatch", names, &timeout)
        || (timeout && endpoint_timeout(timeout, &ns) < 0))
        return NULL;
    endpoint_object *self = (endpoint_object *)op;
    np_endpoint *ep = running_endpoint(self, "dispatch");
    if (!ep)
        return NULL;
    bridge_thread t;
    interrupt_watch watch;
    if (begin_guest(&t, &watch, ep, ns != 0) < 0)
        return NULL;
    int64_t n = np_endpoint_dispatch(ep, &t, ns);
    if (end_guest(&t, &watch, ep) < 0)
        return NULL;
    return n < 0 ? busy("dispatch") : PyLong_FromLongLong(n);
}

PyObject *endpoint_quit(PyObject *op, PyObject *unused) {
    (void)unused;
    np_endpoint *ep = endpoint_current((endpoint_object *)op);
    if (ep) {
        np_endpoint_quit(ep);
        np_endpoint_release(ep);
    }
    Py_RETURN_NONE;
}

PyObject *endpoint_fileno(PyObject *op, PyObject *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    if (!host_has_descriptors) {
        PyErr_SetString(PyExc_NotImplementedError,
                        "this system has no descriptor for it; use wait_handle");
        return NULL;
    }
    np_endpoint *ep = running_endpoint(self, "fileno");
    if (!ep)
        return NULL;
    intptr_t waitable = np_endpoint_waitable(ep);
    np_endpoint_release(ep);
    if (waitable < 0) {
        PyErr_SetString(PyExc_RuntimeError, "fileno(): with free_threading_events=True nothing "
                                            "waits for dispatch()");
        return NULL;
    }
    return PyLong_FromSsize_t(waitable);
}
