/* An endpoint and its event loop: when the loop is to call _drive, and what a
 * drive does. */
#include "aio.h"

/* ---- attaching --------------------------------------------------------- */

static int import_exceptions(module_state *state) {
    if (state->cancelled_error)
        return 0;
    PyObject *module = PyImport_ImportModule("asyncio.exceptions");
    if (!module)
        return -1;
    PyObject *stop = PyObject_CallNoArgs(PyExc_StopIteration);
    int r = state_keep(state, &state->stop_iteration, stop);
    if (r == 0)
        r = state_keep(state, &state->invalid_state_error,
                       PyObject_GetAttrString(module, "InvalidStateError"));
    if (r == 0)     /* the one that is looked for comes last */
        r = state_keep(state, &state->cancelled_error,
                       PyObject_GetAttrString(module, "CancelledError"));
    Py_DECREF(module);
    return r;
}

PyObject *aio_attach(PyObject *op, PyObject *args) {
    endpoint_object *self = (endpoint_object *)op;
    PyObject *loop, *report, *ended;
    int driven;
    if (!PyArg_ParseTuple(args, "OpOO:_attach", &loop, &driven, &report, &ended)
        || import_exceptions(self->state) < 0)
        return NULL;
    if (self->aio || self->endpoint)
        return PyErr_Format(PyExc_RuntimeError, "it has a loop already, or was started");
    aio *a = PyMem_Calloc(1, sizeof *a);
    if (!a)
        return PyErr_NoMemory();
    self->aio = a;
    a->driven = driven;
    a->loop = Py_NewRef(loop);
    a->get_loop = waiter_make_getter(loop);
    a->report = Py_NewRef(report);
    a->ended = Py_NewRef(ended);
    self->config.marshalled = true;
    self->config.driven = driven;
    self->config.keep_ended = true;
    if (!a->get_loop)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *aio_wake_by(PyObject *op, PyObject *args) {
    Py_ssize_t port, address;
    if (!PyArg_ParseTuple(args, "nn:_wake_by", &port, &address)
        || bridge_post_packets(((endpoint_object *)op)->bridge, port, address) < 0)
        return NULL;
    Py_RETURN_NONE;
}

int aio_traverse(aio *a, visitproc visit, void *arg) {
    Py_VISIT(a->loop);
    Py_VISIT(a->report);
    Py_VISIT(a->ended);
    Py_VISIT(a->timer);
    Py_VISIT(a->get_loop);
    return 0;
}

void aio_clear(aio *a) {
    Py_CLEAR(a->report);
    Py_CLEAR(a->ended);
    Py_CLEAR(a->timer);
    Py_CLEAR(a->get_loop);
    Py_CLEAR(a->loop);
}

void aio_free(aio *a) {
    if (a)
        aio_clear(a);
    PyMem_Free(a);
}

PyObject *aio_stop_listening(PyObject *op, PyObject *unused) {
    (void)unused;
    np_endpoint *ep = endpoint_current((endpoint_object *)op);
    if (ep) {
        np_endpoint_stop_listening(ep);
        np_endpoint_release(ep);
    }
    Py_RETURN_NONE;
}

/* ---- calls of the loop ------------------------------------------------- */

/* A loop that is closed calls nothing any more, and says so. */
static PyObject *forgive_closed(PyObject *result) {
    if (!result && PyErr_ExceptionMatches(PyExc_RuntimeError))
        PyErr_Clear();
    if (!result && PyErr_Occurred())
        PyErr_WriteUnraisable(NULL);
    return result;
}

void aio_call(PyObject *loop, const char *how, PyObject *callback, PyObject *argument,
              PyObject *context) {
    PyObject *method = PyObject_GetAttrString(loop, how);
    PyObject *names = context ? Py_BuildValue("(s)", "context") : NULL;
    PyObject *args[] = {NULL, callback, argument, context};
    PyObject *r = NULL;
    if (method && (names || !context))
        r = PyObject_Vectorcall(method, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_XDECREF(forgive_closed(r));
    Py_XDECREF(names);
    Py_XDECREF(method);
}

static void call_drive(endpoint_object *s, const char *how) {
    PyObject *drive = PyObject_GetAttrString((PyObject *)s, "_drive");
    PyObject *r = drive ? PyObject_CallMethod(s->aio->loop, how, "O", drive) : NULL;
    Py_XDECREF(forgive_closed(r));
    Py_XDECREF(drive);
}

void aio_wake(endpoint_object *s) { call_drive(s, "call_soon_threadsafe"); }

void aio_report(endpoint_object *s, const char *message, PyObject *connection) {
    aio *a = s->aio;
    if (a->thread && bridge_keeps_exception(a->thread))
        return;
    PyObject *error = take_exception();
    PyObject *r = a->report ? PyObject_CallFunction(a->report, "sOO", message, error, connection)
                            : NULL;
    if (!r && !PyErr_Occurred())
        put_exception(Py_NewRef(error));
    if (!r)
        PyErr_WriteUnraisable(connection);
    Py_XDECREF(r);
    Py_DECREF(error);
}

/* ---- timers ------------------------------------------------------------ */

static void drop_timer(aio *a) {
    PyObject *timer = a->timer;
    a->timer = NULL;
    if (timer)
        Py_XDECREF(forgive_closed(PyObject_CallMethod(timer, "cancel", NULL)));
    Py_XDECREF(timer);
}

static void set_timer(endpoint_object *s, int64_t delay_ns) {
    aio *a = s->aio;
    PyObject *tick = PyObject_GetAttrString((PyObject *)s, "_tick");
    if (tick)
        a->timer = forgive_closed(
            PyObject_CallMethod(a->loop, "call_later", "dO", (double)delay_ns / 1e9, tick));
    a->timer_at = np_clock() + delay_ns;
    Py_XDECREF(tick);
}

/* The engine's next timer: one of the loop's that is due before it will do. */
static void schedule(endpoint_object *s, int64_t next_ns) {
    aio *a = s->aio;
    if (next_ns == 0) {
        call_drive(s, "call_soon");
    } else if (next_ns < 0) {
        drop_timer(a);
    } else if (!a->timer || a->timer_at > np_clock() + next_ns) {
        drop_timer(a);
        set_timer(s, next_ns);
    }
}

/* ---- driving ----------------------------------------------------------- */

/* The GIL is kept: giving it away and taking it back would cost more than the
 * system calls of small messages. */
static int64_t drive(endpoint_object *s, np_endpoint *ep, bridge_thread *t, int64_t *next_ns) {
    aio *a = s->aio;
    bool holds = !a->large;
    int64_t n;
    a->large = false;
    a->driving = true;
    a->ident = PyThread_get_thread_ident();
    if (holds) {
        *t = (bridge_thread){.guest = true, .holds = true};
        n = np_endpoint_drive(ep, t, next_ns);
    } else {
        bridge_guest_begin(t);
        n = np_endpoint_drive(ep, t, next_ns);
        bridge_guest_end(t);
    }
    a->driving = false;
    return n;
}

PyObject *aio_drive(PyObject *op, PyObject *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    bridge_thread t;
    int64_t next_ns;
    if (!self->aio || !self->aio->loop || self->aio->driving)
        Py_RETURN_NONE;
    np_endpoint *ep = endpoint_current(self);
    if (!ep)
        Py_RETURN_NONE;
    int64_t n = drive(self, ep, &t, &next_ns);
    np_endpoint_release(ep);
    if (n >= 0)
        schedule(self, next_ns);
    if (t.pending) {
        put_exception(t.pending);
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *aio_tick(PyObject *op, PyObject *unused) {
    endpoint_object *self = (endpoint_object *)op;
    if (self->aio)
        Py_CLEAR(self->aio->timer);
    return aio_drive(op, unused);
}
