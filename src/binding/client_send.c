/* What a Client sends.  Small messages go out with the GIL held, when the system
 * takes them at once. */
#include "client.h"
#include "reader.h"

enum { RELEASE_GIL_SIZE = 64 * 1024 };

/* ---- steps ------------------------------------------------------------- */

static int send_steps(client_object *self, patience *p, np_outgoing *out, size_t total) {
    np_error error;
    np_code code = NP_E_TIMEOUT;
    if (np_channel_tries && total < RELEASE_GIL_SIZE) {
        np_wait at_once = {.deadline = NP_AT_ONCE};
        code = np_channel_send(self->channel, out, &at_once, &error);
    }
    if (code == NP_E_TIMEOUT) {
        if (patience_prepare(p) < 0)
            return -1;
        do {
            Py_BEGIN_ALLOW_THREADS code = np_channel_send(self->channel, out, &p->wait, &error);
            Py_END_ALLOW_THREADS if (code == NP_E_INTERRUPTED && patience_signals(p) < 0) return -1;
        } while (code == NP_E_INTERRUPTED);
    }
    if (code == NP_OK)
        return 0;
    client_raise(self, &error, p);
    return -1;
}

static int send_messages(client_object *self, patience *p, const np_slice *messages, size_t count,
                         size_t total) {
    if (client_begin(self, np_channel_send_begin, p) < 0)
        return -1;
    np_outgoing out = {.messages = messages, .count = count};
    int r = send_steps(self, p, &out, total);
    np_channel_send_end(self->channel, &out);
    return r;
}

static int send_one(client_object *self, patience *p, const void *data, size_t size) {
    np_slice message = {data, size};
    return send_messages(self, p, &message, 1, size);
}

/* ---- send_bytes -------------------------------------------------------- */

enum { AT_BUF, AT_OFFSET, AT_SIZE, AT_TIMEOUT, PARAMETERS };

static int parse_send(PyObject *const *args, Py_ssize_t count, PyObject *names,
                      PyObject *out[PARAMETERS]) {
    static const char *const keywords[PARAMETERS] = {"buf", "offset", "size", "timeout"};
    if (count > AT_TIMEOUT) {
        PyErr_Format(PyExc_TypeError,
                     "send_bytes() takes at most 3 positional arguments (%zd "
                     "given)",
                     count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < PARAMETERS; i++)
        out[i] = i < count ? args[i] : NULL;
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int at = 0;
        while (at < PARAMETERS && PyUnicode_CompareWithASCIIString(name, keywords[at]) != 0)
            at++;
        if (at == PARAMETERS || out[at]) {
            PyErr_Format(PyExc_TypeError, "send_bytes() got an unexpected argument %R", name);
            return -1;
        }
        out[at] = args[count + i];
    }
    if (out[AT_BUF])
        return 0;
    PyErr_SetString(PyExc_TypeError, "send_bytes() misses the argument 'buf'");
    return -1;
}

/* The part that offset and size ask for. */
static int cut(Py_buffer *view, PyObject *offset, PyObject *size) {
    Py_ssize_t begin = offset ? PyNumber_AsSsize_t(offset, PyExc_OverflowError) : 0;
    if (begin == -1 && PyErr_Occurred())
        return -1;
    const char *wrong = begin < 0           ? "offset is negative"
                        : begin > view->len ? "buffer length < offset"
                                            : NULL;
    Py_ssize_t count = view->len - begin;
    if (!wrong && size && size != Py_None) {
        count = PyNumber_AsSsize_t(size, PyExc_OverflowError);
        if (count == -1 && PyErr_Occurred())
            return -1;
        wrong = count < 0                   ? "size is negative"
                : count > view->len - begin ? "buffer length < offset + size"
                                            : NULL;
    }
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
        return -1;
    }
    view->buf = (char *)view->buf + begin;
    view->len = count;
    return 0;
}

