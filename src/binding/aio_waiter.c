/* Waiters in their queues, from their making to their end: see aio_waiter.h. */
#include "aio_waiter.h"

const char *const waiter_names[] = {"recv",  "__anext__", "call",        "send",
                                    "drain", "connect",   "wait_closed", "__aenter__"};

/* ---- queues ------------------------------------------------------------ */

void waiter_enqueue(waiter *w, waiter_queue *queue) {
    w->queue = queue;
    w->next = NULL;
    w->previous = queue->last;
    if (queue->last)
        queue->last->next = w;
    else
        queue->first = w;
    queue->last = w;
    Py_INCREF(w);
}

void waiter_dequeue(waiter *w) {
    waiter_queue *queue = w->queue;
    if (!queue)
        return;
    if (w->previous)
        w->previous->next = w->next;
    else
        queue->first = w->next;
    if (w->next)
        w->next->previous = w->previous;
    else
        queue->last = w->previous;
    w->queue = NULL;
    w->previous = w->next = NULL;
    Py_DECREF(w);
}

void waiter_skip_abandoned(aio_connection *c) {
    waiter *w;
    while ((w = c->readers.first) && w->abandoned && (c->count || aio_connection_is_over(c))) {
        if (c->count)
            Py_DECREF(aio_connection_pop(c));
        waiter_dequeue(w);
    }
}

int waiter_queue_traverse(const waiter_queue *queue, visitproc visit, void *arg) {
    for (waiter *w = queue->first; w; w = w->next)
        Py_VISIT(w);
    return 0;
}

void waiter_queue_clear(waiter_queue *queue) {
    while (queue->first)
        waiter_dequeue(queue->first);
}

/* ---- the end ----------------------------------------------------------- */

/* Others may have waited behind it. */
static void pass_on(aio_connection *c, const waiter_queue *queue) {
    if (queue == &c->readers)
        aio_connection_wake_readers(c);
    else if (queue == &c->writers)
        aio_connection_wake_writers(c);
}

void waiter_finish(waiter *w) {
    aio_connection *c = w->connection;
    waiter_queue *queue = w->queue;
    w->stage = OVER;
    w->blocking = false;
    w->connection = NULL;
    Py_CLEAR(w->data);
    Py_CLEAR(w->callback);
    Py_CLEAR(w->context);
    waiter_dequeue(w);
    if (queue && queue->first)
        pass_on(c, queue);
    Py_XDECREF(c);
}

/* Nobody waits for it any more.  The reply of a call that was sent still comes. */
void waiter_abandon(waiter *w) {
    if (w->kind == WAIT_CALL && w->sent && w->queue) {
        w->stage = OVER;
        w->blocking = false;
        w->abandoned = true;
        Py_CLEAR(w->callback);
        Py_CLEAR(w->context);
        aio_connection_wake_readers(w->connection);
    } else {
        waiter_finish(w);
    }
}

/* ---- life -------------------------------------------------------------- */

/* As with a coroutine: what was never awaited was not done. */
static void warn_never_awaited(waiter *w) {
    if (w->stage != FRESH || w->kind == WAIT_CLOSED || w->kind == WAIT_ENTER)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "'Connection.%s' was never awaited",
                         waiter_names[w->kind])
        < 0)
        PyErr_WriteUnraisable((PyObject *)w->connection);
    PyErr_Restore(type, value, traceback);
}

#ifdef Py_GIL_DISABLED
static inline waiter *spare_of(aio_connection *c) {
    (void)c;
    return NULL;
}
static waiter *take_spare(aio_connection *c) { return spare_of(c); }
static void keep_spare(aio_connection *c, waiter *w) { (void)c, (void)w; }
#else
static inline bool is_spare(const waiter *w) { return w && Py_REFCNT(w) == 1; }

/* Nearly always there is one, and it is over. */
static inline waiter *spare_of(aio_connection *c) {
    waiter *w = c->spares[0];
    if (!is_spare(w) && !is_spare(w = c->spares[1]))
        return NULL;
    return w->stage == OVER && !w->cancelled ? (waiter *)Py_NewRef((PyObject *)w) : NULL;
}

