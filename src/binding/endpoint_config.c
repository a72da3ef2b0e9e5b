/* Parameters that Server and ClientManager share: one table for the constructor, the attributes
 * and their limits. */
#include "bridge.h"
#include "secrets.h"

static const config_number numbers[] = {
    CONFIG_NUMBER(threads, false, 1, 64),
    CONFIG_NUMBER(message_buffer_size, false, 1, INT32_MAX),
    CONFIG_NUMBER(max_message_size, false, 1, INT64_MAX),
    CONFIG_NUMBER(write_high_water, true, 1, INT64_MAX),
    CONFIG_NUMBER(max_pending_bytes, false, 1, INT64_MAX),
    CONFIG_NUMBER(kernel_buffer_size, true, 1, INT32_MAX),
    CONFIG_NUMBER(spin_us, false, 0, 1000000),
};

static const config_flag flags[] = {
    {"free_threading_events", offsetof(endpoint_object, config.marshalled), true},
    {"continuous_read", offsetof(endpoint_object, config.continuous_read), false},
};

static unsigned long long load(endpoint_object *self, const config_number *n) {
    const char *at = (const char *)self + n->offset;
    np_mutex_lock(&self->guard);
    unsigned long long value = n->bytes == 4 ? *(const uint32_t *)(const void *)at
                                             : *(const uint64_t *)(const void *)at;
    np_mutex_unlock(&self->guard);
    return value;
}

static void store(endpoint_object *self, const config_number *n, unsigned long long value) {
    char *at = (char *)self + n->offset;
    np_mutex_lock(&self->guard);
    if (n->bytes == 4)
        *(uint32_t *)(void *)at = (uint32_t)value;
    else
        *(uint64_t *)(void *)at = value;
    np_mutex_unlock(&self->guard);
}

static bool load_flag(endpoint_object *self, const bool *at) {
    np_mutex_lock(&self->guard);
    bool value = *at;
    np_mutex_unlock(&self->guard);
    return value;
}

static void store_flag(endpoint_object *self, bool *at, bool value) {
    np_mutex_lock(&self->guard);
    *at = value;
    np_mutex_unlock(&self->guard);
}

_Static_assert(sizeof(size_t) == 8 && sizeof(unsigned) == 4, "load and store know these sizes");

/* ---- getters and setters ----------------------------------------------- */

int config_refuse_delete(PyObject *value, const char *name) {
    if (value)
        return 0;
    PyErr_Format(PyExc_AttributeError, "%s can't be deleted", name);
    return -1;
}

PyObject *config_get_number(PyObject *op, void *closure) {
    const config_number *n = closure;
    unsigned long long value = load((endpoint_object *)op, n);
    if (n->optional && value == 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(value);
}

int config_set_number(PyObject *op, PyObject *value, void *closure) {
    const config_number *n = closure;
    if (config_refuse_delete(value, n->name) < 0)
        return -1;
    if (n->optional && value == Py_None) {
        store((endpoint_object *)op, n, 0);
        return 0;
    }
    PyObject *index = PyNumber_Index(value);
    if (!index) {
        PyErr_Format(PyExc_TypeError, "%s must be an int%s, not %R", n->name,
                     n->optional ? " or None" : "", value);
        return -1;
    }
    int overflow;
    long long x = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow || x < 0 || (unsigned long long)x < n->min || (unsigned long long)x > n->max) {
        PyErr_Format(PyExc_ValueError, "%s must be from %llu to %llu%s, not %R", n->name, n->min,
                     n->max, n->optional ? ", or None" : "", value);
        return -1;
    }
    store((endpoint_object *)op, n, (unsigned long long)x);
    return 0;
}

PyObject *config_get_flag(PyObject *op, void *closure) {
    const config_flag *flag = closure;
    bool value = load_flag((endpoint_object *)op, (const bool *)((const char *)op + flag->offset));
    return PyBool_FromLong(value != flag->inverted);
}

int config_set_flag(PyObject *op, PyObject *value, void *closure) {
    const config_flag *flag = closure;
    if (config_refuse_delete(value, flag->name) < 0)
        return -1;
    int truth = PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    store_flag((endpoint_object *)op, (bool *)((char *)op + flag->offset),
               (truth != 0) != flag->inverted);
    return 0;
}

static PyObject *get_mode(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    return PyUnicode_FromString(load_flag(self, &self->config.byte_mode) ? "byte" : "message");
}

