/* What recv(), send() and the others return: an awaitable that is complete at
 * once when it can be, and else is the future that its task waits for.
 *
 * Nothing is taken or sent before the task runs again: a message is taken off
 * the queue, and a write handed over, in the step that gives the result.  So a
 * task that is cancelled in between loses nothing, and sends nothing.
 *
 *   FRESH    not awaited yet
 *   WAITING  yielded to the task, in a queue of the connection's
 *   WOKEN    the task has been resumed, or will be
 *   OVER     has given its result, raised, or was cancelled
 *
 * A task waits for it as for a future: asyncio takes whatever has
 * _asyncio_future_blocking for one (asyncio.isfuture).  Before it is awaited
 * that is None, so that gather() and the like make a task of it.
 *
 * A connection keeps two that are over, to hand them out again when nobody else
 * has them: one is in use while a task waits and is resumed, the other for what
 * that task does next.  While it is FRESH, WAITING or WOKEN a waiter has a
 * reference to its connection. */
#include "aio.h"

#include <structmember.h>

typedef enum stage { FRESH, WAITING, WOKEN, OVER } stage;

struct waiter {
    PyObject_HEAD
    module_state *state;
    aio_connection *connection;     /* NULL when it is over and nothing is asked of it */
    waiter_queue *queue;            /* that it is in, or NULL */
    waiter *previous, *next;
    PyObject *data;
    PyObject *callback, *context;   /* the task's */
    PyObject *cancel_message;
    unsigned char kind, stage;
    bool blocking;                  /* yielded, and the task has not seen it yet */
    bool cancelled;
    bool sent;                      /* CALL: its message is on its way */
    bool abandoned;                 /* CALL: in the queue only to take its reply off it */
};

static const char *const names[] = {"recv", "__anext__", "call", "send", "drain", "connect",
                                    "wait_closed", "__aenter__"};

/* ---- queues ------------------------------------------------------------ */

