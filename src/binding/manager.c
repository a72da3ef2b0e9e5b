/* npipes.ClientManager and npipes.ClientConnection: what is not a Server's too. */
#include "aio.h"

/* ---- parameters -------------------------------------------------------- */

static const config_flag reconnect_flag = {"reconnect", offsetof(endpoint_object, config.reconnect),
                                           false};

int config_server_owner(PyObject *value, bool *owner_only) {
    bool user = PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "user") == 0;
    if (!user && value != Py_None) {
        PyErr_Format(PyExc_ValueError, "server_owner must be 'user' or None, not %R", value);
        return -1;
    }
    *owner_only = user;
    return 0;
}

static PyObject *get_server_owner(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    np_mutex_lock(&self->guard);
    bool owner_only = self->config.owner_only;
    np_mutex_unlock(&self->guard);
    if (owner_only)
        return PyUnicode_FromString("user");
    Py_RETURN_NONE;
}

static int set_server_owner(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    bool owner_only;
    if (config_refuse_delete(value, "server_owner") < 0
        || config_server_owner(value, &owner_only) < 0)
        return -1;
    np_mutex_lock(&self->guard);
    self->config.owner_only = owner_only;
    np_mutex_unlock(&self->guard);
    return 0;
}

static PyObject *get_reconnect_delay(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    np_mutex_lock(&self->guard);
    int64_t least = self->config.reconnect_min_ns, most = self->config.reconnect_max_ns;
    np_mutex_unlock(&self->guard);
    return Py_BuildValue("dd", (double)least / 1e9, (double)most / 1e9);
}

static int set_reconnect_delay(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    double least, most;
    if (config_refuse_delete(value, "reconnect_delay") < 0)
        return -1;
    PyObject *pair = PySequence_Tuple(value);
    bool numbers = pair && PyArg_ParseTuple(pair, "dd", &least, &most);
    Py_XDECREF(pair);
    if (!numbers) {
        PyErr_Format(PyExc_TypeError, "reconnect_delay must be two numbers of seconds, not %R",
                     value);
        return -1;
    }
    if (!(least >= 0.001 && least <= most && most <= 86400)) {
        PyErr_Format(PyExc_ValueError,
                     "reconnect_delay must be from 0.001 to 86400 seconds, the "
                     "least before the most, not %R",
                     value);
        return -1;
    }
    endpoint_object *self = (endpoint_object *)op;
    np_mutex_lock(&self->guard);
    self->config.reconnect_min_ns = (int64_t)(least * 1e9);
    self->config.reconnect_max_ns = (int64_t)(most * 1e9);
    np_mutex_unlock(&self->guard);
    return 0;
}

static PyGetSetDef getset[] = {
    {"server_owner", get_server_owner, set_server_owner,
     "'user': a server that is not this user's is refused.  None: any is taken.", NULL},
    {"reconnect", config_get_flag, config_set_flag,
     "True: connect again whenever a connection ends, until it is closed.",
     (void *)&reconnect_flag},
    {"reconnect_delay", get_reconnect_delay, set_reconnect_delay,
     "Seconds before the first attempt to reconnect, and the most before any.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ---- the manager ------------------------------------------------------- */

static PyObject *open_manager(endpoint_object *self) {
    np_mutex_lock(&self->guard);
    np_config config = self->config;
    np_mutex_unlock(&self->guard);
    return endpoint_open(self, &config, NULL, NULL);
}

static const endpoint_kind manager_kind = {"ClientManager", "manager", getset, open_manager};

static PyObject *manager_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    return endpoint_new(type, &manager_kind);
}

/* The first connect() starts it; a reference to its endpoint.  One that is being stopped stays that way, as
 * its end would have to be waited for. */
static np_endpoint *ensure_running(endpoint_object *self) {
    np_endpoint *ep = endpoint_current(self);
    const char *why = NULL;
    if (ep && np_endpoint_is_forked(ep))
        why = "belongs to the parent process, and can't be used in a child of fork";
    else if (ep && !np_endpoint_is_running(ep)
             && (np_load32(&self->stopping) || !np_endpoint_has_stopped(ep)))
        why = "is stopping";
    if (ep)
        np_endpoint_release(ep);
    if (why)
        return PyErr_Format(PyExc_RuntimeError, "connect(): the manager %s", why), NULL;
    PyObject *started = endpoint_start((PyObject *)self, NULL);
    if (!started)
        return NULL;
    Py_DECREF(started);
    ep = endpoint_current(self);
    if (!ep)        /* another thread has stopped it, and starts it again */
        PyErr_SetString(PyExc_RuntimeError, "connect(): the manager is stopping");
    return ep;
}

static PyObject *raise_connect(endpoint_object *self, np_error *error, PyObject *name) {
    switch (error->code) {
    case NP_E_STATE: return PyErr_Format(PyExc_RuntimeError, "connect(): the manager is stopping");
    case NP_E_FORKED: return errors_raise(self->state, error, "connect()");
    default: return errors_raise_start(error, name, "");
    }
}

static PyObject *start_connect(endpoint_object *self, PyObject *name, const char *encoded,
                               int64_t timeout_ns) {
    np_error error = {.activity = NP_DOING_CONNECT};
    char address[NP_ADDRESS_MAX];
    error.code = np_address(encoded, address, sizeof address, &error);
    error.activity = NP_DOING_CONNECT;
    if (error.code != NP_OK)
        return raise_connect(self, &error, name);
    np_endpoint *ep = ensure_running(self);
    if (!ep)
        return NULL;
    connection_object *c = self->aio
                               ? aio_connection_new(self->state, self->bridge, self->aio->loop)
                               : connection_new(self->state, self->state->client_connection_type,
                                                self->bridge);
    if (!c || PySet_Add(self->dialed, (PyObject *)c) < 0) {
        np_endpoint_release(ep);
        Py_XDECREF(c);
        return NULL;
    }
    c->dialed = true;
    /* Where there is no GIL its first event may come before this returns. */
    np_code code = np_endpoint_connect(ep, encoded, timeout_ns, c, &c->connection, &error);
    np_endpoint_release(ep);
    if (code == NP_OK)
        return (PyObject *)c;
    if (PySet_Discard(self->dialed, (PyObject *)c) < 0)
        PyErr_Clear();
    Py_DECREF(c);
    error.code = code;
    return raise_connect(self, &error, name);
}

static PyObject *manager_connect(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"name", "timeout", NULL};
    PyObject *name, *timeout = NULL, *encoded = NULL;
    int64_t ns = INT64_C(5000000000);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:connect", names, &name, &timeout)
        || (timeout && endpoint_timeout(timeout, &ns) < 0)
        || !PyUnicode_FSConverter(name, &encoded))
        return NULL;
    PyObject *c = start_connect((endpoint_object *)op, name, PyBytes_AS_STRING(encoded), ns);
    Py_DECREF(encoded);
    return c;
}