PyObject *client_send_bytes(PyObject *op, PyObject *const *args, Py_ssize_t count,
                            PyObject *names) {
    client_object *self = (client_object *)op;
    PyObject *given[PARAMETERS];
    Py_buffer view;
    patience p;
    int r = -1;
    if (parse_send(args, count, names, given) < 0 || client_check_writable(self) < 0
        || patience_begin(&p, given[AT_TIMEOUT]) < 0
        || PyObject_GetBuffer(given[AT_BUF], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    void *whole = view.buf;
    if (cut(&view, given[AT_OFFSET], given[AT_SIZE]) == 0)
        r = send_one(self, &p, view.buf, (size_t)view.len);
    view.buf = whole;
    PyBuffer_Release(&view);
    if (r < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- send_many --------------------------------------------------------- */

static PyObject *send_sequence(client_object *self, patience *p, PyObject *sequence) {
    size_t n = (size_t)PyTuple_GET_SIZE(sequence), count = 0, total = 0;
    Py_buffer *views = PyMem_Calloc(n + 1, sizeof *views);
    np_slice *messages = PyMem_Calloc(n + 1, sizeof *messages);
    int r = views && messages ? 0 : -1;
    if (r < 0)
        PyErr_NoMemory();
    while (r == 0 && count < n) {
        PyObject *item = PyTuple_GET_ITEM(sequence, (Py_ssize_t)count);
        r = PyObject_GetBuffer(item, &views[count], PyBUF_SIMPLE);
        if (r < 0)
            break;
        messages[count] = (np_slice){views[count].buf, (size_t)views[count].len};
        total += messages[count++].size;
    }
    if (r == 0)
        r = send_messages(self, p, messages, n, total);
    while (count)
        PyBuffer_Release(&views[--count]);
    PyMem_Free(views);
    PyMem_Free(messages);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *client_send_many(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"messages", "timeout", NULL};
    client_object *self = (client_object *)op;
    PyObject *messages, *timeout = Py_None;
    patience p;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:send_many", names, &messages, &timeout)
        || client_check_writable(self) < 0 || patience_begin(&p, timeout) < 0)
        return NULL;
    PyObject *sequence = PySequence_Tuple(messages);
    PyObject *r = sequence ? send_sequence(self, &p, sequence) : NULL;
    Py_XDECREF(sequence);
    return r;
}

/* ---- send -------------------------------------------------------------- */

PyObject *client_send(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"obj", "timeout", NULL};
    client_object *self = (client_object *)op;
    PyObject *object, *timeout = Py_None;
    Py_buffer view;
    patience p;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:send", names, &object, &timeout)
        || client_check_writable(self) < 0 || patience_begin(&p, timeout) < 0
        || reader_prepare(self->state) < 0)
        return NULL;
    PyObject *data = PyObject_CallOneArg(self->state->payload_dumps, object);
    int r = data ? PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) : -1;
    if (r == 0) {
        r = send_one(self, &p, view.buf, (size_t)view.len);
        PyBuffer_Release(&view);
    }
    Py_XDECREF(data);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- call -------------------------------------------------------------- */

/* With the receiving turn, so that the reply is nobody else's.  spent: seconds of the timeout
 * that are over. */
static PyObject *exchange(client_object *self, const Py_buffer *view, PyObject *timeout,
                          double spent) {
    patience p;
    PyObject *reply = NULL;
    if (client_check_readable(self) < 0 || client_check_writable(self) < 0
        || patience_begin(&p, timeout) < 0)
        return NULL;
    if (p.wait.deadline != NP_FOREVER)
        p.wait.deadline -= (int64_t)(spent * 1e9);
    if (client_begin(self, np_channel_receive_begin, &p) < 0)
        return NULL;
    if (send_one(self, &p, view->buf, (size_t)view->len) == 0)
        reply = client_receive(self, &p, UINT64_MAX);
    np_channel_receive_end(self->channel);
    return reply;
}

PyObject *client_call(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"data", "timeout", NULL};
    PyObject *timeout = Py_None;
    Py_buffer view;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|$O:call", names, &view, &timeout))
        return NULL;
    PyObject *reply = exchange((client_object *)op, &view, timeout, 0);
    PyBuffer_Release(&view);
    return reply;
}

PyObject *client_call_on(PyObject *op, PyObject *args) {
    PyObject *timeout;
    double spent;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "y*Od:_call", &view, &timeout, &spent))
        return NULL;
    PyObject *reply = exchange((client_object *)op, &view, timeout, spent);
    PyBuffer_Release(&view);
    return reply;
}
