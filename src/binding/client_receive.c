/* What a Client receives: straight into the bytes object, or the buffer, that
 * the caller gets. */
#include "client.h"
#include "reader.h"

/* ---- memory ------------------------------------------------------------ */

static int give_bytes(client_object *self, size_t size) {
    np_channel *c = self->channel;
    if (!np_load32(&self->state->expects_large) && !np_swap32(&self->state->expects_large, 1))
        host_expect_large_messages();
    PyObject *bytes = np_channel_incoming(c)->owner;
    if (!bytes) {
        bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    } else if (_PyBytes_Resize(&bytes, (Py_ssize_t)size) < 0) {
        /* It is gone, and with it what came of the message. */
        np_channel_lost(c);
    }
    if (!bytes)
        return -1;
    np_channel_room(c, bytes, (uint8_t *)PyBytes_AS_STRING(bytes), size);
    return 0;
}

static PyObject *take_message(client_object *self) {
    const np_incoming *in = np_channel_incoming(self->channel);
    PyObject *bytes = in->owner;
    if (!bytes)
        bytes = PyBytes_FromStringAndSize((const char *)in->data, (Py_ssize_t)in->arrived);
    else if (PyBytes_GET_SIZE(bytes) != (Py_ssize_t)in->arrived)
        _PyBytes_Resize(&bytes, (Py_ssize_t)in->arrived);
    if (bytes || in->owner)
        np_channel_received(self->channel);
    return bytes;
}

/* ---- steps ------------------------------------------------------------- */

/* Where a message may go instead of into a bytes object. */
typedef struct target {
    uint8_t *data;
    size_t size;
    bool lent;
} target;

static int make_room(client_object *self, target *to) {
    const np_incoming *in = np_channel_incoming(self->channel);
    if (to && !to->lent && !in->owner && in->expected <= to->size) {
        np_channel_room(self->channel, NULL, to->data, (size_t)in->expected);
        to->lent = true;
        return 0;
    }
    return give_bytes(self, np_channel_wanted(self->channel));
}

/* The target goes back to the caller: what has come so far moves. */
static int take_back(client_object *self, target *to) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    to->lent = false;
    int r = give_bytes(self, np_channel_wanted(self->channel));
    if (r < 0) {
        np_channel_lost(self->channel);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    } else {
        PyErr_Restore(type, value, traceback);
    }
    return r;
}

/* One message into the channel's message.  Looks at once with the GIL held where
 * that is cheap; large messages and waits are done without it. */
static int receive_steps(client_object *self, patience *p, uint64_t limit, target *to) {
    np_channel *c = self->channel;
    np_error error;
    np_code code = NP_E_TIMEOUT;
    if (np_channel_tries && !np_channel_expects_wait(c)) {
        np_wait at_once = {.deadline = NP_AT_ONCE};
        code = np_channel_receive(c, &at_once, limit, &error);
        if (code == NP_WANTED && make_room(self, to) < 0)
            return -1;
    }
    if ((code == NP_E_TIMEOUT || code == NP_WANTED) && patience_prepare(p) < 0)
        return -1;
    for (bool waited = false; code == NP_WANTED || (code == NP_E_TIMEOUT && !waited);
         waited = true) {
        Py_BEGIN_ALLOW_THREADS code = np_channel_receive(c, &p->wait, limit, &error);
        Py_END_ALLOW_THREADS if (code == NP_WANTED && make_room(self, to) < 0) return -1;
        if (code == NP_E_INTERRUPTED) {
            if (patience_signals(p) < 0)
                return -1;
            code = NP_WANTED;
        }
    }
    if (code == NP_OK)
        return 0;
    client_raise(self, &error, p);
    return -1;
}

PyObject *client_receive(client_object *self, patience *p, uint64_t limit) {
    return receive_steps(self, p, limit, NULL) < 0 ? NULL : take_message(self);
}

/* ---- recv_bytes -------------------------------------------------------- */