/* One may have to be given up by somebody who did not await it. */
static waiter *take_spare(aio_connection *c) {
    for (size_t i = 0; i < 2; i++) {
        waiter *w = c->spares[i];
        if (!is_spare(w))
            continue;
        Py_INCREF(w);       /* what follows may run code, which must find that it is taken */
        if (w->stage != OVER) {
            warn_never_awaited(w);
            waiter_finish(w);
        }
        Py_CLEAR(w->cancel_message);
        return w;
    }
    return NULL;
}

static void keep_spare(aio_connection *c, waiter *w) {
    waiter **slot = c->spares[0] ? &c->spares[1] : &c->spares[0];
    if (!*slot)
        *slot = (waiter *)Py_NewRef((PyObject *)w);
}
#endif

static waiter *make(aio_connection *c) {
    waiter *w = PyObject_GC_New(waiter, c->base.state->waiter_type);
    if (!w)
        return NULL;
    w->state = c->base.state;
    w->queue = NULL;
    w->previous = w->next = NULL;
    w->callback = w->context = w->cancel_message = w->data = NULL;
    w->connection = NULL;
    w->stage = OVER;
    PyObject_GC_Track(w);
    keep_spare(c, w);
    return w;
}

static inline PyObject *begin(waiter *w, aio_connection *c, waiter_kind kind, PyObject *data) {
    w->connection = (aio_connection *)Py_NewRef((PyObject *)c);
    w->data = Py_XNewRef(data);
    w->kind = (unsigned char)kind;
    w->stage = FRESH;
    w->blocking = w->cancelled = w->sent = w->abandoned = false;
    return (PyObject *)w;
}

static NP_NOINLINE PyObject *find_another(aio_connection *c, waiter_kind kind, PyObject *data) {
    waiter *w = take_spare(c);
    if (!w)
        w = make(c);
    return w ? begin(w, c, kind, data) : NULL;
}

PyObject *waiter_new(aio_connection *c, waiter_kind kind, PyObject *data) {
    waiter *w = spare_of(c);
    return w ? begin(w, c, kind, data) : find_another(c, kind, data);
}

static int traverse(PyObject *op, visitproc visit, void *arg) {
    waiter *w = (waiter *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(w->connection);
    Py_VISIT(w->data);
    Py_VISIT(w->callback);
    Py_VISIT(w->context);
    Py_VISIT(w->cancel_message);
    return 0;
}

static int clear(PyObject *op) {
    waiter *w = (waiter *)op;
    Py_CLEAR(w->data);
    Py_CLEAR(w->callback);
    Py_CLEAR(w->context);
    Py_CLEAR(w->cancel_message);
    return 0;
}

static void dealloc(PyObject *op) {
    waiter *w = (waiter *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    warn_never_awaited(w);
    clear(op);
    Py_XDECREF(w->connection);
    PyObject_GC_Del(op);
    Py_DECREF(type);
}

static PyObject *repr(PyObject *op) {
    static const char *const stages[] = {"not awaited", "waiting", "resumed", "over"};
    waiter *w = (waiter *)op;
    return PyUnicode_FromFormat("<Connection.%s(), %s, at %p>", waiter_names[w->kind],
                                stages[w->stage], op);
}

static PyObject *get_name(PyObject *op, void *unused) {
    (void)unused;
    return PyUnicode_FromString(waiter_names[((waiter *)op)->kind]);
}

static PyObject *get_qualname(PyObject *op, void *unused) {
    (void)unused;
    return PyUnicode_FromFormat("Connection.%s", waiter_names[((waiter *)op)->kind]);
}

static PyGetSetDef getset[] = {
    {"_asyncio_future_blocking", waiter_get_blocking, waiter_set_blocking, NULL, NULL},
    {"__name__", get_name, NULL, NULL, NULL},
    {"__qualname__", get_qualname, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(doc, "What a method of a Connection returns to be awaited, once.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_repr, repr},
    {Py_tp_getattro, waiter_getattro},
    {Py_tp_setattro, waiter_setattro},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, waiter_iternext},
    {Py_am_await, waiter_await},
    {Py_am_send, waiter_am_send},
    {Py_tp_getset, getset},
    {Py_tp_methods, waiter_methods},
    {0, NULL},
};

PyType_Spec waiter_spec = {
    .name = "npipes._npipes._Waiter",
    .basicsize = sizeof(waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
