/* Bytes between Python and the engine.  Large bytes objects are held, not
 * copied; anything that could change under our hands is copied by the engine. */
#include "state.h"

static bool grow(np_buffer *buffer, size_t capacity) {
    PyObject *owner = np_buffer_owner(buffer);
    if (_PyBytes_Resize(&owner, (Py_ssize_t)capacity) < 0) {
        PyErr_Clear();
        np_buffer_set(buffer, NULL, NULL, 0);
        return false;
    }
    np_buffer_set(buffer, owner, PyBytes_AS_STRING(owner), capacity);
    host_prepare_large_buffer(PyBytes_AS_STRING(owner), capacity);
    return true;
}

static const np_buffer_ops bytes_ops = {.grow = grow};

static np_buffer *wrap(PyObject *bytes) {
    np_buffer *b = np_buffer_wrap(PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes),
                                  &bytes_ops, bytes);
    if (b)
        Py_INCREF(bytes);
    else
        PyErr_NoMemory();
    return b;
}

np_buffer *payload_new(size_t size) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    np_buffer *b = bytes ? wrap(bytes) : NULL;
    PyErr_Clear();
    if (b)
        host_prepare_large_buffer(PyBytes_AS_STRING(bytes), size);
    Py_XDECREF(bytes);
    return b;
}

void payload_discard(np_buffer *buffer) {
    PyObject *owner = np_buffer_owner(buffer);
    np_buffer_free(buffer);
    Py_XDECREF(owner);
}

int payload_get(payload *p, PyObject *object, bool hold) {
    p->hold = NULL;
    p->view.obj = NULL;
    if (PyBytes_CheckExact(object)) {
        p->data = PyBytes_AS_STRING(object);
        p->size = PyBytes_GET_SIZE(object);
    } else {
        if (PyObject_GetBuffer(object, &p->view, PyBUF_SIMPLE) < 0)
            return -1;
        p->data = p->view.buf;
        p->size = p->view.len;
        if (!hold)
            return 0;
        object = PyBytes_FromStringAndSize(p->data, p->size);
        if (object)
            p->hold = wrap(object);
        Py_XDECREF(object);
        if (!p->hold)
            PyBuffer_Release(&p->view);
        return p->hold ? 0 : -1;
    }
    if (hold || p->size >= NP_PAYLOAD_HOLD) {
        p->hold = wrap(object);
        if (!p->hold)
            return -1;
    }
    return 0;
}

void payload_release(payload *p) {
    if (p->hold && np_buffer_drop(p->hold))
        payload_discard(p->hold);
    if (p->view.obj)
        PyBuffer_Release(&p->view);
}

PyObject *payload_message_into(PyObject *last, np_event *event) {
    if (!last || Py_REFCNT(last) != 1 || !PyBytes_CheckExact(last) || event->u.message.buffer
        || (size_t)PyBytes_GET_SIZE(last) != event->u.message.size) {
        Py_XDECREF(last);
        return payload_message(event);
    }
    memcpy(PyBytes_AS_STRING(last), event->u.message.data, event->u.message.size);
    _Py_COMP_DIAG_PUSH
    _Py_COMP_DIAG_IGNORE_DEPR_DECLS((PyBytesObject *)last)
    ->ob_shash = -1;
    _Py_COMP_DIAG_POP
    return last;
}

PyObject *payload_of_buffer(np_event *event) {
    np_buffer *b = event->u.message.buffer;
    PyObject *owner = np_buffer_owner(b);
    if (!owner)
        return PyBytes_FromStringAndSize((const char *)event->u.message.data,
                                         (Py_ssize_t)event->u.message.size);
    event->u.message.buffer = NULL;
    np_buffer_free(b);
    if (PyBytes_GET_SIZE(owner) != (Py_ssize_t)event->u.message.size)
        _PyBytes_Resize(&owner, (Py_ssize_t)event->u.message.size);
    return owner;
}
