/* What the files of the binding share: the module's state, its types, and the
 * compatibility of CPython versions. */
#ifndef NP_STATE_H
#define NP_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "atomic.h"
#include "npipes.h"
#include "sync.h"

typedef struct bridge bridge;
typedef struct aio aio;
typedef struct endpoint_object endpoint_object;

typedef struct module_state {
    PyObject *pipe_error;               /* PipeError, and its kinds by engine code */
    PyObject *closed_error, *reset_error, *too_large_error, *protocol_error, *queue_full_error,
        *access_error, *timeout_error, *eof_error, *not_found_error, *busy_error;
    PyTypeObject *endpoint_type, *server_type, *manager_type;
    PyTypeObject *connection_type, *server_connection_type, *client_connection_type;
    PyTypeObject *peer_type, *stats_type, *client_type, *listener_type;
    PyTypeObject *aio_connection_type, *waiter_type;
    PyObject *cancelled_error, *invalid_state_error;    /* asyncio's; NULL before aio_attach */
    PyObject *stop_iteration, *get_none;    /* used again and again by awaitables */
    PyObject *str_blocking, *str_get_loop;
    PyObject *str_operation, *str_cookie;
    /* NULL until the first key: secrets.c. */
    PyObject *authentication_error, *random, *hmac, *compare;
    /* Of npipes.payload and pickle, once reader_prepare was called. */
    PyObject *payload_error, *payload_dumps, *payload_usual, *pickle_loads;
    PyTypeObject *payload_name, *payload_reading;
    np_atomic_u32 expects_large;        /* host_expect_large_messages was called */
    np_mutex lock;                      /* guards running, `listed` and next_running of each, and
                                           the first time of what is imported when it is needed */
    endpoint_object *running;           /* every started one; a list through next_running */
} module_state;

extern struct PyModuleDef npipes_module;

static inline module_state *state_of_module(PyObject *module) {
    return (module_state *)PyModule_GetState(module);
}

/* The state behind an instance of one of our types or of a subclass. */
module_state *state_of(PyObject *instance);

/* ---- guards ------------------------------------------------------------ */

/* An object's guard is held for a moment only, and nothing of Python's runs
 * meanwhile: it is there for interpreters without a GIL, and says what belongs
 * together for the others. */

/* A new reference to what a guarded field has, or NULL. */
static inline PyObject *guarded_get(np_mutex *guard, PyObject *const *field) {
    np_mutex_lock(guard);
    PyObject *value = Py_XNewRef(*field);
    np_mutex_unlock(guard);
    return value;
}

/* Takes over the reference to value, which may be NULL. */
static inline void guarded_set(np_mutex *guard, PyObject **field, PyObject *value) {
    np_mutex_lock(guard);
    PyObject *old = *field;
    *field = value;
    np_mutex_unlock(guard);
    Py_XDECREF(old);
}

/* Keeps what was imported, takes over the reference.  Another thread may have been
 * faster; that one's is kept then.  -1: value is NULL. */
static inline int state_keep(module_state *state, PyObject **slot, PyObject *value) {
    if (!value)
        return -1;
    np_mutex_lock(&state->lock);
    bool first = !*slot;
    if (first)
        *slot = value;
    np_mutex_unlock(&state->lock);
    if (!first)
        Py_DECREF(value);
    return 0;
}

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
    bool takes_self;        /* a function of the object's class: called with it first */
} handler;

/* ---- endpoint.c, endpoint_config.c, endpoint_run.c --------------------- */

/* What Server and ClientManager, the two that have endpoints, do not share. */
typedef struct endpoint_kind {
    const char *type, *noun;            /* "Server", "server" */
    const PyGetSetDef *parameters;      /* beside those of both */
    /* Starts a run with endpoint_open; NULL with an exception set on failure. */
    PyObject *(*open)(endpoint_object *self);
} endpoint_kind;