static int set_mode(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    if (config_refuse_delete(value, "mode") < 0)
        return -1;
    bool text = PyUnicode_Check(value);
    bool byte = text && PyUnicode_CompareWithASCIIString(value, "byte") == 0;
    if (!byte && !(text && PyUnicode_CompareWithASCIIString(value, "message") == 0)) {
        PyErr_Format(PyExc_ValueError, "mode must be 'message' or 'byte', not %R", value);
        return -1;
    }
    store_flag((endpoint_object *)op, &((endpoint_object *)op)->config.byte_mode, byte);
    return 0;
}

static const config_number message_timeout = CONFIG_NUMBER(message_timeout_ns, false, 0, 0);

static PyObject *get_message_timeout(PyObject *op, void *unused) {
    (void)unused;
    int64_t ns = (int64_t)load((endpoint_object *)op, &message_timeout);
    if (!ns)
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double)ns / 1e9);
}

static int set_message_timeout(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    if (config_refuse_delete(value, "message_timeout") < 0)
        return -1;
    double seconds = value == Py_None ? 0 : PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "message_timeout must be a number of seconds or None, not %R",
                     value);
        return -1;
    }
    if (value != Py_None && !(seconds >= 0.001 && seconds <= 86400)) {
        PyErr_Format(PyExc_ValueError,
                     "message_timeout must be from 0.001 to 86400 seconds, or "
                     "None, not %R",
                     value);
        return -1;
    }
    store((endpoint_object *)op, &message_timeout, (unsigned long long)(int64_t)(seconds * 1e9));
    return 0;
}

/* What was set is not given back. */
static PyObject *get_authkey(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    PyObject *key = guarded_get(&self->guard, &self->authkey);
    Py_XDECREF(key);
    return PyBool_FromLong(key != NULL);
}

static int set_authkey(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    PyObject *key;
    if (config_refuse_delete(value, "authkey") < 0 || secrets_key(self->state, value, &key) < 0)
        return -1;
    guarded_set(&self->guard, &self->authkey, key);
    return 0;
}

/* ---- handlers ---------------------------------------------------------- */

const char *const handler_names[HANDLER_COUNT] = {
    "on_ready", "on_connected",    "on_message", "on_messages",
    "on_sent",  "on_disconnected", "on_drained", "on_error",
};

handler_index handler_find(const char *name) {
    int i = 0;
    while (i < HANDLER_COUNT && strcmp(handler_names[i], name) != 0)
        i++;
    return (handler_index)i;
}

static PyObject *get_handler(PyObject *op, void *closure) {
    handler_index i = handler_find(closure);
    endpoint_object *self = (endpoint_object *)op;
    PyObject *callable = guarded_get(&self->guard, &self->on[i]);
    return callable ? callable : Py_NewRef(Py_None);
}

static bool is_coroutine_function(PyObject *callable) {
    if (PyMethod_Check(callable))
        callable = PyMethod_GET_FUNCTION(callable);
    if (!PyFunction_Check(callable))
        return false;
    int flags = ((PyCodeObject *)PyFunction_GET_CODE(callable))->co_flags;
    return flags & (CO_COROUTINE | CO_ASYNC_GENERATOR);
}

int handler_check(handler_index i, PyObject *value) {
    if (!PyCallable_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable or None, not %R", handler_names[i],
                     value);
        return -1;
    }
    if (is_coroutine_function(value)) {
        PyErr_Format(PyExc_TypeError,
                     "%s must be a plain function: nobody would await what %R "
                     "returns; npipes.aio.serve() takes coroutine functions",
                     handler_names[i], value);
        return -1;
    }
    return 0;
}

static int set_handler(PyObject *op, PyObject *value, void *closure) {
    endpoint_object *self = (endpoint_object *)op;
    handler_index i = handler_find(closure);
    if (value == Py_None)
        value = NULL;
    if (value && handler_check(i, value) < 0)
        return -1;
    guarded_set(&self->guard, &self->on[i], Py_XNewRef(value));
    return 0;
}

/* ---- the table --------------------------------------------------------- */

#define HANDLER(name, text) {name, get_handler, set_handler, text, (void *)name}