static int parse_recv(PyObject *const *args, Py_ssize_t count, PyObject *names,
                      PyObject **maxlength, PyObject **timeout) {
    static const char *const keywords[] = {"maxlength", "timeout"};
    PyObject **out[] = {maxlength, timeout};
    if (count > 1) {
        PyErr_Format(PyExc_TypeError,
                     "recv_bytes() takes at most 1 positional argument (%zd "
                     "given)",
                     count);
        return -1;
    }
    *maxlength = count ? args[0] : NULL;
    *timeout = NULL;
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int at = PyUnicode_CompareWithASCIIString(name, keywords[0]) == 0   ? 0
                 : PyUnicode_CompareWithASCIIString(name, keywords[1]) == 0 ? 1
                                                                            : -1;
        if (at < 0 || *out[at]) {
            PyErr_Format(PyExc_TypeError, "recv_bytes() got an unexpected argument %R", name);
            return -1;
        }
        *out[at] = args[count + i];
    }
    return 0;
}

static int parse_limit(PyObject *maxlength, uint64_t *limit) {
    *limit = UINT64_MAX;
    if (!maxlength || maxlength == Py_None)
        return 0;
    Py_ssize_t size = PyNumber_AsSsize_t(maxlength, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred())
        return -1;
    if (size < 0) {
        PyErr_Format(PyExc_ValueError, "negative maxlength: %R", maxlength);
        return -1;
    }
    *limit = (uint64_t)size;
    return 0;
}

PyObject *client_recv_bytes(PyObject *op, PyObject *const *args, Py_ssize_t count,
                            PyObject *names) {
    client_object *self = (client_object *)op;
    PyObject *maxlength, *timeout;
    uint64_t limit;
    patience p;
    if (parse_recv(args, count, names, &maxlength, &timeout) < 0 || client_check_readable(self) < 0
        || parse_limit(maxlength, &limit) < 0 || patience_begin(&p, timeout) < 0
        || client_begin(self, np_channel_receive_begin, &p) < 0)
        return NULL;
    PyObject *message = client_receive(self, &p, limit);
    np_channel_receive_end(self->channel);
    return message;
}

/* ---- recv -------------------------------------------------------------- */

PyObject *client_recv(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    client_object *self = (client_object *)op;
    PyObject *timeout = Py_None;
    patience p;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:recv", names, &timeout)
        || client_check_readable(self) < 0 || patience_begin(&p, timeout) < 0
        || client_begin(self, np_channel_receive_begin, &p) < 0)
        return NULL;
    PyObject *message = client_receive(self, &p, UINT64_MAX);
    np_channel_receive_end(self->channel);
    PyObject *object = message ? reader_load(self->state, self->reading, message, Py_None) : NULL;
    Py_XDECREF(message);
    return object;
}

/* ---- recv_bytes_into --------------------------------------------------- */

static PyObject *raise_too_short(client_object *self) {
    PyObject *message = take_message(self);
    PyObject *module = message ? PyImport_ImportModule("multiprocessing") : NULL;
    PyObject *type = module ? PyObject_GetAttrString(module, "BufferTooShort") : NULL;
    PyObject *error = type ? PyObject_CallOneArg(type, message) : NULL;
    if (error)
        PyErr_SetObject(type, error);
    Py_XDECREF(error);
    Py_XDECREF(type);
    Py_XDECREF(module);
    Py_XDECREF(message);
    return NULL;
}

static PyObject *receive_into(client_object *self, patience *p, target *to) {
    const np_incoming *in = np_channel_incoming(self->channel);
    int r = receive_steps(self, p, UINT64_MAX, to);
    if (r == 0 && in->arrived > to->size)
        return raise_too_short(self);
    PyObject *size = r == 0 ? PyLong_FromSize_t(in->arrived) : NULL;
    if (!size && to->lent && in->known)
        take_back(self, to);
    if (!size)
        return NULL;
    if (!to->lent && in->arrived)
        memcpy(to->data, in->data, in->arrived);
    Py_XDECREF((PyObject *)in->owner);
    np_channel_received(self->channel);
    return size;
}

PyObject *client_recv_bytes_into(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"buf", "offset", "timeout", NULL};
    client_object *self = (client_object *)op;
    PyObject *timeout = Py_None, *r = NULL;
    Py_buffer view;
    Py_ssize_t offset = 0;
    patience p;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "w*|n$O:recv_bytes_into", names, &view, &offset,
                                     &timeout))
        return NULL;
    if (offset < 0 || offset > view.len)
        PyErr_SetString(PyExc_ValueError, offset < 0 ? "negative offset" : "offset too large");
    else if (client_check_readable(self) == 0 && patience_begin(&p, timeout) == 0
             && client_begin(self, np_channel_receive_begin, &p) == 0) {
        target to = {(uint8_t *)view.buf + offset, (size_t)(view.len - offset), false};
        r = receive_into(self, &p, &to);
        np_channel_receive_end(self->channel);
    }
    PyBuffer_Release(&view);
    return r;
}

