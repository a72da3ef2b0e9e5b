/* The module npipes._npipes: its types, functions and its end. */
#include "client.h"
#include "aio.h"
#include "reader.h"

/* A handler that never returns must not keep the interpreter from exiting. */
#define EXIT_PATIENCE_NS INT64_C(5000000000)

module_state *state_of(PyObject *instance) {
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(instance), &npipes_module);
    return module ? state_of_module(module) : NULL;
}

/* ---- functions --------------------------------------------------------- */

static PyObject *address(PyObject *module, PyObject *name) {
    (void)module;
    PyObject *encoded = NULL;
    char out[NP_ADDRESS_MAX];
    np_error error = {0};
    if (!PyUnicode_FSConverter(name, &encoded))
        return NULL;
    error.code = np_address(PyBytes_AS_STRING(encoded), out, sizeof out, &error);
    Py_DECREF(encoded);
    if (error.code != NP_OK)
        return errors_raise_start(&error, name, "");
    return PyUnicode_DecodeFSDefault(out);
}

/* Every server and manager that still runs is stopped while the interpreter is whole:
 * afterwards no thread could take the GIL any more. */
static PyObject *stop_all(PyObject *module, PyObject *unused) {
    (void)unused;
    module_state *state = state_of_module(module);
    for (;;) {
        np_mutex_lock(&state->lock);
        endpoint_object *object = (endpoint_object *)Py_XNewRef((PyObject *)state->running);
        np_mutex_unlock(&state->lock);
        if (!object)
            break;
        endpoint_unlist(object);
        endpoint_stop_quietly(object, EXIT_PATIENCE_NS);
        Py_DECREF(object);
    }
    Py_RETURN_NONE;
}