PyGetSetDef endpoint_getset[] = {
    {"threads", config_get_number, config_set_number, "Worker threads, 1 to 64.",
     (void *)&numbers[0]},
    {"message_buffer_size", config_get_number, config_set_number,
     "Size of the first read, bytes; never caps a message.", (void *)&numbers[1]},
    {"max_message_size", config_get_number, config_set_number, "Bytes a received message may have.",
     (void *)&numbers[2]},
    {"write_high_water", config_get_number, config_set_number,
     "While more bytes than this wait to go out to a peer, nothing is read from it.  None: off.",
     (void *)&numbers[3]},
    {"max_pending_bytes", config_get_number, config_set_number,
     "Bytes that may wait to go out to one peer.", (void *)&numbers[4]},
    {"kernel_buffer_size", config_get_number, config_set_number,
     "Bytes the system buffers for a connection each way.  None: its default.",
     (void *)&numbers[5]},
    {"spin_us", config_get_number, config_set_number, "Microseconds to poll before sleeping.",
     (void *)&numbers[6]},
    {"free_threading_events", config_get_flag, config_set_flag,
     "True: events run on the workers; False: inside run() and dispatch().", (void *)&flags[0]},
    {"continuous_read", config_get_flag, config_set_flag,
     "False: a message comes for each read() only.", (void *)&flags[1]},
    {"mode", get_mode, set_mode, "'message', or 'byte' for a stream without boundaries.", NULL},
    {"message_timeout", get_message_timeout, set_message_timeout,
     "Seconds in which a message that has begun must end, or 64 KiB of it come.  None: no limit.",
     NULL},
    {"authkey", get_authkey, set_authkey,
     "The key that both ends must have, bytes-like; None: no key.  Reads as whether there is one.",
     NULL},
    HANDLER("on_ready", "on_ready(): once per start, when every worker runs."),
    HANDLER("on_connected", "on_connected(conn)"),
    HANDLER("on_message", "on_message(conn, data, cookie)"),
    HANDLER("on_messages", "on_messages(conn, messages): instead of on_message, batch by batch."),
    HANDLER("on_sent", "on_sent(conn, cookie): a write was handed over whole."),
    HANDLER("on_disconnected", "on_disconnected(conn): the last event of a connection."),
    HANDLER("on_drained", "on_drained(conn): what waits fell below a quarter of the high water."),
    HANDLER("on_error", "on_error(conn_or_None, error): anything that failed."),
    {"connections", endpoint_get_connections, NULL, "List of the connections at this moment.",
     NULL},
    {"is_running", endpoint_get_is_running, NULL, "Between start() and stop().", NULL},
    {"stats", endpoint_get_stats, NULL, "Counters of the current run, or of the last one.", NULL},
    {"wait_handle", endpoint_get_wait_handle, NULL,
     "Windows: handle of an event that is set while events wait for dispatch().  None on other\n"
     "systems, when not running, and with free_threading_events=True.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static bool is_in(const PyGetSetDef *table, const char *name) {
    for (; table->name; table++)
        if (table->set && strcmp(table->name, name) == 0)
            return true;
    return false;
}

/* Keyword arguments are set like attributes, so that a subclass's own attributes
 * and methods keep their place.  Only a Server has an argument by position. */
int endpoint_init(PyObject *op, PyObject *args, PyObject *kwargs) {
    endpoint_object *self = (endpoint_object *)op;
    const endpoint_kind *kind = self->kind;
    PyObject *key, *value;
    Py_ssize_t at = 0, count = PyTuple_GET_SIZE(args);
    bool named = is_in(kind->parameters, "name");
    if (count > named)
        return PyErr_Format(PyExc_TypeError,
                            "%s() takes at most %d argument by position (%zd "
                            "given)",
                            kind->type, named, count),
               -1;
    if (count && PyObject_SetAttrString(op, "name", PyTuple_GET_ITEM(args, 0)) < 0)
        return -1;
    while (kwargs && PyDict_Next(kwargs, &at, &key, &value)) {
        const char *text = PyUnicode_AsUTF8(key);
        if (!text)
            return -1;
        bool known = is_in(endpoint_getset, text) || is_in(kind->parameters, text);
        if (!known || (count && strcmp(text, "name") == 0)) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected argument '%s'", kind->type, text);
            return -1;
        }
        if (PyObject_SetAttr(op, key, value) < 0)
            return -1;
    }
    if (named && !self->name) {
        PyErr_Format(PyExc_TypeError, "%s() misses the argument 'name'", kind->type);
        return -1;
    }
    return 0;
}