/* ---- recv_many --------------------------------------------------------- */

enum { TAKE = 256 };

/* A message that was taken and can't be given is lost, and what was taken with it: the
 * channel ends there, so that none is missing before one that is received. */
static int append(client_object *self, PyObject *list, PyObject *message) {
    int r = message ? PyList_Append(list, message) : -1;
    if (r < 0)
        np_channel_lost(self->channel);
    Py_XDECREF(message);
    return r;
}

/* Messages that are there; how many, or -1. */
static int take_some(client_object *self, PyObject *list, size_t max, bool *more) {
    np_slice slices[TAKE];
    np_error error;
    size_t count;
    size_t room = max - (size_t)PyList_GET_SIZE(list);
    if (np_channel_take(self->channel, slices, room < TAKE ? room : TAKE, &count, more, &error)
        != NP_OK) {
        errors_raise(self->state, &error, PyBytes_AS_STRING(self->address));
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        const char *data = (const char *)slices[i].data;
        PyObject *message = PyBytes_FromStringAndSize(data, (Py_ssize_t)slices[i].size);
        if (append(self, list, message) < 0)
            return -1;
    }
    return (int)count;
}

static int wait_for_some(client_object *self, patience *p) {
    np_error error;
    np_code code = NP_E_INTERRUPTED;
    if (patience_prepare(p) < 0)
        return -1;
    while (code == NP_E_INTERRUPTED) {
        Py_BEGIN_ALLOW_THREADS code = np_channel_poll(self->channel, &p->wait, &error);
        Py_END_ALLOW_THREADS if (code == NP_E_INTERRUPTED && patience_signals(p) < 0) return -1;
    }
    if (code == NP_OK)
        return 0;
    client_raise(self, &error, p);
    return -1;
}

static int receive_first(client_object *self, patience *p, PyObject *list) {
    PyObject *message = client_receive(self, p, UINT64_MAX);
    return message ? append(self, list, message) : -1;
}

/* A stream is worth looking at before it is read message by message. */
static int receive_many(client_object *self, patience *p, PyObject *list, size_t max) {
    int took = 0;
    bool more = true;
    if (np_channel_tries) {
        if (!np_channel_expects_wait(self->channel))
            took = take_some(self, list, max, &more);
        if (took == 0 && wait_for_some(self, p) < 0)
            return -1;
        if (took == 0)
            took = take_some(self, list, max, &more);
    }
    if (took == 0)
        took = receive_first(self, p, list) < 0 ? -1 : 1;
    while (took > 0 && more && (size_t)PyList_GET_SIZE(list) < max)
        took = take_some(self, list, max, &more);
    /* An end that stays is the next call's: this one has messages to give. */
    if (took < 0 && PyList_GET_SIZE(list) && np_channel_holds(self->channel)) {
        PyErr_Clear();
        took = 0;
    }
    return took;
}

PyObject *client_recv_many(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"max", "timeout", NULL};
    client_object *self = (client_object *)op;
    PyObject *max = Py_None, *timeout = Py_None;
    patience p;
    Py_ssize_t most = PY_SSIZE_T_MAX;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:recv_many", names, &max, &timeout)
        || client_check_readable(self) < 0)
        return NULL;
    if (max != Py_None) {
        most = PyNumber_AsSsize_t(max, NULL);
        if (most == -1 && PyErr_Occurred())
            return NULL;
        if (most < 1)
            return PyErr_Format(PyExc_ValueError, "max must be None or at least 1, not %R", max);
    }
    PyObject *list = PyList_New(0);
    if (!list)
        return NULL;
    if (patience_begin(&p, timeout) < 0 || client_begin(self, np_channel_receive_begin, &p) < 0) {
        Py_DECREF(list);
        return NULL;
    }
    if (receive_many(self, &p, list, (size_t)most) < 0)
        Py_CLEAR(list);
    np_channel_receive_end(self->channel);
    return list;
}
