/* Resuming the task that waits, and a waiter's side that the task sees as a
 * future: see aio_waiter.h. */
#include "aio_waiter.h"

/* The task runs there and then when this thread has just come from the loop,
 * and else as soon as the loop gets to it.  A thread that is not the loop's has
 * no business here, but may find that one in the engine without the GIL. */
static void resume(waiter *w, PyObject *callback, PyObject *context) {
    aio_connection *c = w->connection;
    endpoint_object *s = c->base.bridge->object;
    aio *a = aio_of(c);
    bool foreign = a && a->ident && a->ident != PyThread_get_thread_ident();
    bool direct = a && a->driving && !a->calling && !foreign && context
                  && PyContext_CheckExact(context);
    if (direct && PyContext_Enter(context) < 0) {
        PyErr_Clear();
        direct = false;
    }
    if (!direct) {
        aio_call(c->loop, foreign ? "call_soon_threadsafe" : "call_soon", callback, (PyObject *)w,
                 context);
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

bool waiter_wants_end(const aio_connection *c) {
    const waiter *w = c->watchers.first;
    while (w && w->kind != WAIT_CLOSED)
        w = w->next;
    return w != NULL;
}

void waiter_wake_watchers(aio_connection *c) {
    for (;;) {
        waiter *w = c->watchers.first;
        while (w && !(w->stage == WAITING && waiter_watches_for(w, c)))
            w = w->next;
        if (!w)
            return;
        wake(w);
    }
}

PyObject *waiter_add_done_callback(PyObject *op, PyObject *const *args, Py_ssize_t count,
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
        return PyErr_Format(PyExc_RuntimeError, "%s() is being awaited already",
                            waiter_names[w->kind]);
    if (context == Py_None)
        context = NULL;
    if (w->stage == WAITING) {
        w->callback = Py_NewRef(args[0]);
        w->context = Py_XNewRef(context);
    } else if (w->connection) {
        aio_call(w->connection->loop, "call_soon", args[0], op, context);
    }
    Py_RETURN_NONE;
}

PyObject *waiter_remove_done_callback(PyObject *op, PyObject *callback) {
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

PyObject *waiter_cancel(PyObject *op, PyObject *args, PyObject *kwargs) {
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
    waiter_abandon(w);
    w->stage = WOKEN;
    if (callback)
        aio_call(loop, "call_soon", callback, op, context);
    Py_XDECREF(callback);
    Py_XDECREF(context);
    Py_DECREF(loop);
    Py_DECREF(w);
    Py_RETURN_TRUE;
}

PyObject *waiter_result(PyObject *op, PyObject *unused) {
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

PyObject *waiter_done(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(((waiter *)op)->stage >= WOKEN);
}

PyObject *waiter_cancelled(PyObject *op, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(((waiter *)op)->cancelled);
}

PyObject *waiter_get_loop(PyObject *op, PyObject *unused) {
    (void)unused;
    aio_connection *c = ((waiter *)op)->connection;
    return Py_NewRef(c ? c->loop : Py_None);
}

/* ---- what a task asks for every time ----------------------------------- */

static PyObject *return_self(PyObject *self, PyObject *unused) {
    (void)unused;
    return Py_NewRef(self);
}

static PyMethodDef getter_method = {"get", return_self, METH_NOARGS, NULL};

PyObject *waiter_make_getter(PyObject *value) { return PyCFunction_New(&getter_method, value); }

/* A task makes this name anew every time, so that it is no known object. */
static bool is_result(PyObject *name) {
    return PyUnicode_IS_COMPACT_ASCII(name) && PyUnicode_GET_LENGTH(name) == 6
           && memcmp(PyUnicode_DATA(name), "result", 6) == 0;
}

/* A task looks up four attributes for every wait.  Finding them in the type and
 * binding methods that are called once would cost half as much as what it waits
 * for, so that the answers that do not depend on the waiter are kept. */
PyObject *waiter_getattro(PyObject *op, PyObject *name) {
    waiter *w = (waiter *)op;
    module_state *state = w->state;
    if (name == state->str_blocking)
        return waiter_get_blocking(op, NULL);
    if (name == state->str_get_loop && w->connection) {
        aio *a = aio_of(w->connection);
        if (a && a->get_loop)
            return Py_NewRef(a->get_loop);
    } else if (w->stage == WOKEN && !w->cancelled && is_result(name)) {
        return Py_NewRef(state->get_none);
    }
    return PyObject_GenericGetAttr(op, name);
}

int waiter_setattro(PyObject *op, PyObject *name, PyObject *value) {
    if (name == ((waiter *)op)->state->str_blocking)
        return waiter_set_blocking(op, value, NULL);
    return PyObject_GenericSetAttr(op, name, value);
}

PyObject *waiter_get_blocking(PyObject *op, void *unused) {
    (void)unused;
    waiter *w = (waiter *)op;
    if (w->stage == FRESH)
        Py_RETURN_NONE;
    return PyBool_FromLong(w->blocking);
}

int waiter_set_blocking(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    int truth = value ? PyObject_IsTrue(value) : 0;
    if (truth < 0)
        return -1;
    ((waiter *)op)->blocking = truth;
    return 0;
}
