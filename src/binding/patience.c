/* How long a blocking call waits, and what a signal does to it. */
#include "client.h"

#define LONGEST_S 1e9

int patience_begin(patience *p, PyObject *timeout) {
    *p = (patience){.wait = {.deadline = NP_FOREVER}, .timeout_ns = -1};
    if (!timeout || timeout == Py_None)
        return 0;
    double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError, "timeout must be None or at least 0 seconds, not %R",
                     timeout);
        return -1;
    }
    if (seconds < LONGEST_S) {
        p->timeout_ns = (int64_t)(seconds * 1e9);
        p->wait.deadline = np_clock() + p->timeout_ns;
    }
    return 0;
}

/* A signal that came before the event was reset has been noted by then. */
int patience_prepare(patience *p) {
    p->wait.interrupt = host_interrupt();
    return p->wait.interrupt ? PyErr_CheckSignals() : 0;
}

int patience_signals(patience *p) {
    p->wait.interrupt = host_interrupt();
    return PyErr_CheckSignals();
}

void patience_explain(const patience *p, np_error *error) {
    if (error->code != NP_E_TIMEOUT)
        return;
    error->limit = error->value;
    error->value = p->timeout_ns < 0 ? 0 : (uint64_t)p->timeout_ns;
}