struct endpoint_object {
    PyObject_HEAD
    PyObject *weakrefs;
    /* -- constant -- */
    module_state *state;
    const endpoint_kind *kind;
    PyObject *live;                     /* set of the connections that are connected */
    PyObject *dialed;                   /* set of what connect() made, until it ends for good */
    bridge *bridge;                     /* host of this object's endpoints */
    aio *aio;                           /* the event loop's side, or NULL; before start() */
    /* -- guard -- */
    np_mutex guard;
    PyObject *name, *access;            /* a Server's */
    np_config config;
    PyObject *authkey;                  /* bytes, or NULL: the parameter */
    PyObject *on[HANDLER_COUNT];        /* as given */
    handler resolved[HANDLER_COUNT];    /* as start() found them */
    np_endpoint *endpoint;              /* of the current run, or NULL */
    /* -- atomic -- */
    np_atomic_u32 handled;              /* bits: resolved has one */
    np_atomic_u32 changes;              /* of resolved */
    np_atomic_u32 starting;             /* a thread is inside start() */
    np_atomic_u32 stopping;             /* threads inside stop() */
    /* -- of the thread inside start(), then constant while it runs -- */
    PyObject *key;                      /* the current run's authkey */
    /* -- state->lock -- */
    bool listed;
    endpoint_object *next_running;
};

/* A reference to the endpoint of the current run, or of the last one; NULL: there
 * was none. */
np_endpoint *endpoint_current(endpoint_object *self);
/* One of resolved; the reference to its callable is the caller's.  NULL: none. */
handler endpoint_handler(endpoint_object *self, handler_index i);

static inline bool endpoint_handles(const endpoint_object *self, handler_index i) {
    return np_load32(&self->handled) >> i & 1;
}