/* The engine has seen the fork itself. */
static PyObject *after_fork_in_child(PyObject *module, PyObject *unused) {
    (void)unused;
    module_state *state = state_of_module(module);
    np_mutex_init(&state->lock);    /* a thread that is not here may have had it */
    while (state->running)
        endpoint_unlist(state->running);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"address", address, METH_O,
     "address($module, name, /)\n--\n\n"
     "The address the operating system knows a pipe name by.  Creates nothing.  Raises ValueError\n"
     "for a name that is empty, too long or has characters a name can't have."},
    BLOCKING_FUNCTIONS,
    {"_read", reader_function, METH_VARARGS, NULL},
    {"_stop_all", stop_all, METH_NOARGS, NULL},
    {"_after_fork_in_child", after_fork_in_child, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- making ------------------------------------------------------------ */

static PyStructSequence_Field peer_fields[] = {
    {"pid", "process id, or None"},       {"uid", "user id; None on Windows"},
    {"gid", "group id; None on Windows"}, {"sid", "security identifier; None on Linux"},
    {"user", "user name, or None"},       {NULL, NULL},
};

static PyStructSequence_Desc peer_desc = {
    "npipes.Peer",
    "Who the other end of a connection is.",
    peer_fields,
    5,
};

static PyStructSequence_Field stats_fields[] = {
    {"connections", "connected now"},
    {"connections_total", "connected ever, in this run"},
    {"messages_in", "messages received"},
    {"messages_out", "messages handed over"},
    {"bytes_in", "bytes of the messages received"},
    {"bytes_out", "bytes of the messages handed over"},
    {"queued_bytes", "bytes that wait to go out, headers included"},
    {"queued_events", "events that wait for run() or dispatch()"},
    {"errors", "errors reported"},
    {NULL, NULL},
};

static PyStructSequence_Desc stats_desc = {
    "npipes.Stats",
    "Counters of a server, or of a manager of clients.",
    stats_fields,
    9,
};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base) {
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, (PyObject *)base);
    if (type && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

static PyTypeObject *add_sequence(PyObject *module, PyStructSequence_Desc *desc) {
    PyTypeObject *type = PyStructSequence_NewType(desc);
    if (type && PyModule_AddType(module, type) < 0)
        Py_CLEAR(type);
    return type;
}

/* Has `function` of this module called at the interpreter's exit or fork. */
static int add_hook(PyObject *module, const char *where, const char *what, const char *keyword,
                    const char *function) {
    PyObject *hooks = PyImport_ImportModule(where);
    PyObject *callable = PyObject_GetAttrString(module, function);
    PyObject *add = hooks ? PyObject_GetAttrString(hooks, what) : NULL;
    PyObject *r = NULL;
    if (add && callable && keyword) {
        PyObject *args = PyTuple_New(0), *kwargs = Py_BuildValue("{s:O}", keyword, callable);
        r = args && kwargs ? PyObject_Call(add, args, kwargs) : NULL;
        Py_XDECREF(args);
        Py_XDECREF(kwargs);
    } else if (add && callable) {
        r = PyObject_CallOneArg(add, callable);
    }
    Py_XDECREF(r);
    Py_XDECREF(add);
    Py_XDECREF(callable);
    Py_XDECREF(hooks);
    return r ? 0 : -1;
}

static int add_hooks(PyObject *module) {
    if (add_hook(module, "atexit", "register", NULL, "_stop_all") < 0)
        return -1;
    if (!host_has_descriptors)
        return 0;
    return add_hook(module, "os", "register_at_fork", "after_in_child", "_after_fork_in_child");
}

static int add_types(PyObject *module, module_state *s) {
    const struct {
        PyTypeObject **slot;
        PyType_Spec *spec;
        PyTypeObject **base;
    } types[] = {
        {&s->connection_type, &connection_spec, NULL},
        {&s->server_connection_type, &server_connection_spec, &s->connection_type},
        {&s->client_connection_type, &client_connection_spec, &s->connection_type},
        {&s->endpoint_type, &endpoint_spec, NULL},
        {&s->server_type, &server_spec, &s->endpoint_type},
        {&s->manager_type, &manager_spec, &s->endpoint_type},
        {&s->client_type, &client_spec, NULL},
        {&s->listener_type, &listener_spec, NULL},
        {&s->aio_connection_type, &aio_connection_spec, NULL},
        {&s->waiter_type, &waiter_spec, NULL},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        *types[i].slot = add_type(module, types[i].spec, types[i].base ? *types[i].base : NULL);
        if (!*types[i].slot)
            return -1;
    }
    return 0;
}

static int exec(PyObject *module) {
    module_state *s = state_of_module(module);
    np_mutex_init(&s->lock);
    s->str_operation = PyUnicode_InternFromString("operation");
    s->str_cookie = PyUnicode_InternFromString("cookie");
    s->str_blocking = PyUnicode_InternFromString("_asyncio_future_blocking");
    s->str_get_loop = PyUnicode_InternFromString("get_loop");
    s->get_none = waiter_make_getter(Py_None);
    if (add_types(module, s) < 0)
        return -1;
    s->peer_type = add_sequence(module, &peer_desc);
    s->stats_type = add_sequence(module, &stats_desc);
    if (!s->str_operation || !s->str_cookie || !s->str_blocking || !s->str_get_loop || !s->get_none
        || !s->peer_type || !s->stats_type)
        return -1;
    return errors_init(module, s) < 0 ? -1 : add_hooks(module);
}

/* Every object that the state owns, for traverse and clear. */
#define STATE_OBJECTS(s)                                                                           \
    (PyObject * *[]) {                                                                             \
        &(s)->pipe_error, &(s)->closed_error, &(s)->reset_error, &(s)->too_large_error,            \
            &(s)->protocol_error, &(s)->queue_full_error, &(s)->access_error, &(s)->timeout_error, \
            &(s)->eof_error, &(s)->not_found_error, &(s)->busy_error,                              \
            (PyObject **)&(s)->client_type, (PyObject **)&(s)->listener_type,                      \
            (PyObject **)&(s)->endpoint_type, (PyObject **)&(s)->server_type,                      \
            (PyObject **)&(s)->manager_type, (PyObject **)&(s)->connection_type,                   \
            (PyObject **)&(s)->server_connection_type, (PyObject **)&(s)->client_connection_type,  \
            (PyObject **)&(s)->peer_type, &(s)->authentication_error, &(s)->random, &(s)->hmac,    \
            &(s)->compare, (PyObject **)&(s)->stats_type, (PyObject **)&(s)->aio_connection_type,  \
            (PyObject **)&(s)->waiter_type, &(s)->cancelled_error, &(s)->invalid_state_error,      \
            &(s)->stop_iteration, &(s)->get_none, &(s)->str_blocking, &(s)->str_get_loop,          \
            &(s)->str_operation, &(s)->str_cookie, &(s)->payload_error, &(s)->payload_dumps,       \
            &(s)->payload_usual, &(s)->pickle_loads, (PyObject **)&(s)->payload_name,              \
            (PyObject **)&(s)->payload_reading, NULL                                               \
    }

static int traverse(PyObject *module, visitproc visit, void *arg) {
    module_state *s = state_of_module(module);
    for (PyObject ***at = STATE_OBJECTS(s); *at; at++)
        Py_VISIT(**at);
    return 0;
}

static int clear(PyObject *module) {
    module_state *s = state_of_module(module);
    for (PyObject ***at = STATE_OBJECTS(s); *at; at++)
        Py_CLEAR(**at);
    return 0;
}

static void module_free(void *module) { clear(module); }

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, exec},
#if PY_VERSION_HEX >= 0x030D0000
    /* 3.12 frees wrongly what modules had in interpreters with a GIL of their own. */
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef NP_NO_GIL
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef npipes_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "npipes._npipes",
    .m_doc = "The engine of npipes as Python types.",
    .m_size = sizeof(module_state),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__npipes(void) { return PyModuleDef_Init(&npipes_module); }