static PyMethodDef methods[] = {
    {"connect", (PyCFunction)(void (*)(void))manager_connect, METH_VARARGS | METH_KEYWORDS,
     "connect($self, /, name, *, timeout=5.0)\n--\n\n"
     "Begin to connect to the server of a name or address and return its ClientConnection at\n"
     "once.  Then comes on_connected; or on_error, when no server with a free place was found\n"
     "within timeout seconds (None: no limit; 0: one attempt), or another failure.  The first\n"
     "call starts the manager.  Raises ValueError for a name that can't be, and RuntimeError\n"
     "while the manager is stopping.  Any thread."},
    {"start", endpoint_start, METH_NOARGS,
     "start($self, /)\n--\n\n"
     "Start the workers; connect() does it too.  Does nothing while running.  Raises OSError\n"
     "from the system."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc,
"ClientManager(*, threads=1, free_threading_events=False, message_buffer_size=131072,\n"
"              continuous_read=True, max_message_size=67108864, message_timeout=60.0,\n"
"              write_high_water=1048576, max_pending_bytes=67108864, authkey=None,\n"
"              mode='message', kernel_buffer_size=None, spin_us=0, server_owner=None,\n"
"              reconnect=False, reconnect_delay=(0.05, 5.0), on_ready=None,\n"
"              on_connected=None, on_message=None, on_messages=None, on_sent=None, on_disconnected=None,\n"
"              on_drained=None, on_error=None)\n"
"--\n\n"
"Connections to any number of servers, with the events of a Server.\n\n"
"Parameters are attributes too, read once by start().  Handlers may be given as arguments,\n"
"attributes, by @manager.event, or as methods of a subclass; attributes that change while the\n"
"manager runs count from the next batch on.  Every method may be called from any thread.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc}, {Py_tp_new, manager_new}, {Py_tp_init, endpoint_init},
    {Py_tp_getset, getset},   {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec manager_spec = {
    .name = "npipes.ClientManager",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

/* ---- its connections --------------------------------------------------- */

static PyObject *get_address(PyObject *op, void *unused) {
    (void)unused;
    connection_object *self = (connection_object *)op;
    return PyUnicode_DecodeFSDefault(np_connection_address(self->connection));
}

static PyGetSetDef connection_getset[] = {
    {"manager", connection_get_endpoint, NULL, "The manager, or None when its object is gone.",
     NULL},
    {"address", get_address, NULL, "The address of its server.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(connection_doc, "One connection of a ClientManager, to one server.");

static PyType_Slot connection_slots[] = {
    {Py_tp_doc, (void *)connection_doc},
    {Py_tp_getset, connection_getset},
    {Py_tp_methods, connection_methods},
    {0, NULL},
};

PyType_Spec client_connection_spec = {
    .name = "npipes.ClientConnection",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = connection_slots,
};
