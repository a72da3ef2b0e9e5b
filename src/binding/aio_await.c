/* What a waiter waits for, and its side that is awaited: see aio_waiter.h. */
#include "aio_waiter.h"

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
            waiter_dequeue(w);
            Py_DECREF(w);
        }
        /* Its place among those who receive is that of its message. */
        waiter_enqueue(w, &w->connection->readers);
        if (w->connection->writers.first)
            aio_connection_wake_writers(w->connection);
    }
    return try_receive(w, result);
}

/* Whether what it waits for has come about. */
bool waiter_watches_for(const waiter *w, const aio_connection *c) {
    return c->closed || (w->kind == WAIT_OPEN && c->opened);
}

static outcome try_watch(waiter *w) {
    aio_connection *c = w->connection;
    if (!waiter_watches_for(w, c)) {
        if (w->kind == WAIT_CLOSED && (c->ended || c->finishing))
            np_connection_close(c->base.connection);
        return NOT_YET;
    }
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

/* The same for one that had to wait for nothing. */
static inline void waiter_finish_fresh(waiter *w) {
    aio_connection *c = w->connection;
    w->stage = OVER;
    w->connection = NULL;
    Py_CLEAR(w->data);
    Py_DECREF(c);
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
    waiter_finish_fresh(w);
    return true;
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

static NP_NOINLINE PySendResult step_further(waiter *w, PyObject **result) {
    *result = NULL;
    if (w->stage == WAITING || w->stage == OVER) {
        PyErr_Format(PyExc_RuntimeError,
                     w->stage == OVER ? "%s() was awaited before; call it again"
                                      : "%s() is being awaited already",
                     waiter_names[w->kind]);
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
            waiter_enqueue(w, queue_of(w));
        w->stage = WAITING;
        w->blocking = true;
        *result = Py_NewRef((PyObject *)w);
    } else if (o == READY) {
        r = PYGEN_RETURN;
        if (!*result)
            *result = Py_NewRef(Py_None);
        waiter_finish(w);
    } else {
        r = PYGEN_ERROR;
        PyObject *error = take_exception();
        waiter_finish(w);
        put_exception(error);
    }
    Py_DECREF(w);
    return r;
}

PySendResult waiter_am_send(PyObject *op, PyObject *value, PyObject **result) {
    (void)value;
    waiter *w = (waiter *)op;
    return step_at_once(w, result) ? PYGEN_RETURN : step_further(w, result);
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

PyObject *waiter_iternext(PyObject *op) {
    PyObject *result;
    PySendResult r = waiter_am_send(op, Py_None, &result);
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
    waiter_abandon((waiter *)op);
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
    waiter_abandon((waiter *)op);
    Py_RETURN_NONE;
}

PyObject *waiter_await(PyObject *op) { return Py_NewRef(op); }

PyMethodDef waiter_methods[] = {
    {"send", waiter_send, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))waiter_throw, METH_FASTCALL, NULL},
    {"close", waiter_close, METH_NOARGS, NULL},
    {"add_done_callback", (PyCFunction)(void (*)(void))waiter_add_done_callback,
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"remove_done_callback", waiter_remove_done_callback, METH_O, NULL},
    {"cancel", (PyCFunction)(void (*)(void))waiter_cancel, METH_VARARGS | METH_KEYWORDS, NULL},
    {"result", waiter_result, METH_NOARGS, NULL},
    {"exception", waiter_result, METH_NOARGS, NULL},
    {"done", waiter_done, METH_NOARGS, NULL},
    {"cancelled", waiter_cancelled, METH_NOARGS, NULL},
    {"get_loop", waiter_get_loop, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