extern PyType_Spec endpoint_spec;
extern PyGetSetDef endpoint_getset[];
/* tp_new of both; tp_init takes the keyword arguments. */
PyObject *endpoint_new(PyTypeObject *type, const endpoint_kind *kind);
int endpoint_init(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *endpoint_start(PyObject *self, PyObject *unused);
PyObject *endpoint_stop(PyObject *self, PyObject *unused);
PyObject *endpoint_run(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *endpoint_dispatch(PyObject *self, PyObject *args, PyObject *kwargs);
PyObject *endpoint_quit(PyObject *self, PyObject *unused);
PyObject *endpoint_fileno(PyObject *self, PyObject *unused);
/* A run that listens on `name`, or, where that is NULL, only connects.  The caller
 * keeps name, encoded and the texts of config, which the object may change meanwhile. */
PyObject *endpoint_open(endpoint_object *self, const np_config *config, PyObject *name,
                        const char *encoded);
/* Stops without raising; at interpreter exit it does not wait for ever. */
void endpoint_stop_quietly(endpoint_object *self, int64_t timeout_ns);
/* Re-reads one handler while the endpoint runs. */
int endpoint_resolve_handler(endpoint_object *self, handler_index i);
/* Whether it can be one, else an exception and -1. */
int handler_check(handler_index i, PyObject *value);
handler_index handler_find(const char *name);
/* Takes it out of the list of those that the interpreter's exit stops. */
void endpoint_unlist(endpoint_object *self);
/* Seconds as nanoseconds; None is -1.  -1 with an exception set. */
int endpoint_timeout(PyObject *value, int64_t *out);
PyObject *endpoint_get_connections(PyObject *self, void *unused);
PyObject *endpoint_get_is_running(PyObject *self, void *unused);
PyObject *endpoint_get_stats(PyObject *self, void *unused);
PyObject *endpoint_get_wait_handle(PyObject *self, void *unused);

/* A parameter that is a number, as the closure of these two. */
typedef struct config_number {
    const char *name;
    size_t offset;
    unsigned char bytes;                /* of the field: 4 or 8 */
    bool optional;                      /* None is 0 */
    unsigned long long min, max;
} config_number;

#define CONFIG_NUMBER(member, ...)                      \
    {#member, offsetof(endpoint_object, config.member), \
     sizeof(((endpoint_object *)0)->config.member), __VA_ARGS__}

PyObject *config_get_number(PyObject *self, void *number);
int config_set_number(PyObject *self, PyObject *value, void *number);

/* A parameter that is a bool, likewise. */
typedef struct config_flag {
    const char *name;
    size_t offset;
    bool inverted;                      /* the field says the opposite */
} config_flag;

PyObject *config_get_flag(PyObject *self, void *flag);
int config_set_flag(PyObject *self, PyObject *value, void *flag);
/* No parameter can be deleted: -1 with an exception set if value is NULL. */
int config_refuse_delete(PyObject *value, const char *name);

/* ---- server.c, manager.c ----------------------------------------------- */

extern PyType_Spec server_spec, server_connection_spec, manager_spec, client_connection_spec;
/* What `access` means, but for the text of SDDL; -1 with an exception set. */
int config_access(np_config *config, PyObject *value);
/* That text, which is value's; -1 with an exception set. */
int config_access_text(np_config *config, PyObject *value);
int config_server_owner(PyObject *value, bool *owner_only);

/* ---- connection.c ------------------------------------------------------ */

typedef struct connection_object {
    PyObject_HEAD
    PyObject *weakrefs;
    module_state *state;
    np_connection *connection;
    bridge *bridge;
    bool dialed;                        /* a client's */
    bool lost;                          /* a message, for want of memory: it is being closed, and
                                           gets none that came behind; the delivering thread's */
    PyObject *custom_data;              /* Python's own way to a member guards it */
    /* -- guard -- */
    np_mutex guard;
    unsigned lives;                     /* how often it was connected before */
    PyObject *error, *peer;
} connection_object;

extern PyType_Spec connection_spec;
/* Both kinds of connection have them as their own, too: CPython's fast ways to
 * call a method are for instances of exactly the type it is found in. */
extern PyMethodDef connection_methods[];
/* Without a connection of the engine's yet, which connection_take gives it. */
connection_object *connection_new(module_state *state, PyTypeObject *type, bridge *bridge);
void connection_take(connection_object *self, np_connection *connection);
int connection_traverse(PyObject *self, visitproc visit, void *arg);
int connection_clear(PyObject *self);
void connection_dealloc(PyObject *self);
PyObject *connection_repr(PyObject *self);
PyObject *connection_get_handle(PyObject *self, void *unused);
PyObject *connection_get_pending(PyObject *self, void *unused);
PyObject *connection_get_error(PyObject *self, void *unused);
PyObject *connection_get_peer(PyObject *self, void *unused);
PyObject *peer_new(module_state *state, const np_peer *who);     /* a Peer */
/* The Server or ClientManager, or None. */
PyObject *connection_get_endpoint(PyObject *self, void *unused);

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
PyObject *payload_of_buffer(np_event *event);
/* The message of an event as bytes; takes the buffer out of it where it can. */
static inline PyObject *payload_message(np_event *event) {
    return event->u.message.buffer ? payload_of_buffer(event)
                                   : PyBytes_FromStringAndSize((const char *)event->u.message.data,
                                                               (Py_ssize_t)event->u.message.size);
}
/* The same in the memory of the message before it (or NULL), whose reference it
 * takes over, where nobody else has one and the size is the same: making and
 * freeing bytes costs a fifth of a small message. */
PyObject *payload_message_into(PyObject *last, np_event *event);

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
/* An error that nobody is there for: a warning of the logger npipes. */
void errors_log(PyObject *error);

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
/* A packet to a completion port; false: that failed, or there are none here. */
bool host_post(intptr_t port, intptr_t address);
/* multiprocessing.connection's name for the kind of address there is. */
extern const char host_family[];
/* Before a blocking call of this thread waits: np_wait.interrupt.  0 unless it is the main
 * thread, as no other runs signal handlers. */
intptr_t host_interrupt(void);
PyAPI_FUNC(int) _PyOS_IsMainThread(void);       /* not in every version's Python.h */
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

/* From bytes in two's complement, the lowest first. */
static inline PyObject *long_from_bytes(const void *data, size_t size) {
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromNativeBytes(data, size, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    return _PyLong_FromByteArray(data, size, 1, 1);
#endif
}

/* A new reference to what other threads may be destroying: false if they are.  Whoever
 * calls it keeps them from freeing it.  With a GIL whatever can still be found is alive. */
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
static inline bool try_reference(PyObject *object) { return PyUnstable_TryIncRef(object); }
static inline void allow_try_reference(PyObject *object) { PyUnstable_EnableTryIncRef(object); }
#else
static inline bool try_reference(PyObject *object) {
    Py_INCREF(object);
    return true;
}
static inline void allow_try_reference(PyObject *object) { (void)object; }
#endif

static inline void put_exception(PyObject *exception) {
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exception);
#else
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
#endif
}

#endif
