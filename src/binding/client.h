/* What the files of the blocking side share: Client, Listener and the functions
 * that make them. */
#ifndef NP_CLIENT_H
#define NP_CLIENT_H

#include "blocking.h"
#include "state.h"

/* ---- patience.c: timeouts and Ctrl-C ----------------------------------- */

typedef struct patience {
    np_wait wait;
    int64_t timeout_ns;         /* as it was asked for */
} patience;

/* timeout: seconds, None or NULL (for ever).  -1 with an exception. */
int patience_begin(patience *p, PyObject *timeout);
/* Before the first wait without the GIL.  -1: a signal handler has raised. */
int patience_prepare(patience *p);
/* A step was interrupted.  -1: a signal handler has raised. */
int patience_signals(patience *p);
/* Fills in what only the binding knows of an error. */
void patience_explain(const patience *p, np_error *error);

/* ---- client.c ---------------------------------------------------------- */

typedef struct client_object {
    PyObject_HEAD
    PyObject *weakrefs;
    module_state *state;
    np_channel *channel;
    PyObject *address;          /* bytes, as the system has it */
    PyObject *reading;          /* what recv() may make; NULL: the usual */
    bool readable, writable;
} client_object;

extern PyType_Spec client_spec;
/* Takes over the channel, in every case. */
PyObject *client_new(module_state *state, np_channel *channel, const char *address,
                     uint64_t max_message_size, PyObject *reading);
PyObject *client_raise(client_object *self, np_error *error, const patience *p);
/* Takes a turn, waiting for it if need be.  -1 with an exception. */
typedef np_code begin_function(np_channel *c, const np_wait *wait, np_error *error);
int client_begin(client_object *self, begin_function *begin, patience *p);
int client_check_readable(client_object *self);
int client_check_writable(client_object *self);

/* ---- client_receive.c -------------------------------------------------- */

PyObject *client_recv_bytes(PyObject *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *names);
PyObject *client_recv_bytes_into(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *client_recv_many(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *client_recv(PyObject *self, PyObject *args, PyObject *kwargs);
/* One message as bytes; with the receiving turn. */
PyObject *client_receive(client_object *self, patience *p, uint64_t limit);

/* ---- client_send.c ----------------------------------------------------- */

PyObject *client_send_bytes(PyObject *self, PyObject *const *args, Py_ssize_t count,
                            PyObject *names);
PyObject *client_send_many(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *client_send(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *client_call(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *client_call_on(PyObject *self, PyObject *args);

/* ---- listener.c -------------------------------------------------------- */

typedef struct listener_object {
    PyObject_HEAD
    PyObject *weakrefs;
    module_state *state;
    np_door *door;              /* NULL until __init__ */
    PyObject *address;          /* bytes, as the system has it */
    PyObject *reading;          /* of the Clients; NULL: the usual */
    uint64_t max_message_size;
    PyObject *authkey;          /* bytes, or NULL */
} listener_object;

extern PyType_Spec listener_spec;

/* ---- blocking.c: functions of the module ------------------------------- */

PyObject *blocking_connect(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *blocking_pipe(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *blocking_adopt(PyObject *module, PyObject *args);
/* An address for a name; -1 with an exception. */
int blocking_address(PyObject *name, char out[NP_ADDRESS_MAX]);
/* Converter of PyArg_Parse for a uint64_t. */
int blocking_size(PyObject *value, void *out);

extern const char blocking_connect_doc[], blocking_pipe_doc[];

#define BLOCKING_FUNCTIONS                                                                   \
    {"connect", (PyCFunction)(void (*)(void))blocking_connect, METH_VARARGS | METH_KEYWORDS, \
     blocking_connect_doc},                                                                  \
        {"Pipe", (PyCFunction)(void (*)(void))blocking_pipe, METH_VARARGS | METH_KEYWORDS,   \
         blocking_pipe_doc},                                                                 \
    {                                                                                        \
        "_adopt", blocking_adopt, METH_VARARGS, NULL                                         \
    }

#endif
