/* npipes.Listener. */
#include "client.h"
#include "secrets.h"
#include "reader.h"

#include <structmember.h>

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)args, (void)kwargs;
    PyObject *module = PyType_GetModuleByDef(type, &npipes_module);
    listener_object *self = module ? (listener_object *)type->tp_alloc(type, 0) : NULL;
    if (self)
        self->state = state_of_module(module);
    return (PyObject *)self;
}

/* A name that nobody else has. */
static PyObject *unused_name(void) {
    PyObject *module = PyImport_ImportModule("uuid");
    PyObject *uuid = module ? PyObject_CallMethod(module, "uuid4", NULL) : NULL;
    PyObject *name = uuid ? PyUnicode_FromFormat("listener-%S", uuid) : NULL;
    Py_XDECREF(uuid);
    Py_XDECREF(module);
    return name;
}

static int listen(listener_object *self, PyObject *name, const np_config *config) {
    char address[NP_ADDRESS_MAX];
    np_error error;
    np_code code;
    np_door *door;
    if (blocking_address(name, address) < 0)
        return -1;
    PyObject *encoded = PyBytes_FromString(address);
    if (!encoded)
        return -1;
    Py_BEGIN_ALLOW_THREADS code = np_door_open(config, address, &door, &error);
    Py_END_ALLOW_THREADS if (code != NP_OK) {
        Py_DECREF(encoded);
        errors_raise_start(&error, name, address);
        return -1;
    }
    self->door = door;
    self->address = encoded;
    self->max_message_size = config->max_message_size;
    return 0;
}

/* The standard library's arguments: what there is but one of, and a number that
 * the system's own queue makes needless. */
static int check_standard(PyObject *family, int backlog) {
    if (family != Py_None
        && !(PyUnicode_Check(family)
             && PyUnicode_CompareWithASCIIString(family, host_family) == 0)) {
        PyErr_Format(PyExc_ValueError, "family must be None or '%s' here, not %R", host_family,
                     family);
        return -1;
    }
    if (backlog < 1) {
        PyErr_Format(PyExc_ValueError, "backlog must be at least 1, not %d", backlog);
        return -1;
    }
    return 0;
}

static int init(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"address",          "family",  "backlog", "authkey", "access",
                            "max_message_size", "trusted", "allow",   NULL};
    listener_object *self = (listener_object *)op;
    PyObject *name = Py_None, *family = Py_None, *authkey = Py_None, *access = NULL;
    PyObject *trusted = NULL, *allow = NULL;
    int backlog = 1;
    np_config config;
    np_config_init(&config);
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOiO$OO&OO:Listener", names, &name, &family,
                                     &backlog, &authkey, &access, blocking_size,
                                     &config.max_message_size, &trusted, &allow)
        || check_standard(family, backlog) < 0 || (access && config_access(&config, access) < 0))
        return -1;
    if (self->door) {
        PyErr_SetString(PyExc_RuntimeError, "a Listener can't be initialised twice");
        return -1;
    }
    if (config_access_text(&config, access) < 0)
        return -1;
    PyObject *key;
    if (secrets_key(self->state, authkey, &key) < 0)
        return -1;
    Py_XSETREF(self->authkey, key);
    Py_CLEAR(self->reading);
    if (reader_choose(self->state, trusted, allow, &self->reading) < 0)
        return -1;
    name = name == Py_None ? unused_name() : Py_NewRef(name);
    int r = name ? listen(self, name, &config) : -1;
    Py_XDECREF(name);
    return r;
}

static int traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((listener_object *)op)->reading);
    return 0;
}

static int clear(PyObject *op) {
    Py_CLEAR(((listener_object *)op)->reading);
    return 0;
}

