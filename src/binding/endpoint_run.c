/* A Server or ClientManager from start to stop, and the threads that run its loop. */
#include "bridge.h"

#define STOP_SLICE_NS INT64_C(100000000)    /* how often a waiting stop() looks for signals */
#define LONGEST_S 1e9

/* ---- handlers ---------------------------------------------------------- */

int endpoint_resolve_handler(endpoint_object *self, handler_index i) {
    PyObject *found = PyObject_GetAttrString((PyObject *)self, handler_names[i]);
    if (!found)
        return -1;
    handler old = self->resolved[i];
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
    self->resolved[i] = new;
    Py_XDECREF(old.callable);
    if (self->endpoint)
        np_endpoint_want_sent(self->endpoint, self->resolved[ON_SENT].callable != NULL);
    return 0;
}

static int resolve_all(endpoint_object *self) {
    for (int i = 0; i < HANDLER_COUNT; i++) {
        if (endpoint_resolve_handler(self, (handler_index)i) < 0)
            return -1;
        PyObject *callable = self->resolved[i].callable;
        if (callable && handler_check((handler_index)i, callable) < 0)
            return -1;
    }
    return 0;
}

/* ---- start ------------------------------------------------------------- */

static void enlist(endpoint_object *self) {
    if (self->listed)
        return;
    self->next_running = self->state->running;
    self->state->running = self;
    self->listed = true;
}

void endpoint_unlist(endpoint_object *self) {
    endpoint_object **at = &self->state->running;
    while (*at && *at != self)
        at = &(*at)->next_running;
    if (*at)
        *at = self->next_running;
    self->listed = false;
}

/* Lets go of the run before this one.  -1: it has not ended yet. */
static int retire(endpoint_object *self) {
    np_endpoint *old = self->endpoint;
    if (!old)
        return 0;
    if (np_endpoint_is_inside(old)) {
        PyErr_Format(PyExc_RuntimeError, "the %s is stopping; it can start again when the "
                     "handler that runs now has returned", self->kind->noun);
        return -1;
    }
    PyObject *stopped = endpoint_stop((PyObject *)self, NULL);
    Py_XDECREF(stopped);
    if (!stopped)
        return -1;
    /* Another thread may have started it while this one waited. */
    if (self->endpoint == old) {
        self->endpoint = NULL;
        np_endpoint_release(old);
    }
    return 0;
}

/* A program may exit without destroying its subinterpreters, and whether Python then
 * waits for threads in them, waits for ever, or aborts, depends on its version. */
static int check_interpreter(const endpoint_object *self, const np_config *config) {
    if (config->driven || PyInterpreterState_Get() == PyInterpreterState_Main())
        return 0;
    PyErr_Format(PyExc_RuntimeError, "a %s has threads, which npipes starts in the main interpreter only: "
                 "in a subinterpreter there are npipes.connect, Listener, Pipe%s", self->kind->noun,
                 np_endpoint_can_be_driven() ? " and npipes.aio" : "");
    return -1;
}

PyObject *endpoint_open(endpoint_object *self, const np_config *given, const char *name) {
    np_host host;
    np_error error;
    np_endpoint *ep;
    PyObject *shown = self->name ? self->name : Py_None;
    if (check_interpreter(self, given) < 0)
        return NULL;
    if (self->authkey && given->byte_mode) {
        PyErr_SetString(PyExc_ValueError, "authkey needs mode='message': a byte stream has no "
                        "messages for the handshake");
        return NULL;
    }
    Py_XSETREF(self->key, Py_XNewRef(self->authkey));
    bridge_host(self->bridge, &host);
    np_config config = *given;
    config.want_sent = self->resolved[ON_SENT].callable != NULL;
    np_code code = np_endpoint_new(&config, &host, &ep, &error);
    if (code != NP_OK) {
        error.code = code;
        return errors_raise_start(&error, shown, name ? name : "");
    }
    bridge_retain(self->bridge);    /* the endpoint's */
    /* Workers may deliver before it has started. */
    self->endpoint = ep;
    if (name) {
        Py_BEGIN_ALLOW_THREADS
        code = np_endpoint_listen(ep, name, &error);
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
    self->endpoint = NULL;
    np_endpoint_release(ep);
    return NULL;
}

PyObject *endpoint_start(PyObject *op, PyObject *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    if (self->endpoint && np_endpoint_is_running(self->endpoint))
        Py_RETURN_NONE;
    if (self->starting) {
        PyErr_Format(PyExc_RuntimeError, "another thread is starting this %s",
                     self->kind->noun);
        return NULL;
    }
    self->starting = true;
    PyObject *result = NULL;
    if (retire(self) == 0 && resolve_all(self) == 0)
        result = self->kind->open(self);
    self->starting = false;
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
    Py_BEGIN_ALLOW_THREADS
    np_endpoint_stop_begin(ep);
    Py_END_ALLOW_THREADS
}

PyObject *endpoint_stop(PyObject *op, PyObject *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    np_endpoint *ep = self->endpoint;
    if (!ep)
        Py_RETURN_NONE;
    PyObject *pending = NULL;
    np_endpoint_retain(ep);
    self->stopping++;
    stop_begin(ep);
    int done = 0;
    while (!done && !PyErr_Occurred()) {
        done = stop_some(ep, STOP_SLICE_NS, &pending);
        if (!done)
            PyErr_CheckSignals();
    }
    self->stopping--;
    if (self->listed && done && self->endpoint == ep && !np_endpoint_is_inside(ep))
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
    np_endpoint *ep = self->endpoint;
    if (!ep)
        return;
    PyObject *pending = NULL;
    np_endpoint_retain(ep);
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
        PyErr_Format(PyExc_ValueError, "timeout must be None or at least 0 seconds, not %R",
                     value);
        return -1;
    }
    if (seconds < LONGEST_S)
        *out = (int64_t)(seconds * 1e9);
    return 0;
}

static np_endpoint *running_endpoint(endpoint_object *self, const char *method) {
    np_endpoint *ep = self->endpoint;
    if (ep && np_endpoint_is_forked(ep)) {
        PyErr_Format(PyExc_RuntimeError, "%s(): the %s belongs to the parent process, and "
                     "can't be used in a child of fork", method, self->kind->noun);
        return NULL;
    }
    if (!ep || np_endpoint_has_stopped(ep)) {
        PyErr_Format(PyExc_RuntimeError, "%s(): the %s is not running; start() it first", method,
                     self->kind->noun);
        return NULL;
    }
    np_endpoint_retain(ep);
    return ep;
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

static void end_guest(bridge_thread *t, interrupt_watch *watch, np_endpoint *ep) {
    bridge_guest_end(t);
    interrupt_watch_end(watch);
    np_endpoint_release(ep);
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
    end_guest(&t, &watch, ep);
    if (t.pending) {
        put_exception(t.pending);
        return NULL;
    }
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
    end_guest(&t, &watch, ep);
    if (t.pending) {
        put_exception(t.pending);
        return NULL;
    }
    return n < 0 ? busy("dispatch") : PyLong_FromLongLong(n);
}

PyObject *endpoint_quit(PyObject *op, PyObject *unused) {
    (void)unused;
    np_endpoint *ep = ((endpoint_object *)op)->endpoint;
    if (ep)
        np_endpoint_quit(ep);
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