static void enqueue(waiter *w, waiter_queue *queue) {
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

static void dequeue(waiter *w) {
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

static waiter_queue *queue_of(waiter *w) {
    aio_connection *c = w->connection;
    switch ((waiter_kind)w->kind) {
    case WAIT_SEND:
    case WAIT_DRAIN: return &c->writers;
    case WAIT_CALL: return w->sent ? &c->readers : &c->writers;
    case WAIT_OPEN:
    case WAIT_CLOSED: return &c->watchers;
    default: return &c->readers;
    }
}

void waiter_skip_abandoned(aio_connection *c) {
    waiter *w;
    while ((w = c->readers.first) && w->abandoned && (c->count || aio_connection_is_over(c))) {
        if (c->count)
            Py_DECREF(aio_connection_pop(c));
        dequeue(w);
    }
}

int waiter_queue_traverse(const waiter_queue *queue, visitproc visit, void *arg) {
    for (waiter *w = queue->first; w; w = w->next)
        Py_VISIT(w);
    return 0;
}

void waiter_queue_clear(waiter_queue *queue) {
    while (queue->first)
        dequeue(queue->first);
}

/* ---- the end ----------------------------------------------------------- */

/* Others may have waited behind it. */
static void pass_on(aio_connection *c, const waiter_queue *queue) {
    if (queue == &c->readers)
        aio_connection_wake_readers(c);
    else if (queue == &c->writers)
        aio_connection_wake_writers(c);
}

static void finish(waiter *w) {
    aio_connection *c = w->connection;
    waiter_queue *queue = w->queue;
    w->stage = OVER;
    w->blocking = false;
    w->connection = NULL;
    Py_CLEAR(w->data);
    Py_CLEAR(w->callback);
    Py_CLEAR(w->context);
    dequeue(w);
    if (queue && queue->first)
        pass_on(c, queue);
    Py_XDECREF(c);
}

/* The same for one that had to wait for nothing. */
static inline void finish_fresh(waiter *w) {
    aio_connection *c = w->connection;
    w->stage = OVER;
    w->connection = NULL;
    Py_CLEAR(w->data);
    Py_DECREF(c);
}

/* Nobody waits for it any more.  The reply of a call that was sent still comes. */
static void abandon(waiter *w) {
    if (w->kind == WAIT_CALL && w->sent && w->queue) {
        w->stage = OVER;
        w->blocking = false;
        w->abandoned = true;
        Py_CLEAR(w->callback);
        Py_CLEAR(w->context);
        aio_connection_wake_readers(w->connection);
    } else {
        finish(w);
    }
}

/* ---- what it waits for ------------------------------------------------- */

typedef enum outcome { READY, NOT_YET, FAILED } outcome;

static bool is_first(const waiter *w, const waiter_queue *queue) {
    return !queue->first || queue->first == w;
}

static outcome try_receive(waiter *w, PyObject **result) {
    aio_connection *c = w->connection;
    waiter_skip_abandoned(c);
    if (!is_first(w, &c->readers))
        return NOT_YET;
    if (c->count) {
        *result = aio_connection_pop(c);
        if (c->paused)
            aio_connection_balance(c);
        return READY;
    }
    if (!aio_connection_is_over(c))
        return NOT_YET;
    if (w->kind == WAIT_NEXT && !c->end.code)
        PyErr_SetNone(PyExc_StopAsyncIteration);
    else
        aio_connection_raise_end(c);
    return FAILED;
}

static bool is_full(aio_connection *c) {
    if (!np_connection_is_full(c->base.connection))
        return false;
    np_connection_flush(c->base.connection);
    return np_connection_is_full(c->base.connection);
}

static bool is_writable(const aio_connection *c) { return !c->closed && !c->closing; }

static outcome try_send(waiter *w) {
    aio_connection *c = w->connection;
    if (!is_first(w, &c->writers) || (is_writable(c) && is_full(c)))
        return NOT_YET;
    if (w->kind != WAIT_DRAIN)
        return aio_connection_send(c, w->data) < 0 ? FAILED : READY;
    if (is_writable(c))
        return READY;
    aio_connection_raise_end(c);
    return FAILED;
}

static outcome try_call(waiter *w, PyObject **result) {
    if (!w->sent) {
        outcome sent = try_send(w);
        if (sent != READY)
            return sent;
        w->sent = true;
        if (w->queue) {
            Py_INCREF(w);
            dequeue(w);
            Py_DECREF(w);
        }
        /* Its place among those who receive is that of its message. */
        enqueue(w, &w->connection->readers);
        if (w->connection->writers.first)
            aio_connection_wake_writers(w->connection);
    }
    return try_receive(w, result);
}

/* Whether what it waits for has come about. */
static bool watches_for(const waiter *w, const aio_connection *c) {
    return c->closed || (w->kind == WAIT_OPEN && c->opened);
}

static outcome try_watch(waiter *w) {
    aio_connection *c = w->connection;
    if (!watches_for(w, c))
        return NOT_YET;
    if (w->kind == WAIT_CLOSED || c->opened)
        return READY;
    aio_connection_raise_end(c);
    return FAILED;
}

static outcome attempt(waiter *w, PyObject **result) {
    switch ((waiter_kind)w->kind) {
    case WAIT_RECV:
    case WAIT_NEXT: return try_receive(w, result);
    case WAIT_CALL: return try_call(w, result);
    case WAIT_SEND:
    case WAIT_DRAIN: return try_send(w);
    case WAIT_ENTER: *result = Py_NewRef((PyObject *)w->connection); return READY;
    default: return try_watch(w);
    }
}

/* ---- as an awaitable --------------------------------------------------- */

/* What most turn out to be: a message is there, or one can be sent. */
static inline bool step_at_once(waiter *w, PyObject **result) {
    aio_connection *c = w->connection;
    if (w->stage != FRESH)
        return false;
    if (w->kind <= WAIT_NEXT && c->count && !c->readers.first) {
        *result = aio_connection_pop(c);
        if (c->paused)
            aio_connection_balance(c);
    } else if (w->kind == WAIT_SEND && !c->writers.first && aio_connection_append(c, w->data)) {
        *result = Py_NewRef(Py_None);
    } else {
        return false;
    }
    finish_fresh(w);
    return true;
}

static PySendResult step(waiter *w, PyObject **result) {
    if (step_at_once(w, result))
        return PYGEN_RETURN;
    *result = NULL;
    if (w->stage == WAITING || w->stage == OVER) {
        PyErr_Format(PyExc_RuntimeError, w->stage == OVER
                         ? "%s() was awaited before; call it again"
                         : "%s() is being awaited already", names[w->kind]);
        return PYGEN_ERROR;
    }
    if (!w->connection) {       /* cancelled */
        PyErr_SetNone(w->state->cancelled_error);
        return PYGEN_ERROR;
    }
    /* Its queue, or somebody it wakes, may be all that keeps it. */
    Py_INCREF(w);
    outcome o = attempt(w, result);
    PySendResult r = PYGEN_NEXT;
    if (o == NOT_YET) {
        if (!w->queue)
            enqueue(w, queue_of(w));
        w->stage = WAITING;
        w->blocking = true;
        *result = Py_NewRef((PyObject *)w);
    } else if (o == READY) {
        r = PYGEN_RETURN;
        if (!*result)
            *result = Py_NewRef(Py_None);
        finish(w);
    } else {
        r = PYGEN_ERROR;
        PyObject *error = take_exception();
        finish(w);
        put_exception(error);
    }
    Py_DECREF(w);
    return r;
}

static PySendResult waiter_am_send(PyObject *op, PyObject *value, PyObject **result) {
    (void)value;
    return step((waiter *)op, result);
}

#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED)
/* From 3.12 on a result goes through StopIteration.  The interpreter drops the
 * exception at once, so that one serves nearly all of them; it must not keep a
 * large message. */
enum { RETURNED_SIZE = 4096 };

static void set_returned(waiter *w, PyObject *value) {
    PyObject *stop = w->state->stop_iteration;
    bool small = PyBytes_CheckExact(value) && PyBytes_GET_SIZE(value) <= RETURNED_SIZE;
    if (!stop || Py_REFCNT(stop) != 1 || !small) {
        PyErr_SetObject(PyExc_StopIteration, value);
        return;
    }
    PyStopIterationObject *s = (PyStopIterationObject *)stop;
    Py_XSETREF(s->value, Py_NewRef(value));
    PyErr_SetRaisedException(Py_NewRef(stop));
}
#else
static void set_returned(waiter *w, PyObject *value) {
    (void)w;
    PyErr_SetObject(PyExc_StopIteration, value);
}
#endif

static PyObject *waiter_iternext(PyObject *op) {
    PyObject *result;
    PySendResult r = step((waiter *)op, &result);
    if (r != PYGEN_RETURN)
        return result;
    if (result != Py_None)
        set_returned((waiter *)op, result);
    Py_DECREF(result);
    return NULL;
}

static PyObject *waiter_send(PyObject *op, PyObject *value) {
    (void)value;
    PyObject *result = waiter_iternext(op);
    if (!result && !PyErr_Occurred())
        PyErr_SetNone(PyExc_StopIteration);
    return result;
}

static PyObject *waiter_throw(PyObject *op, PyObject *const *args, Py_ssize_t count) {
    if (count < 1 || count > 3)
        return PyErr_Format(PyExc_TypeError, "throw() takes 1 to 3 arguments (%zd given)", count);
    abandon((waiter *)op);
    PyObject *value = count > 1 ? args[1] : Py_None;
    if (PyExceptionInstance_Check(args[0]))
        PyErr_SetObject(PyExceptionInstance_Class(args[0]), args[0]);
    else if (PyExceptionClass_Check(args[0]))
        PyErr_SetObject(args[0], value == Py_None ? NULL : value);
    else
        PyErr_Format(PyExc_TypeError, "throw() needs an exception, not %R", args[0]);
    return NULL;
}

static PyObject *waiter_close(PyObject *op, PyObject *unused) {
    (void)unused;
    abandon((waiter *)op);
    Py_RETURN_NONE;
}

static PyObject *waiter_await(PyObject *op) { return Py_NewRef(op); }

/* ---- as a future ------------------------------------------------------- */

/* The task runs there and then when this thread has just come from the loop,
 * and else as soon as the loop gets to it. */
static void resume(waiter *w, PyObject *callback, PyObject *context) {
    aio_connection *c = w->connection;
    endpoint_object *s = c->base.bridge->object;
    aio *a = aio_of(c);
    bool direct = a && a->driving && !a->calling && context && PyContext_CheckExact(context);
    if (direct && PyContext_Enter(context) < 0) {
        PyErr_Clear();
        direct = false;
    }
    if (!direct) {
        aio_call_soon(c->loop, callback, (PyObject *)w, context);
        return;
    }
    a->calling = true;
    Py_INCREF(s);
    PyObject *r = PyObject_CallOneArg(callback, (PyObject *)w);
    PyObject *error = r ? NULL : take_exception();
    PyContext_Exit(context);
    a->calling = false;
    if (error) {
        put_exception(error);
        aio_report(s, "a task could not be resumed", (PyObject *)c);
    }
    Py_XDECREF(r);
    Py_DECREF(s);
}

static void wake(waiter *w) {
    w->stage = WOKEN;
    w->blocking = false;
    PyObject *callback = w->callback, *context = w->context;
    if (!callback)
        return;
    w->callback = w->context = NULL;
    Py_INCREF(w);
    resume(w, callback, context);
    Py_DECREF(w);
    Py_DECREF(callback);
    Py_XDECREF(context);
}

void waiter_wake_first(waiter_queue *queue) {
    waiter *w = queue->first;
    if (w && w->stage == WAITING)
        wake(w);
}

void waiter_wake_watchers(aio_connection *c) {
    for (;;) {
        waiter *w = c->watchers.first;
        while (w && !(w->stage == WAITING && watches_for(w, c)))
            w = w->next;
        if (!w)
            return;
        wake(w);
    }
}

static PyObject *add_done_callback(PyObject *op, PyObject *const *args, Py_ssize_t count,
                                   PyObject *names_given) {
    waiter *w = (waiter *)op;
    PyObject *context = NULL;
    Py_ssize_t named = names_given ? PyTuple_GET_SIZE(names_given) : 0;
    if (named == 1
        && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names_given, 0), "context") == 0)
        context = args[count];
    if (count != 1 || named != (context != NULL))
        return PyErr_Format(PyExc_TypeError, "add_done_callback(callback, *, context=None)");
    if (w->callback)
        return PyErr_Format(PyExc_RuntimeError, "%s() is being awaited already", names[w->kind]);
    if (context == Py_None)
        context = NULL;
    if (w->stage == WAITING) {
        w->callback = Py_NewRef(args[0]);
        w->context = Py_XNewRef(context);
    } else if (w->connection) {
        aio_call_soon(w->connection->loop, args[0], op, context);
    }
    Py_RETURN_NONE;
}

