/* npipes.Server and npipes.ServerConnection: what is not a ClientManager's too. */
#include "bridge.h"

/* ---- parameters -------------------------------------------------------- */

static const config_number numbers[] = {
    CONFIG_NUMBER(max_instances, true, 1, INT32_MAX),
    CONFIG_NUMBER(listeners, false, 1, 255),
    CONFIG_NUMBER(max_handshakes, false, 1, INT32_MAX),
};

static PyObject *get_name(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    return guarded_get(&self->guard, &self->name);
}

static int set_name(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    if (config_refuse_delete(value, "name") < 0)
        return -1;
    PyObject *name = PyOS_FSPath(value);
    if (name && !PyUnicode_Check(name))
        Py_CLEAR(name);
    if (!name) {
        PyErr_Format(PyExc_TypeError, "name must be a str or a path, not %R", value);
        return -1;
    }
    guarded_set(&((endpoint_object *)op)->guard, &((endpoint_object *)op)->name, name);
    return 0;
}

static PyObject *get_access(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    return guarded_get(&self->guard, &self->access);
}

static int access_refused(PyObject *value) {
    PyErr_Format(PyExc_ValueError, "access must be 'user', 'everyone', %s, not %R",
                 host_has_descriptors ? "'group:NAME', or a file mode from 0 to 0o777"
                                      : "or an SDDL string such as 'D:P(A;;GA;;;BA)'",
                 value);
    return -1;
}

static const char group_prefix[] = "group:";

/* -1: it is no group; else whether one of this name may be. */
static int is_group(PyObject *value) {
    PyObject *prefix = PyUnicode_FromString(group_prefix);
    Py_ssize_t is = prefix ? PyUnicode_Tailmatch(value, prefix, 0, PY_SSIZE_T_MAX, -1) : 0;
    Py_XDECREF(prefix);
    if (is <= 0)
        return -1;
    Py_ssize_t length = PyUnicode_GET_LENGTH(value), first = sizeof group_prefix - 1;
    return length > first && PyUnicode_FindChar(value, 0, 0, length, 1) == -1;
}

int config_access_text(np_config *config, PyObject *value) {
    if (config->access == NP_ACCESS_SDDL)
        return (config->access_sddl = PyUnicode_AsUTF8(value)) ? 0 : -1;
    if (config->access != NP_ACCESS_GROUP)
        return 0;
    const char *text = PyUnicode_AsUTF8(value);
    if (text)
        config->access_group = text + sizeof group_prefix - 1;
    return text ? 0 : -1;
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
    } else {
        int group = is_group(value);
        if (PyErr_Occurred())
            return -1;
        if (host_has_descriptors ? group != 1 : group != -1)
            return access_refused(value);
        config->access = host_has_descriptors ? NP_ACCESS_GROUP : NP_ACCESS_SDDL;
    }
    return 0;
}

static int set_access(PyObject *op, PyObject *value, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    np_config config = {0};
    if (config_refuse_delete(value, "access") < 0 || config_access(&config, value) < 0)
        return -1;
    Py_INCREF(value);
    np_mutex_lock(&self->guard);
    PyObject *old = self->access;
    self->access = value;
    self->config.access = config.access;
    self->config.access_mode = config.access_mode;
    np_mutex_unlock(&self->guard);
    Py_XDECREF(old);
    return 0;
}

/* ---- the server -------------------------------------------------------- */

static PyObject *get_address(PyObject *op, void *unused) {
    (void)unused;
    endpoint_object *self = (endpoint_object *)op;
    np_endpoint *ep = endpoint_current(self);
    PyObject *address = NULL;
    bool running = ep && np_endpoint_is_running(ep);
    if (running)
        address = PyUnicode_DecodeFSDefault(np_endpoint_address(ep));
    if (ep)
        np_endpoint_release(ep);
    if (running)
        return address;
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(op), &npipes_module);
    PyObject *name = guarded_get(&self->guard, &self->name);
    if (module)
        address = PyObject_CallMethod(module, "address", "O", name);
    Py_XDECREF(name);
    return address;
}

static PyGetSetDef getset[] = {
    {"name", get_name, set_name, "Leaf name or address of the pipe.", NULL},
    {"max_instances", config_get_number, config_set_number,
     "Clients served at once; further ones wait.  None: no bound.", (void *)&numbers[0]},
    {"listeners", config_get_number, config_set_number, "Instances kept waiting for clients.",
     (void *)&numbers[1]},
    {"max_handshakes", config_get_number, config_set_number,
     "With authkey: clients at once that have yet to prove that they have it.",
     (void *)&numbers[2]},
    {"access", get_access, set_access,
     "Who may connect: 'user', 'everyone', 'group:NAME' or a file mode (Linux), SDDL (Windows).",
     NULL},
    {"address", get_address, NULL, "The address the operating system knows.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyObject *open_server(endpoint_object *self) {
    PyObject *encoded = NULL, *result = NULL;
    np_mutex_lock(&self->guard);
    np_config config = self->config;
    PyObject *access = Py_NewRef(self->access), *name = Py_NewRef(self->name);
    np_mutex_unlock(&self->guard);
    if (config_access_text(&config, access) == 0 && PyUnicode_FSConverter(name, &encoded))
        result = endpoint_open(self, &config, name, PyBytes_AS_STRING(encoded));
    Py_XDECREF(encoded);
    Py_DECREF(access);
    Py_DECREF(name);
    return result;
}

static const endpoint_kind server_kind = {"Server", "server", getset, open_server};

static PyObject *server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    return endpoint_new(type, &server_kind);
}

static PyMethodDef methods[] = {
    {"start", endpoint_start, METH_NOARGS,
     "start($self, /)\n--\n\n"
     "Listen and start the workers.  Does nothing while running.  Raises ValueError for a name\n"
     "that can't be, FileExistsError when a server has it already, OSError from the system."},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc,
"Server(name, *, threads=1, free_threading_events=False, message_buffer_size=131072,\n"
"       continuous_read=True, max_instances=None, listeners=8, max_message_size=67108864,\n"
"       message_timeout=60.0, write_high_water=1048576, max_pending_bytes=67108864,\n"
"       access='user', authkey=None, max_handshakes=128, mode='message',\n"
"       kernel_buffer_size=None, spin_us=0, on_ready=None, on_connected=None,\n"
"       on_message=None, on_messages=None, on_sent=None,\n"
"       on_disconnected=None, on_drained=None, on_error=None)\n"
"--\n\n"
"A server of messages to processes on this machine.\n\n"
"Parameters are attributes too, read once by start().  Handlers may be given as arguments,\n"
"attributes, by @server.event, or as methods of a subclass; attributes that change while the\n"
"server runs count from the next batch on.  Every method may be called from any thread.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc}, {Py_tp_new, server_new},  {Py_tp_init, endpoint_init},
    {Py_tp_getset, getset},   {Py_tp_methods, methods}, {0, NULL},
};

PyType_Spec server_spec = {
    .name = "npipes.Server",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

/* ---- its connections --------------------------------------------------- */

static PyGetSetDef connection_getset[] = {
    {"server", connection_get_endpoint, NULL, "The server, or None when its object is gone.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(connection_doc, "One client of a Server, as its events get it.");

static PyType_Slot connection_slots[] = {
    {Py_tp_doc, (void *)connection_doc},
    {Py_tp_getset, connection_getset},
    {Py_tp_methods, connection_methods},
    {0, NULL},
};

PyType_Spec server_connection_spec = {
    .name = "npipes.ServerConnection",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = connection_slots,
};
