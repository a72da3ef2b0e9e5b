/* Functions of the module that make Clients. */
#include "client.h"
#include "handshake.h"
#include "secrets.h"
#include "reader.h"

const char blocking_connect_doc[] =
    "connect($module, name, *, timeout=5.0, authkey=None, max_message_size=67108864,\n"
    "        server_owner=None, trusted=False, allow=())\n--\n\n"
    "Connect to a pipe; a Client.  Waits until somebody serves it and has room, for at most\n"
    "timeout seconds (None: for ever), then raises PipeTimeoutError; with timeout=0\n"
    "PipeNotFoundError (a FileNotFoundError) or PipeBusyError at once.  server_owner='user':\n"
    "AccessDeniedError if the server is another user's.  authkey: bytes that both ends must have;\n"
    "AuthenticationError if they have not, ConnectionClosed if the server left before that was\n"
    "known.  The handshake has what is left of timeout, at least 1 second.  trusted, allow: what\n"
    "recv() may make, as in loads().";

const char blocking_pipe_doc[] =
    "Pipe($module, duplex=True, *, max_message_size=67108864, trusted=False, allow=())\n--\n\n"
    "The two ends of a connection without a name.  duplex=False: the first only receives, the\n"
    "second only sends.";

int blocking_address(PyObject *name, char out[NP_ADDRESS_MAX]) {
    PyObject *encoded = NULL;
    np_error error = {0};
    if (!PyUnicode_FSConverter(name, &encoded))
        return -1;
    error.code = np_address(PyBytes_AS_STRING(encoded), out, NP_ADDRESS_MAX, &error);
    Py_DECREF(encoded);
    if (error.code == NP_OK)
        return 0;
    errors_raise_start(&error, name, "");
    return -1;
}

int blocking_size(PyObject *value, void *out) {
    PyObject *index = PyNumber_Index(value);
    if (!index)
        return 0;
    int overflow;
    long long size = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow || size < 1) {
        PyErr_Format(PyExc_ValueError, "max_message_size must be from 1 to %lld, not %R",
                     (long long)INT64_MAX, value);
        return 0;
    }
    *(uint64_t *)out = (uint64_t)size;
    return 1;
}

/* ---- connect ----------------------------------------------------------- */

static int raise_dial(module_state *state, np_error *error, const patience *p,
                      const np_channel_dial *dial) {
    if (error->code == NP_E_TIMEOUT && p->timeout_ns == 0) {
        error->code = dial->last;
        error->value = 0;
    }
    patience_explain(p, error);
    errors_raise(state, error, dial->address);
    return -1;
}

static int dial_steps(module_state *state, np_channel_dial *dial, patience *p, np_channel **out) {
    np_error error;
    np_code code = NP_E_INTERRUPTED;
    if (patience_prepare(p) < 0)
        return -1;
    while (code == NP_E_INTERRUPTED) {
        Py_BEGIN_ALLOW_THREADS code = np_channel_connect(dial, &p->wait, out, &error);
        Py_END_ALLOW_THREADS if (code == NP_E_INTERRUPTED && patience_signals(p) < 0) return -1;
    }
    return code == NP_OK ? 0 : raise_dial(state, &error, p, dial);
}

/* What a handshake has at least of a timeout. */
#define GRACE_NS INT64_C(1000000000)

static void be_patient(patience *p) {
    int64_t least = np_clock() + GRACE_NS;
    if (p->wait.deadline >= least)
        return;
    p->wait.deadline = least;
    if (p->timeout_ns < GRACE_NS)
        p->timeout_ns = GRACE_NS;
}

/* NP_E_INTERRUPTED: an exception is set. */
static np_code greet_steps(keeper *k, np_channel *channel, patience *p, np_error *error) {
    np_secrets secrets = keeper_secrets(k);
    np_handshake shake;
    np_code code = NP_E_INTERRUPTED;
    np_handshake_init(&shake, false);
    be_patient(p);
    if (patience_prepare(p) < 0)
        return NP_E_INTERRUPTED;
    while (code == NP_E_INTERRUPTED) {
        KEEPER_BEGIN(k)
        code = np_channel_greet(channel, &shake, &secrets, &p->wait, error);
        KEEPER_END(k)
        if (code == NP_E_INTERRUPTED && (PyErr_Occurred() || patience_signals(p) < 0))
            return code;
    }
    return code;
}

static np_code pause_steps(np_channel_dial *dial, patience *p) {
    np_code code = NP_E_INTERRUPTED;
    while (code == NP_E_INTERRUPTED) {
        Py_BEGIN_ALLOW_THREADS code = np_channel_pause(dial, &p->wait);
        Py_END_ALLOW_THREADS if (code != NP_E_TIMEOUT
                                 && patience_signals(p) < 0) return NP_E_INTERRUPTED;
    }
    return code;
}