static PyObject *remove_done_callback(PyObject *op, PyObject *callback) {
    waiter *w = (waiter *)op;
    int equal = w->callback ? PyObject_RichCompareBool(w->callback, callback, Py_EQ) : 0;
    if (equal < 0)
        return NULL;
    if (equal) {
        Py_CLEAR(w->callback);
        Py_CLEAR(w->context);
    }
    return PyLong_FromLong(equal);
}

static PyObject *waiter_cancel(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"msg", NULL};
    waiter *w = (waiter *)op;
    PyObject *message = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:cancel", keywords, &message))
        return NULL;
    if (w->stage != WAITING)
        Py_RETURN_FALSE;
    PyObject *loop = Py_NewRef(w->connection->loop);
    PyObject *callback = w->callback, *context = w->context;
    w->callback = w->context = NULL;
    w->cancelled = true;
    Py_XSETREF(w->cancel_message, Py_NewRef(message));
    Py_INCREF(w);
    abandon(w);
    w->stage = WOKEN;
    if (callback)
        aio_call_soon(loop, callback, op, context);
    Py_XDECREF(callback);
    Py_XDECREF(context);
    Py_DECREF(loop);
    Py_DECREF(w);
    Py_RETURN_TRUE;
}

static PyObject *waiter_result(PyObject *op, PyObject *unused) {
    (void)unused;
    waiter *w = (waiter *)op;
    if (w->cancelled) {
        bool plain = !w->cancel_message || w->cancel_message == Py_None;
        PyErr_SetObject(w->state->cancelled_error, plain ? NULL : w->cancel_message);
        return NULL;
    }
    if (w->stage < WOKEN) {
        PyErr_SetString(w->state->invalid_state_error, "Result is not set.");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *waiter_done(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(((waiter *)op)->stage >= WOKEN);
}

static PyObject *waiter_cancelled(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(((waiter *)op)->cancelled);
}

static PyObject *waiter_get_loop(PyObject *op, PyObject *unused) {
    (void)unused;
    aio_connection *c = ((waiter *)op)->connection;
    return Py_NewRef(c ? c->loop : Py_None);
}

static PyObject *get_blocking(PyObject *op, void *unused) {
    (void)unused;
    waiter *w = (waiter *)op;
    if (w->stage == FRESH)
        Py_RETURN_NONE;
    return PyBool_FromLong(w->blocking);
}

static int set_blocking(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    int truth = value ? PyObject_IsTrue(value) : 0;
    if (truth < 0)
        return -1;
    ((waiter *)op)->blocking = truth;
    return 0;
}

static PyObject *get_name(PyObject *op, void *unused) {
    (void)unused;
    return PyUnicode_FromString(names[((waiter *)op)->kind]);
}

static PyObject *get_qualname(PyObject *op, void *unused) {
    (void)unused;
    return PyUnicode_FromFormat("Connection.%s", names[((waiter *)op)->kind]);
}

/* ---- life -------------------------------------------------------------- */

/* As with a coroutine: what was never awaited was not done. */
static void warn_never_awaited(waiter *w) {
    if (w->stage != FRESH || w->kind == WAIT_CLOSED || w->kind == WAIT_ENTER)
        return;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "'Connection.%s' was never awaited",
                         names[w->kind]) < 0)
        PyErr_WriteUnraisable((PyObject *)w->connection);
    PyErr_Restore(type, value, traceback);
}

