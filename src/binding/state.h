/* What the files of the binding share: the module's state, its types, and the
 * compatibility of CPython versions. */
#ifndef NP_STATE_H
#define NP_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "npipes.h"

typedef struct bridge bridge;
typedef struct server_object server_object;

typedef struct module_state {
    PyObject *pipe_error;               /* PipeError, and its kinds by engine code */
    PyObject *closed_error, *reset_error, *too_large_error, *protocol_error, *queue_full_error,
        *access_error, *timeout_error, *eof_error, *not_found_error, *busy_error;
    PyTypeObject *server_type, *connection_type, *peer_type, *stats_type;
    PyTypeObject *client_type, *listener_type;
    PyObject *str_operation, *str_cookie;
    bool expects_large;                 /* host_expect_large_messages was called */
    server_object *running;             /* every started server; a list through next_running */
} module_state;

extern struct PyModuleDef npipes_module;

static inline module_state *state_of_module(PyObject *module) {
    return (module_state *)PyModule_GetState(module);
}

/* The state behind an instance of one of our types or of a subclass. */
module_state *state_of(PyObject *instance);

/* ---- events ------------------------------------------------------------ */

typedef enum handler_index {
    ON_READY,
    ON_CONNECTED,
    ON_MESSAGE,
    ON_MESSAGES,
    ON_SENT,
    ON_DISCONNECTED,
    ON_DRAINED,
    ON_ERROR,
    HANDLER_COUNT
} handler_index;

extern const char *const handler_names[HANDLER_COUNT];

typedef struct handler {
    PyObject *callable;
    bool takes_server;      /* a function of the server's class: called with it first */
} handler;

/* ---- server.c, server_config.c, server_run.c --------------------------- */

struct server_object {
    PyObject_HEAD
    PyObject *weakrefs;
    module_state *state;
    PyObject *name, *access;
    np_config config;
    PyObject *on[HANDLER_COUNT];        /* as given */
    handler resolved[HANDLER_COUNT];    /* as start() found them */
    PyObject *live;                     /* set of connected ServerConnections */
    np_endpoint *endpoint;              /* of the current run, or NULL */
    bridge *bridge;                     /* host of this server's endpoints */
    PyObject *address;
    bool starting, listed;
    server_object *next_running;
};

extern PyType_Spec server_spec;
extern PyGetSetDef server_getset[];
PyObject *server_start(PyObject *self, PyObject *unused);
PyObject *server_stop(PyObject *self, PyObject *unused);
PyObject *server_run(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *server_dispatch(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *server_quit(PyObject *self, PyObject *unused);
PyObject *server_fileno(PyObject *self, PyObject *unused);
/* Stops without raising; at interpreter exit it does not wait for ever. */
void server_stop_quietly(server_object *self, int64_t timeout_ns);
/* Re-reads one handler while the server runs. */
int server_resolve_handler(server_object *self, handler_index i);
/* Keyword arguments of the constructor; -1 with an exception set. */
int server_configure(server_object *self, PyObject *args, PyObject *kwargs);
/* What `access` means, but for the text of SDDL; -1 with an exception set. */
int config_access(np_config *config, PyObject *value);
/* Refuses what is not None. */
int config_authkey(PyObject *value);
handler_index handler_find(const char *name);
/* Takes it out of the list of servers that the interpreter's exit stops. */
void server_unlist(server_object *self);
PyObject *server_get_connections(PyObject *self, void *unused);
PyObject *server_get_is_running(PyObject *self, void *unused);
PyObject *server_get_address(PyObject *self, void *unused);
PyObject *server_get_stats(PyObject *self, void *unused);
PyObject *server_get_wait_handle(PyObject *self, void *unused);

/* ---- connection.c ------------------------------------------------------ */

typedef struct connection_object {
    PyObject_HEAD
    PyObject *weakrefs;
    module_state *state;
    np_connection *connection;
    bridge *bridge;
    PyObject *custom_data, *error, *peer;
} connection_object;

extern PyType_Spec connection_spec;
connection_object *connection_new(module_state *state, np_connection *connection, bridge *bridge);

/* ---- payload.c --------------------------------------------------------- */

/* A bytes-like argument on its way to the engine. */
typedef struct payload {
    Py_buffer view;
    const void *data;
    Py_ssize_t size;
    np_buffer *hold;        /* not NULL: the engine may keep the bytes object */
} payload;

enum { NP_PAYLOAD_HOLD = 64 * 1024 };

/* hold: at any size (broadcast); else from NP_PAYLOAD_HOLD bytes on. */
int payload_get(payload *p, PyObject *object, bool hold);
void payload_release(payload *p);
/* Python's owner of a buffer whose last reference is gone. */
void payload_discard(np_buffer *buffer);
/* Memory for a large message. */
np_buffer *payload_new(size_t size);
/* The message of an event as bytes; takes the buffer out of it where it can. */
PyObject *payload_message(np_event *event);

/* ---- errors.c ---------------------------------------------------------- */

int errors_init(PyObject *module, module_state *state);
/* The exception for an engine error of a connection; subject is its address. */
PyObject *errors_make(module_state *state, const np_error *error, const char *subject,
                      PyObject *cookie);
/* Sets it; always NULL. */
PyObject *errors_raise(module_state *state, const np_error *error, const char *subject);
/* What start() and address() raise: ValueError, FileExistsError, OSError. */
PyObject *errors_raise_start(const np_error *error, PyObject *name, const char *address);
const char *errors_activity(np_activity activity);

/* ---- host.c, per platform ---------------------------------------------- */

/* While alive, Ctrl-C in the main thread interrupts the endpoint's guest. */
typedef struct interrupt_watch {
    np_endpoint *endpoint;
    void *wait;
} interrupt_watch;
void interrupt_watch_begin(interrupt_watch *watch, np_endpoint *endpoint);
void interrupt_watch_end(interrupt_watch *watch);
/* Once, before the first large message's memory is allocated. */
void host_expect_large_messages(void);
/* After memory for a message was allocated, before it is filled. */
void host_prepare_large_buffer(void *data, size_t size);
/* Whether np_endpoint_waitable is a descriptor (else a handle). */
extern const bool host_has_descriptors;
/* Before a blocking call of this thread waits: what Ctrl-C sets (np_wait.interrupt). */
intptr_t host_interrupt(void);
/* The OSError of a system error; value, exception set on failure. */
PyObject *host_os_error(PyObject *type, int os, const char *text, PyObject *filename);

/* ---- versions ---------------------------------------------------------- */

static inline PyObject *take_exception(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

static inline void put_exception(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
#endif
}

#endif
