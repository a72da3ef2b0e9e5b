/* Parameters of npipes.Server: one table for the constructor, the attributes
 * and their limits. */
#include "bridge.h"

typedef struct number {
    const char *name;
    size_t offset;
    unsigned char bytes;        /* of the field: 1, 4 or 8 */
    bool optional;              /* None is 0 */
    unsigned long long min, max;
} number;

#define FIELD(member) \
    offsetof(server_object, config.member), sizeof(((server_object *)0)->config.member)

static const number numbers[] = {
    {"threads", FIELD(threads), false, 1, 64},
    {"message_buffer_size", FIELD(message_buffer_size), false, 1, INT32_MAX},
    {"max_instances", FIELD(max_instances), true, 1, INT32_MAX},
    {"listeners", FIELD(listeners), false, 1, 255},
    {"max_message_size", FIELD(max_message_size), false, 1, INT64_MAX},
    {"write_high_water", FIELD(write_high_water), true, 1, INT64_MAX},
    {"max_pending_bytes", FIELD(max_pending_bytes), false, 1, INT64_MAX},
    {"kernel_buffer_size", FIELD(kernel_buffer_size), true, 1, INT32_MAX},
    {"spin_us", FIELD(spin_us), false, 0, 1000000},
};

static unsigned long long load(const server_object *self, const number *n) {
    const char *at = (const char *)self + n->offset;
    return n->bytes == 4 ? *(const uint32_t *)(const void *)at
                         : *(const uint64_t *)(const void *)at;
}

static void store(server_object *self, const number *n, unsigned long long value) {
    char *at = (char *)self + n->offset;
    if (n->bytes == 4)
        *(uint32_t *)(void *)at = (uint32_t)value;
    else
        *(uint64_t *)(void *)at = value;
}

_Static_assert(sizeof(size_t) == 8 && sizeof(unsigned) == 4, "load and store know these sizes");

/* ---- getters and setters ----------------------------------------------- */

static int refuse_delete(PyObject *value, const char *name) {
    if (value)
        return 0;
    PyErr_Format(PyExc_AttributeError, "%s can't be deleted", name);
    return -1;
}