#ifdef Py_GIL_DISABLED
static waiter *take_spare(aio_connection *c) { (void)c; return NULL; }
static void keep_spare(aio_connection *c, waiter *w) { (void)c, (void)w; }
#else
static waiter *take_spare(aio_connection *c) {
    waiter *w = c->spares[0];
    if (!w || Py_REFCNT(w) != 1) {
        w = c->spares[1];
        if (!w || Py_REFCNT(w) != 1)
            return NULL;
    }
    if (w->stage != OVER) {
        warn_never_awaited(w);
        finish(w);
    }
    return (waiter *)Py_NewRef((PyObject *)w);
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

PyObject *waiter_new(aio_connection *c, waiter_kind kind, PyObject *data) {
    waiter *w = take_spare(c);
    if (!w)
        w = make(c);
    if (!w)
        return NULL;
    w->connection = (aio_connection *)Py_NewRef((PyObject *)c);
    w->data = Py_XNewRef(data);
    w->kind = (unsigned char)kind;
    w->stage = FRESH;
    w->blocking = w->cancelled = w->sent = w->abandoned = false;
    Py_CLEAR(w->cancel_message);
    return (PyObject *)w;
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
    return PyUnicode_FromFormat("<Connection.%s(), %s, at %p>", names[w->kind], stages[w->stage],
                                op);
}

static PyGetSetDef getset[] = {
    {"_asyncio_future_blocking", get_blocking, set_blocking, NULL, NULL},
    {"__name__", get_name, NULL, NULL, NULL},
    {"__qualname__", get_qualname, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"send", waiter_send, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))waiter_throw, METH_FASTCALL, NULL},
    {"close", waiter_close, METH_NOARGS, NULL},
    {"add_done_callback", (PyCFunction)(void (*)(void))add_done_callback,
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"remove_done_callback", remove_done_callback, METH_O, NULL},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"result", waiter_result, METH_NOARGS, NULL},
    {"exception", waiter_result, METH_NOARGS, NULL},
    {"done", waiter_done, METH_NOARGS, NULL},
    {"cancelled", waiter_cancelled, METH_NOARGS, NULL},
    {"get_loop", waiter_get_loop, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc, "What a method of a Connection returns to be awaited, once.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_repr, repr},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, waiter_iternext},
    {Py_am_await, waiter_await},
    {Py_am_send, waiter_am_send},
    {Py_tp_getset, getset},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec waiter_spec = {
    .name = "npipes._npipes._Waiter",
    .basicsize = sizeof(waiter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
