/* The object that Server and ClientManager share: its life, its methods and what
 * can be asked of it.  Starting and running are in endpoint_run.c. */
#include "aio.h"
#include "sequence.h"

#include <structmember.h>

np_endpoint *endpoint_current(endpoint_object *self) {
    np_mutex_lock(&self->guard);
    np_endpoint *ep = self->endpoint;
    if (ep)
        np_endpoint_retain(ep);
    np_mutex_unlock(&self->guard);
    return ep;
}

handler endpoint_handler(endpoint_object *self, handler_index i) {
    np_mutex_lock(&self->guard);
    handler h = self->resolved[i];
    Py_XINCREF(h.callable);
    np_mutex_unlock(&self->guard);
    return h;
}

/* Whether the current run goes on. */
static bool is_running(endpoint_object *self) {
    np_endpoint *ep = endpoint_current(self);
    bool running = ep && np_endpoint_is_running(ep);
    if (ep)
        np_endpoint_release(ep);
    return running;
}

PyObject *endpoint_new(PyTypeObject *type, const endpoint_kind *kind) {
    PyObject *module = PyType_GetModuleByDef(type, &npipes_module);
    endpoint_object *self = module ? (endpoint_object *)type->tp_alloc(type, 0) : NULL;
    if (!self)
        return NULL;
    self->state = state_of_module(module);
    self->kind = kind;
    np_mutex_init(&self->guard);
    np_config_init(&self->config);
    self->config.marshalled = true;
    self->access = PyUnicode_FromString("user");
    self->live = PySet_New(NULL);
    self->dialed = PySet_New(NULL);
    self->bridge = bridge_new(self);
    if (!self->access || !self->live || !self->dialed || !self->bridge)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int traverse(PyObject *op, visitproc visit, void *arg) {
    endpoint_object *self = (endpoint_object *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->name);
    Py_VISIT(self->access);
    Py_VISIT(self->live);
    Py_VISIT(self->dialed);
    for (int i = 0; i < HANDLER_COUNT; i++) {
        Py_VISIT(self->on[i]);
        Py_VISIT(self->resolved[i].callable);
    }
    return self->aio ? aio_traverse(self->aio, visit, arg) : 0;
}

static int clear(PyObject *op) {
    endpoint_object *self = (endpoint_object *)op;
    np_store32(&self->handled, 0);
    for (int i = 0; i < HANDLER_COUNT; i++) {
        Py_CLEAR(self->on[i]);
        Py_CLEAR(self->resolved[i].callable);
    }
    if (self->live)
        PySet_Clear(self->live);
    if (self->dialed)
        PySet_Clear(self->dialed);
    if (self->aio)
        aio_clear(self->aio);
    return 0;
}

/* One that is dropped is stopped; its last events still have it. */
static void finalize(PyObject *op) {
    endpoint_object *self = (endpoint_object *)op;
    if (!self->endpoint)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    bridge_revive_object(self->bridge);
    endpoint_stop_quietly(self, -1);
    /* Inside its own handler the end comes after it. */
    if (np_endpoint_is_inside(self->endpoint) && !np_endpoint_is_forked(self->endpoint))
        bridge_keep_object(self->bridge);
    PyErr_Restore(type, value, traceback);
}

/* The __del__ of a subclass takes the finalizer's place, and one that has run does
 * not run again for an object that it revived: then it is made up for here.
 * Whether the object has been revived. */
static bool revived_at_the_end(PyObject *op) {
    endpoint_object *self = (endpoint_object *)op;
    if (!self->endpoint || np_endpoint_has_stopped(self->endpoint)
        || np_endpoint_is_forked(self->endpoint))
        return false;
    /* Others may get a reference while it is alive again. */
    np_mutex *guard = &self->bridge->guard;
    np_mutex_lock(guard);
    Py_SET_REFCNT(op, 1);
    np_mutex_unlock(guard);
    finalize(op);
    np_mutex_lock(guard);
    bool revived = Py_REFCNT(op) > 1;
    if (!revived)
        Py_SET_REFCNT(op, 0);
    np_mutex_unlock(guard);
    if (revived)
        Py_DECREF(op);
    return revived;
}

static void dealloc(PyObject *op) {
    endpoint_object *self = (endpoint_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0 || revived_at_the_end(op))
        return;     /* a handler of the last events kept it alive */
    PyObject_GC_UnTrack(op);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(op);
    endpoint_unlist(self);
    if (self->bridge)
        bridge_leave(self->bridge);
    if (self->endpoint) {
        np_endpoint_stop_begin(self->endpoint);
        np_endpoint_release(self->endpoint);
    }
    clear(op);
    aio_free(self->aio);
    Py_CLEAR(self->live);
    Py_CLEAR(self->dialed);
    Py_CLEAR(self->name);
    Py_CLEAR(self->access);
    Py_CLEAR(self->authkey);
    Py_CLEAR(self->key);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *repr(PyObject *op) {
    endpoint_object *self = (endpoint_object *)op;
    const char *state = is_running(self) ? "running" : "stopped";
    PyObject *name = guarded_get(&self->guard, &self->name);
    if (name) {
        PyObject *text = PyUnicode_FromFormat("<%s %R, %s>", Py_TYPE(op)->tp_name, name, state);
        Py_DECREF(name);
        return text;
    }
    return PyUnicode_FromFormat("<%s, %s, at %p>", Py_TYPE(op)->tp_name, state, op);
}

/* A handler counts from the next batch on, also where a subclass's method of
 * that name keeps the attribute from reaching our own descriptor. */
static int setattro(PyObject *op, PyObject *name, PyObject *value) {
    if (PyObject_GenericSetAttr(op, name, value) < 0)
        return -1;
    endpoint_object *self = (endpoint_object *)op;
    np_endpoint *ep = endpoint_current(self);
    const char *text = ep ? PyUnicode_AsUTF8(name) : NULL;
    if (ep)
        np_endpoint_release(ep);
    if (!text) {
        PyErr_Clear();
        return 0;
    }
    handler_index i = handler_find(text);
    return i < HANDLER_COUNT ? endpoint_resolve_handler(self, i) : 0;
}

/* ---- methods ----------------------------------------------------------- */

static PyObject *endpoint_event(PyObject *op, PyObject *function) {
    PyObject *name = PyObject_GetAttrString(function, "__name__");
    const char *text = name ? PyUnicode_AsUTF8(name) : NULL;
    if (text && handler_find(text) == HANDLER_COUNT) {
        PyErr_Format(PyExc_ValueError,
                     "'%s' is not an event; a handler is called on_ready, "
                     "on_connected, on_message, on_messages, on_sent, on_disconnected, on_drained "
                     "or on_error",
                     text);
        text = NULL;
    }
    int r = text ? PyObject_SetAttr(op, name, function) : -1;
    Py_XDECREF(name);
    return r < 0 ? NULL : Py_NewRef(function);
}

static void take_cookie(void *cookie) { Py_INCREF((PyObject *)cookie); }

static void drop_cookie(void *cookie) { Py_DECREF((PyObject *)cookie); }

static PyObject *endpoint_broadcast(PyObject *op, PyObject *args, PyObject *kwargs) {
    endpoint_object *self = (endpoint_object *)op;
    static char *names[] = {"data", "cookie", NULL};
    PyObject *data, *cookie = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:broadcast", names, &data, &cookie))
        return NULL;
    payload p;
    if (payload_get(&p, data, true) < 0)
        return NULL;
    int64_t count = 0;
    np_endpoint *ep = endpoint_current(self);
    if (p.size && ep) {
        count = np_endpoint_broadcast(ep, p.hold, cookie == Py_None ? NULL : cookie, take_cookie,
                                      drop_cookie);
        np_endpoint_discard(ep);
    }
    payload_release(&p);
    if (ep)
        np_endpoint_release(ep);
    return count < 0 ? PyErr_NoMemory() : PyLong_FromLongLong(count);
}

static PyObject *endpoint_enter(PyObject *op, PyObject *unused) {
    PyObject *r = endpoint_start(op, unused);
    if (!r)
        return NULL;
    Py_DECREF(r);
    return Py_NewRef(op);
}

static PyObject *endpoint_exit(PyObject *op, PyObject *args) {
    (void)args;
    PyObject *r = endpoint_stop(op, NULL);
    if (!r)
        return NULL;
    Py_DECREF(r);
    Py_RETURN_FALSE;
}

/* ---- attributes -------------------------------------------------------- */

PyObject *endpoint_get_connections(PyObject *op, void *unused) {
    (void)unused;
    return PySequence_List(((endpoint_object *)op)->live);
}

PyObject *endpoint_get_is_running(PyObject *op, void *unused) {
    (void)unused;
    return PyBool_FromLong(is_running((endpoint_object *)op));
}

PyObject *endpoint_get_stats(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    np_stats s = {0};
    np_endpoint *ep = endpoint_current(self);
    if (ep) {
        np_endpoint_stats(ep, &s);
        np_endpoint_release(ep);
    }
    const uint64_t values[] = {s.connections,  s.connections_total, s.messages_in,
                               s.messages_out, s.bytes_in,          s.bytes_out,
                               s.queued_bytes, s.queued_events,     s.errors};
    PyObject *items[sizeof values / sizeof *values];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        items[i] = PyLong_FromUnsignedLongLong(values[i]);
    return sequence_new(self->state->stats_type, sizeof items / sizeof *items, items);
}

PyObject *endpoint_get_wait_handle(PyObject *op, void *unused) {
    (void)unused;
    np_endpoint *ep = endpoint_current((endpoint_object *)op);
    intptr_t waitable = ep ? np_endpoint_waitable(ep) : -1;
    if (ep)
        np_endpoint_release(ep);
    if (host_has_descriptors || waitable == -1)
        Py_RETURN_NONE;
    return PyLong_FromSsize_t(waitable);
}

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(endpoint_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
    {"stop", endpoint_stop, METH_NOARGS,
     "stop($self, /)\n--\n\n"
     "No new connections; cancel and drain every operation; deliver what is queued, every\n"
     "on_disconnected included; end the workers.  Does nothing when stopped.  Any thread; from\n"
     "inside a handler of this object it returns at once and the end comes after the handler."},
    {"run", (PyCFunction)(void (*)(void))endpoint_run, METH_VARARGS | METH_KEYWORDS,
     "run($self, /, timeout=None)\n--\n\n"
     "The message loop: deliver events in this thread until quit(), stop(), Ctrl-C, or timeout\n"
     "seconds are over.  With free_threading_events=True it only waits for these.  Raises\n"
     "RuntimeError when not running, or when a thread is inside run() or dispatch() already."},
    {"dispatch", (PyCFunction)(void (*)(void))endpoint_dispatch, METH_VARARGS | METH_KEYWORDS,
     "dispatch($self, /, timeout=0)\n--\n\n"
     "Deliver the events that wait; with a timeout (seconds; None: no limit) wait for some.\n"
     "Returns their number.  Raises RuntimeError like run()."},
    {"quit", endpoint_quit, METH_NOARGS,
     "quit($self, /)\n--\n\n"
     "End the current run(), or the next one if none is current.  Any thread, any handler."},
    {"fileno", endpoint_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\n"
     "Linux: a descriptor that is readable while events wait for dispatch().  Raises\n"
     "RuntimeError when not running or with free_threading_events=True."},
    {"broadcast", (PyCFunction)(void (*)(void))endpoint_broadcast, METH_VARARGS | METH_KEYWORDS,
     "broadcast($self, /, data, cookie=None)\n--\n\n"
     "Write data to every open connection; all share one copy.  Returns how many accepted it;\n"
     "one that has too much waiting gets on_error instead.  Any thread."},
    {"event", endpoint_event, METH_O,
     "event($self, function, /)\n--\n\n"
     "Decorator: make function the handler of the event it is named after."},
    {"_attach", aio_attach, METH_VARARGS, NULL},
    {"_wake_by", aio_wake_by, METH_VARARGS, NULL},
    {"_drive", aio_drive, METH_NOARGS, NULL},
    {"_tick", aio_tick, METH_NOARGS, NULL},
    {"_stop_listening", aio_stop_listening, METH_NOARGS, NULL},
    {"__enter__", endpoint_enter, METH_NOARGS, NULL},
    {"__exit__", endpoint_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc, "What Server and ClientManager share.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_dealloc, dealloc},
    {Py_tp_finalize, finalize},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_repr, repr},
    {Py_tp_setattro, setattro},
    {Py_tp_getset, endpoint_getset},
    {Py_tp_members, members},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec endpoint_spec = {
    .name = "npipes._npipes._Endpoint",
    .basicsize = sizeof(endpoint_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