static PyObject *get_number(PyObject *op, void *closure) {
    const number *n = closure;
    unsigned long long value = load((server_object *)op, n);
    if (n->optional && value == 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(value);
}

static int set_number(PyObject *op, PyObject *value, void *closure) {
    const number *n = closure;
    if (refuse_delete(value, n->name) < 0)
        return -1;
    if (n->optional && value == Py_None) {
        store((server_object *)op, n, 0);
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
    store((server_object *)op, n, (unsigned long long)x);
    return 0;
}

static PyObject *get_flag(PyObject *op, void *closure) {
    server_object *self = (server_object *)op;
    bool continuous = closure != NULL;
    return PyBool_FromLong(continuous ? self->config.continuous_read : !self->config.marshalled);
}

static int set_flag(PyObject *op, PyObject *value, void *closure) {
    server_object *self = (server_object *)op;
    bool continuous = closure != NULL;
    if (refuse_delete(value, continuous ? "continuous_read" : "free_threading_events") < 0)
        return -1;
    int truth = PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    if (continuous)
        self->config.continuous_read = truth;
    else
        self->config.marshalled = !truth;
    return 0;
}

static PyObject *get_name(PyObject *op, void *unused) {
    (void)unused;
    return Py_NewRef(((server_object *)op)->name);
}

static int set_name(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    if (refuse_delete(value, "name") < 0)
        return -1;
    PyObject *name = PyOS_FSPath(value);
    if (name && !PyUnicode_Check(name))
        Py_CLEAR(name);
    if (!name) {
        PyErr_Format(PyExc_TypeError, "name must be a str or a path, not %R", value);
        return -1;
    }
    Py_XSETREF(((server_object *)op)->name, name);
    return 0;
}

static PyObject *get_mode(PyObject *op, void *unused) {
    (void)unused;
    return PyUnicode_FromString(((server_object *)op)->config.byte_mode ? "byte" : "message");
}

static int set_mode(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    if (refuse_delete(value, "mode") < 0)
        return -1;
    bool text = PyUnicode_Check(value);
    bool byte = text && PyUnicode_CompareWithASCIIString(value, "byte") == 0;
    if (!byte && !(text && PyUnicode_CompareWithASCIIString(value, "message") == 0)) {
        PyErr_Format(PyExc_ValueError, "mode must be 'message' or 'byte', not %R", value);
        return -1;
    }
    ((server_object *)op)->config.byte_mode = byte;
    return 0;
}

static PyObject *get_access(PyObject *op, void *unused) {
    (void)unused;
    return Py_NewRef(((server_object *)op)->access);
}

static int access_refused(PyObject *value) {
    PyErr_Format(PyExc_ValueError, "access must be 'user', 'everyone', or %s, not %R",
                 host_has_descriptors ? "a file mode from 0 to 0o777"
                                      : "an SDDL string such as 'D:P(A;;GA;;;BA)'", value);
    return -1;
}

int config_access(np_config *config, PyObject *value) {
    if (PyLong_Check(value)) {
        long mode = PyLong_AsLong(value);
        if (mode == -1 && PyErr_Occurred())
            PyErr_Clear();
        if (!host_has_descriptors || mode < 0 || mode > 0777)
            return access_refused(value);
        config->access = NP_ACCESS_MODE;
        config->access_mode = (unsigned)mode;
    } else if (!PyUnicode_Check(value)) {
        return access_refused(value);
    } else if (PyUnicode_CompareWithASCIIString(value, "user") == 0) {
        config->access = NP_ACCESS_USER;
    } else if (PyUnicode_CompareWithASCIIString(value, "everyone") == 0) {
        config->access = NP_ACCESS_EVERYONE;
    } else if (host_has_descriptors) {
        return access_refused(value);
    } else {
        config->access = NP_ACCESS_SDDL;
    }
    return 0;
}

static int set_access(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    server_object *self = (server_object *)op;
    if (refuse_delete(value, "access") < 0 || config_access(&self->config, value) < 0)
        return -1;
    Py_XSETREF(self->access, Py_NewRef(value));
    return 0;
}

static PyObject *get_authkey(PyObject *op, void *unused) {
    (void)op, (void)unused;
    Py_RETURN_NONE;
}

static int set_authkey(PyObject *op, PyObject *value, void *unused) {
    (void)op, (void)unused;
    return config_authkey(value);
}

int config_authkey(PyObject *value) {
    if (value == Py_None)
        return 0;
    PyErr_SetString(PyExc_NotImplementedError,
                    "authkey is not supported yet: it must be None.  By default only processes "
                    "of this user can connect (access='user')");
    return -1;
}

/* ---- handlers ---------------------------------------------------------- */

const char *const handler_names[HANDLER_COUNT] = {
    "on_ready", "on_connected", "on_message", "on_messages",
    "on_sent", "on_disconnected", "on_drained", "on_error",
};

handler_index handler_find(const char *name) {
    int i = 0;
    while (i < HANDLER_COUNT && strcmp(handler_names[i], name) != 0)
        i++;
    return (handler_index)i;
}

static PyObject *get_handler(PyObject *op, void *closure) {
    handler_index i = handler_find(closure);
    PyObject *callable = ((server_object *)op)->on[i];
    return Py_NewRef(callable ? callable : Py_None);
}

static int set_handler(PyObject *op, PyObject *value, void *closure) {
    server_object *self = (server_object *)op;
    handler_index i = handler_find(closure);
    if (value == Py_None)
        value = NULL;
    if (value && !PyCallable_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable or None, not %R", handler_names[i],
                     value);
        return -1;
    }
    Py_XSETREF(self->on[i], Py_XNewRef(value));
    return 0;
}

/* ---- the table --------------------------------------------------------- */

#define HANDLER(name, text) {name, get_handler, set_handler, text, (void *)name}

PyGetSetDef server_getset[] = {
    {"name", get_name, set_name, "Leaf name or address of the pipe.", NULL},
    {"threads", get_number, set_number, "Worker threads, 1 to 64.", (void *)&numbers[0]},
    {"message_buffer_size", get_number, set_number,
     "Size of the first read, bytes; never caps a message.", (void *)&numbers[1]},
    {"max_instances", get_number, set_number,
     "Clients served at once; further ones wait.  None: no bound.", (void *)&numbers[2]},
    {"listeners", get_number, set_number, "Instances kept waiting for clients.",
     (void *)&numbers[3]},
    {"max_message_size", get_number, set_number, "Bytes a received message may have.",
     (void *)&numbers[4]},
    {"write_high_water", get_number, set_number,
     "While more bytes than this wait to go out to a client, nothing is read from it.  None: off.",
     (void *)&numbers[5]},
    {"max_pending_bytes", get_number, set_number, "Bytes that may wait to go out to one client.",
     (void *)&numbers[6]},
    {"kernel_buffer_size", get_number, set_number,
     "Bytes the system buffers for a connection each way.  None: its default.",
     (void *)&numbers[7]},
    {"spin_us", get_number, set_number, "Microseconds to poll before sleeping.",
     (void *)&numbers[8]},
    {"free_threading_events", get_flag, set_flag,
     "True: events run on the workers; False: inside run() and dispatch().", NULL},
    {"continuous_read", get_flag, set_flag, "False: a message comes for each read() only.",
     (void *)"continuous_read"},
    {"access", get_access, set_access,
     "Who may connect: 'user', 'everyone', a file mode (Linux) or SDDL (Windows).", NULL},
    {"mode", get_mode, set_mode, "'message', or 'byte' for a stream without boundaries.", NULL},
    {"authkey", get_authkey, set_authkey, "Not supported yet: None.", NULL},
    HANDLER("on_ready", "on_ready(): once per start, when every worker runs."),
    HANDLER("on_connected", "on_connected(conn)"),
    HANDLER("on_message", "on_message(conn, data, cookie)"),
    HANDLER("on_messages", "on_messages(conn, messages): instead of on_message, batch by batch."),
    HANDLER("on_sent", "on_sent(conn, cookie): a write was handed over whole."),
    HANDLER("on_disconnected", "on_disconnected(conn): the last event of a connection."),
    HANDLER("on_drained", "on_drained(conn): what waits fell below a quarter of the high water."),
    HANDLER("on_error", "on_error(conn_or_None, error): anything that failed."),
    {"connections", server_get_connections, NULL, "List of the connections at this moment.", NULL},
    {"is_running", server_get_is_running, NULL, "Between start() and stop().", NULL},
    {"address", server_get_address, NULL, "The address the operating system knows.", NULL},
    {"stats", server_get_stats, NULL, "Counters of the current run, or of the last one.", NULL},
    {"wait_handle", server_get_wait_handle, NULL,
     "Windows: handle of an event that is set while events wait for dispatch().  None on other\n"
     "systems, when not running, and with free_threading_events=True.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static bool is_parameter(const char *name) {
    for (const PyGetSetDef *d = server_getset; d->name; d++)
        if (d->set && strcmp(d->name, name) == 0)
            return true;
    return false;
}

/* Server(name, *, parameter=..., on_event=...): each is set like an attribute,
 * so that a subclass's own attributes and methods keep their place. */
int server_configure(server_object *self, PyObject *args, PyObject *kwargs) {
    PyObject *name = NULL, *key, *value;
    Py_ssize_t at = 0;
    if (!PyArg_ParseTuple(args, "|O:Server", &name))
        return -1;
    if (name && PyObject_SetAttrString((PyObject *)self, "name", name) < 0)
        return -1;
    while (kwargs && PyDict_Next(kwargs, &at, &key, &value)) {
        const char *text = PyUnicode_AsUTF8(key);
        if (!text)
            return -1;
        if (!is_parameter(text) || (name && strcmp(text, "name") == 0)) {
            PyErr_Format(PyExc_TypeError, "Server() got an unexpected argument '%s'", text);
            return -1;
        }
        if (PyObject_SetAttr((PyObject *)self, key, value) < 0)
            return -1;
    }
    if (!self->name) {
        PyErr_SetString(PyExc_TypeError, "Server() misses the argument 'name'");
        return -1;
    }
    return 0;
}