static void dealloc(PyObject *op) {
    listener_object *self = (listener_object *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(op);
    if (self->door)
        np_door_free(self->door);
    Py_XDECREF(self->address);
    Py_XDECREF(self->authkey);
    Py_XDECREF(self->reading);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *repr(PyObject *op) {
    listener_object *self = (listener_object *)op;
    bool closed = !self->door || np_door_is_closed(self->door);
    return PyUnicode_FromFormat("<npipes.Listener on %s, %s, at %p>",
                                self->address ? PyBytes_AS_STRING(self->address) : "nothing",
                                closed ? "closed" : "open", self);
}

static np_door *door_of(listener_object *self) {
    if (!self->door)
        PyErr_SetString(PyExc_RuntimeError, "Listener.__init__() was not called");
    return self->door;
}

/* ---- methods ----------------------------------------------------------- */

/* A client that is not let in is no failure of the wait for one that is. */
static int log_refusal(listener_object *self, const np_error *error) {
    PyObject *exception = errors_make(self->state, error, PyBytes_AS_STRING(self->address), NULL);
    if (!exception)
        return -1;
    errors_log(exception);
    Py_DECREF(exception);
    return 0;
}

static PyObject *accept_steps(listener_object *self, patience *p) {
    const char *address = PyBytes_AS_STRING(self->address);
    np_channel *channel;
    np_error error;
    np_code code = NP_E_INTERRUPTED;
    keeper k = {.state = self->state, .key = self->authkey};
    np_secrets secrets = keeper_secrets(&k);
    if (patience_prepare(p) < 0)
        return NULL;
    while (code == NP_E_INTERRUPTED || code == NP_REFUSED) {
        KEEPER_BEGIN(&k)
        code = np_door_accept(self->door, k.key ? &secrets : NULL, &p->wait, &channel, &error);
        KEEPER_END(&k)
        if (code == NP_REFUSED && log_refusal(self, &error) < 0)
            return NULL;
        if (code == NP_E_INTERRUPTED && (PyErr_Occurred() || patience_signals(p) < 0))
            return NULL;
    }
    if (code == NP_OK)
        return client_new(self->state, channel, address, self->max_message_size, self->reading);
    patience_explain(p, &error);
    return errors_raise(self->state, &error, address);
}

static PyObject *listener_accept(PyObject *op, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"timeout", NULL};
    listener_object *self = (listener_object *)op;
    PyObject *timeout = Py_None;
    patience p;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$O:accept", names, &timeout) || !door_of(self)
        || patience_begin(&p, timeout) < 0)
        return NULL;
    return accept_steps(self, &p);
}

static PyObject *listener_close(PyObject *op, PyObject *unused) {
    (void)unused;
    np_door *door = ((listener_object *)op)->door;
    if (door) {
        Py_BEGIN_ALLOW_THREADS np_door_close(door);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *enter(PyObject *op, PyObject *unused) {
    (void)unused;
    return Py_NewRef(op);
}

static PyObject *leave(PyObject *op, PyObject *args) {
    (void)args;
    Py_XDECREF(listener_close(op, NULL));
    Py_RETURN_FALSE;
}

static PyObject *listener_fileno(PyObject *op, PyObject *unused) {
    (void)unused;
    listener_object *self = (listener_object *)op;
    if (!door_of(self))
        return NULL;
    if (!host_has_descriptors) {
        PyErr_SetString(PyExc_NotImplementedError, "this system has no descriptor for it");
        return NULL;
    }
    intptr_t handle = np_door_handle(self->door);
    if (handle == NP_NO_HANDLE) {
        np_error error = {.code = NP_E_CLOSED, .activity = NP_DOING_ACCEPT};
        return errors_raise(self->state, &error, PyBytes_AS_STRING(self->address));
    }
    return PyLong_FromSsize_t(handle);
}

/* ---- attributes -------------------------------------------------------- */

static PyObject *get_closed(PyObject *op, void *unused) {
    (void)unused;
    listener_object *self = (listener_object *)op;
    return PyBool_FromLong(!self->door || np_door_is_closed(self->door));
}

static PyObject *get_address(PyObject *op, void *unused) {
    (void)unused;
    listener_object *self = (listener_object *)op;
    if (!door_of(self))
        return NULL;
    return PyUnicode_DecodeFSDefault(PyBytes_AS_STRING(self->address));
}

static PyObject *get_last_accepted(PyObject *op, void *unused) {
    (void)op, (void)unused;
    Py_RETURN_NONE;
}

static PyGetSetDef getset[] = {
    {"address", get_address, NULL, "The address that clients connect to.", NULL},
    {"closed", get_closed, NULL, "Whether close() was called.", NULL},
    {"last_accepted", get_last_accepted, NULL,
     "None: clients of a pipe have no address of their own.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(listener_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
    {"accept", (PyCFunction)(void (*)(void))listener_accept, METH_VARARGS | METH_KEYWORDS,
     "accept($self, /, *, timeout=None)\n--\n\n"
     "Wait for a client; a Client.  Raises PipeTimeoutError after timeout seconds, and\n"
     "PipeClosedError once close() was called, by another thread as well.  A client that access\n"
     "does not let in, or that does not prove that it has the authkey, is closed, and the wait\n"
     "goes on; the latter is logged.  Handshakes go on while a thread is in here, several at once."},
    {"fileno", listener_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\n"
     "Linux: a descriptor that is readable while a client waits."},
    {"close", listener_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Withdraw the address; accept() in other threads ends.  Does nothing the second time."},
    {"__enter__", enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", leave, METH_VARARGS, "__exit__($self, exc_type, exc_value, traceback, /)\n--\n\n"},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(doc,
             "Listener(address=None, family=None, backlog=1, authkey=None, *, access='user',\n"
             "         max_message_size=67108864, trusted=False, allow=())\n"
             "--\n\n"
             "Listens on a leaf name or an address, on one of its own for None.  trusted, allow: what\n"
             "recv() of its Clients may make, as in loads().");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_new, new},
    {Py_tp_init, init},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_repr, repr},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec listener_spec = {
    .name = "npipes.Listener",
    .basicsize = sizeof(listener_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
