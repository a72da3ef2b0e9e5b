#include "state.h"

const bool host_has_descriptors = true;

/* A signal ends epoll's wait by itself. */
void interrupt_watch_begin(interrupt_watch *watch, np_endpoint *endpoint) {
    watch->endpoint = endpoint;
}

void interrupt_watch_end(interrupt_watch *watch) { watch->endpoint = NULL; }

PyObject *host_os_error(PyObject *type, int os, const char *text, PyObject *filename) {
    if (filename)
        return PyObject_CallFunction(type, "isO", os, text ? text : strerror(os), filename);
    return PyObject_CallFunction(type, "is", os, text ? text : strerror(os));
}