/* A server that leaves inside the handshake had to make room, or is about to
 * stop: that is like one that has no room yet, or is not there. */
static PyObject *connect_with(keeper *k, np_channel_dial *dial, patience *p,
                              uint64_t max_message_size, PyObject *reading) {
    for (;;) {
        np_channel *channel;
        np_error error;
        patience rest = *p;
        if (dial_steps(k->state, dial, p, &channel) < 0)
            return NULL;
        np_code code = k->key ? greet_steps(k, channel, &rest, &error) : NP_OK;
        if (code == NP_OK)
            return client_new(k->state, channel, dial->address, max_message_size, reading);
        np_channel_free(channel);
        dial->last = code;
        np_code pause = code == NP_E_EOF ? pause_steps(dial, p) : NP_E_TIMEOUT;
        if (PyErr_Occurred())
            return NULL;
        if (pause == NP_E_TIMEOUT) {
            patience_explain(&rest, &error);
            return errors_raise(k->state, &error, dial->address);
        }
    }
}

PyObject *blocking_connect(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"name",         "timeout", "authkey", "max_message_size",
                            "server_owner", "trusted", "allow",   NULL};
    PyObject *name, *timeout = NULL, *authkey = Py_None, *owner = Py_None;
    PyObject *trusted = NULL, *allow = NULL, *reading;
    uint64_t max_message_size = 64 << 20;
    char address[NP_ADDRESS_MAX];
    bool owner_only;
    patience p;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOO&OOO:connect", names, &name, &timeout,
                                     &authkey, blocking_size, &max_message_size, &owner, &trusted,
                                     &allow)
        || config_server_owner(owner, &owner_only) < 0 || blocking_address(name, address) < 0)
        return NULL;
    PyObject *seconds = timeout ? Py_NewRef(timeout) : PyFloat_FromDouble(5.0);
    int ready = seconds ? patience_begin(&p, seconds) : -1;
    Py_XDECREF(seconds);
    keeper k = {.state = state_of_module(module)};
    if (ready < 0 || reader_choose(k.state, trusted, allow, &reading) < 0)
        return NULL;
    PyObject *client = NULL;
    if (secrets_key(k.state, authkey, &k.key) == 0) {
        np_channel_dial dial = {.address = address, .owner_only = owner_only};
        client = connect_with(&k, &dial, &p, max_message_size, reading);
        Py_XDECREF(k.key);
    }
    Py_XDECREF(reading);
    return client;
}

/* ---- Pipe -------------------------------------------------------------- */

PyObject *blocking_pipe(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"duplex", "max_message_size", "trusted", "allow", NULL};
    module_state *state = state_of_module(module);
    PyObject *trusted = NULL, *allow = NULL, *reading;
    int duplex = 1;
    uint64_t max_message_size = 64 << 20;
    np_channel *a, *b;
    np_error error;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p$O&OO:Pipe", names, &duplex, blocking_size,
                                     &max_message_size, &trusted, &allow)
        || reader_choose(state, trusted, allow, &reading) < 0)
        return NULL;
    if (np_channel_pair(&a, &b, &error) != NP_OK) {
        Py_XDECREF(reading);
        return errors_raise(state, &error, "Pipe()");
    }
    PyObject *first = client_new(state, a, "Pipe()", max_message_size, reading);
    PyObject *second = client_new(state, b, "Pipe()", max_message_size, reading);
    Py_XDECREF(reading);
    if (!first || !second) {
        Py_XDECREF(first);
        Py_XDECREF(second);
        return NULL;
    }
    ((client_object *)first)->writable = ((client_object *)second)->readable = duplex;
    return Py_BuildValue("NN", first, second);
}

/* ---- from another process ---------------------------------------------- */

/* _adopt(handle, address, readable, writable, max_message_size, reading or None) */
PyObject *blocking_adopt(PyObject *module, PyObject *args) {
    module_state *state = state_of_module(module);
    Py_ssize_t handle;
    PyObject *address, *reading;
    int readable, writable;
    unsigned long long max_message_size;
    if (!PyArg_ParseTuple(args, "nO&ppKO:_adopt", &handle, PyUnicode_FSConverter, &address,
                          &readable, &writable, &max_message_size, &reading))
        return NULL;
    np_channel *channel;
    np_error error;
    PyObject *client = NULL;
    if (np_channel_adopt(handle, &channel, &error) == NP_OK)
        client = client_new(state, channel, PyBytes_AS_STRING(address), max_message_size,
                            reading == Py_None ? NULL : reading);
    else
        errors_raise(state, &error, PyBytes_AS_STRING(address));
    Py_DECREF(address);
    if (client) {
        ((client_object *)client)->readable = readable;
        ((client_object *)client)->writable = writable;
    }
    return client;
}
