/* Reading a payload from its first opcode to its last.  See reader.h. */
#include "reader.h"

enum { SIGNALS_EVERY = 1 << 16 };

/* ---- the machine ------------------------------------------------------- */

/* What went wrong in a call that the payload led to is the payload's fault. */
static void blame(const reader *r) {
    if (r->buffers_failed || PyErr_ExceptionMatches(r->state->payload_error)
        || PyErr_ExceptionMatches(PyExc_MemoryError) || !PyErr_ExceptionMatches(PyExc_Exception))
        return;
    PyObject *cause = take_exception();
    reader_refuse(r, "%s: %.500S", Py_TYPE(cause)->tp_name, cause);
    if (!PyErr_ExceptionMatches(r->state->payload_error)) {     /* it has no text */
        PyErr_Clear();
        reader_refuse(r, "%s", Py_TYPE(cause)->tp_name);
    }
    PyObject *error = take_exception();
    if (error) {
        PyException_SetCause(error, Py_NewRef(cause));
        PyException_SetContext(error, cause);
        put_exception(error);
    } else {
        put_exception(cause);
    }
}

static PyObject *finish(reader *r) {
    if (r->at != r->end) {
        reader_refuse(r, "%zd bytes follow the end", (Py_ssize_t)(r->end - r->at));
        return NULL;
    }
    if (r->unfinished && PyDict_GET_SIZE(r->unfinished)) {
        reader_refuse(r, "an object has not got its state");
        return NULL;
    }
    if (r->mark_count || r->stack.count != 1) {
        reader_refuse(r, "it ends with %zu values instead of one", r->stack.count);
        return NULL;
    }
    if (reader_settle(r, r->stack.items) < 0)
        return NULL;
    return Py_NewRef(r->stack.items[0].object);
}

static PyObject *run(reader *r) {
    for (uint64_t n = 1;; n++) {
        r->op = r->at;
        if (r->at == r->end) {
            reader_refuse(r, "it has no end");
            return NULL;
        }
        uint8_t op = *r->at++;
        if (op == '.')
            return finish(r);
        if (reader_step(r, op) < 0)
            return NULL;
        if (n % SIGNALS_EVERY == 0 && PyErr_CheckSignals() < 0)
            return NULL;
    }
}

/* ---- from outside ------------------------------------------------------ */

static void drop_pile(pile *p) {
    while (p->count)
        Py_XDECREF(p->items[--p->count].object);
    PyMem_Free(p->items);
}

static PyObject *read_plain(module_state *state, PyObject *reading, const Py_buffer *view,
                            PyObject *buffers) {
    const uint8_t *data = view->buf;
    reader r = {
        .state = state,
        .reading = reading,
        .buffers = buffers,
        .begin = data,
        .at = data,
        .end = data + view->len,
        .op = data,
        .work = 65536 + 16 * (uint64_t)view->len,
        .copies = 64 + 2 * (uint64_t)view->len,
    };
    /* With room, so that where the stack ends is never NULL. */
    PyObject *result = reader_make_room(&r.stack, 16) < 0 ? NULL : run(&r);
    if (!result)
        blame(&r);
    PyObject *error = result ? NULL : take_exception();     /* what is dropped may run code */
    reader_forget_models(&r);
    drop_pile(&r.stack);
    drop_pile(&r.memo);
    Py_XDECREF(r.open);
    Py_XDECREF(r.unfinished);
    Py_XDECREF(r.fraction);
    PyMem_Free(r.marks);
    if (error)
        put_exception(error);
    return result;
}

static PyObject *read_trusted(module_state *state, PyObject *data, PyObject *buffers) {
    if (buffers == Py_None)
        return PyObject_CallOneArg(state->pickle_loads, data);
    PyObject *args = PyTuple_Pack(1, data);
    PyObject *kwargs = Py_BuildValue("{s:O}", "buffers", buffers);
    PyObject *result = args && kwargs ? PyObject_Call(state->pickle_loads, args, kwargs) : NULL;
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    return result;
}

PyObject *reader_load(module_state *state, PyObject *reading, PyObject *data, PyObject *buffers) {
    if (reader_prepare(state) < 0)
        return NULL;
    if (!reading)
        reading = state->payload_usual;
    if (reading != state->payload_usual) {
        PyObject *trusted = PyObject_GetAttrString(reading, "trusted");
        int truth = trusted ? PyObject_IsTrue(trusted) : -1;
        Py_XDECREF(trusted);
        if (truth < 0)
            return NULL;
        if (truth)
            return read_trusted(state, data, buffers);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *iterator = buffers == Py_None ? NULL : PyObject_GetIter(buffers);
    PyObject *result = iterator || buffers == Py_None ? read_plain(state, reading, &view, iterator)
                                                      : NULL;
    Py_XDECREF(iterator);
    PyBuffer_Release(&view);
    return result;
}

PyObject *reader_function(PyObject *module, PyObject *args) {
    module_state *state = state_of_module(module);
    PyObject *data, *reading, *buffers;
    if (!PyArg_ParseTuple(args, "OOO:_read", &data, &reading, &buffers)
        || reader_prepare(state) < 0)
        return NULL;
    if (!PyObject_TypeCheck(reading, state->payload_reading))
        return PyErr_Format(PyExc_TypeError, "a Reading, not %R", reading);
    return reader_load(state, reading, data, buffers);
}

/* ---- the part in Python ------------------------------------------------ */

static int fetch(module_state *state, PyObject *module, const char *name, PyObject **out) {
    return state_keep(state, out, PyObject_GetAttrString(module, name));
}

int reader_prepare(module_state *state) {
    if (state->payload_usual)
        return 0;
    PyObject *payload = PyImport_ImportModule("npipes.payload");
    PyObject *pickle = payload ? PyImport_ImportModule("pickle") : NULL;
    bool fetched = pickle && fetch(state, payload, "UnsafePayloadError", &state->payload_error) == 0
                   && fetch(state, payload, "Name", (PyObject **)&state->payload_name) == 0
                   && fetch(state, payload, "Reading", (PyObject **)&state->payload_reading) == 0
                   && fetch(state, payload, "dumps_to_send", &state->payload_dumps) == 0
                   && fetch(state, pickle, "loads", &state->pickle_loads) == 0
                   && fetch(state, payload, "USUAL", &state->payload_usual) == 0;
    Py_XDECREF(pickle);
    Py_XDECREF(payload);
    return fetched ? 0 : -1;
}

int reader_choose(module_state *state, PyObject *trusted, PyObject *allow, PyObject **out) {
    *out = NULL;
    if ((!trusted || trusted == Py_False)
        && (!allow || (PyTuple_CheckExact(allow) && PyTuple_GET_SIZE(allow) == 0)))
        return 0;
    if (reader_prepare(state) < 0)
        return -1;
    PyObject *none = PyTuple_New(0);
    if (none)
        *out = PyObject_CallFunctionObjArgs((PyObject *)state->payload_reading,
                                            trusted ? trusted : Py_False, allow ? allow : none,
                                            NULL);
    Py_XDECREF(none);
    return *out ? 0 : -1;
}
