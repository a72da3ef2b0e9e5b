/* Keys: what the engine's handshakes ask of Python.  Who asks has the GIL. */
#include "secrets.h"

/* ---- the parameter ----------------------------------------------------- */

/* Not before there is a key: what this imports takes longer than all of npipes. */
static int load(module_state *s) {
    if (s->authentication_error)
        return 0;
    const struct {
        PyObject **slot;
        const char *module, *name;
    } wanted[] = {
        {&s->random, "os", "urandom"},
        {&s->hmac, "hmac", "digest"},
        {&s->compare, "hmac", "compare_digest"},
        {&s->authentication_error, "npipes.authentication", "AuthenticationError"},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        if (*wanted[i].slot)
            continue;
        PyObject *module = PyImport_ImportModule(wanted[i].module);
        PyObject *found = module ? PyObject_GetAttrString(module, wanted[i].name) : NULL;
        Py_XDECREF(module);
        if (state_keep(s, wanted[i].slot, found) < 0)
            return -1;
    }
    return 0;
}

/* No message here has the value: it may be a key. */
int secrets_key(module_state *state, PyObject *value, PyObject **key) {
    Py_buffer view;
    *key = NULL;
    if (value == Py_None)
        return 0;
    if (!PyObject_CheckBuffer(value)) {
        PyErr_Format(PyExc_TypeError, "authkey must be bytes-like or None, not %.100s",
                     Py_TYPE(value)->tp_name);
        return -1;
    }
    if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0)
        return -1;
    if (view.len)
        *key = PyBytes_FromStringAndSize(view.buf, view.len);
    else
        PyErr_SetString(PyExc_ValueError, "authkey must not be empty: an empty key is known to "
                                          "everybody");
    PyBuffer_Release(&view);
    if (*key && load(state) < 0)
        Py_CLEAR(*key);
    return *key ? 0 : -1;
}

/* ---- what is done with it ---------------------------------------------- */

static bool take(PyObject *bytes, uint8_t *out, size_t size) {
    bool right = bytes && PyBytes_Check(bytes) && (size_t)PyBytes_GET_SIZE(bytes) == size;
    if (right)
        memcpy(out, PyBytes_AS_STRING(bytes), size);
    else if (bytes)
        PyErr_SetString(PyExc_SystemError, "bytes of another size were expected");
    Py_XDECREF(bytes);
    return right;
}

bool secrets_random(module_state *s, uint8_t *out, size_t size) {
    return take(PyObject_CallFunction(s->random, "n", (Py_ssize_t)size), out, size);
}

/* ValueError: the digest is unknown, or not allowed on this machine. */
int secrets_mac(module_state *s, PyObject *key, const char *digest, const uint8_t *message,
                size_t size, uint8_t out[NP_MAC_MAX]) {
    PyObject *mac = PyObject_CallFunction(s->hmac, "Oy#s", key, (const char *)message,
                                          (Py_ssize_t)size, digest);
    if (!mac && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        return 0;
    }
    Py_ssize_t length = mac && PyBytes_Check(mac) ? PyBytes_GET_SIZE(mac) : 0;
    if (length > NP_MAC_MAX)
        length = 0;
    return take(mac, out, (size_t)length) ? (int)length : -1;
}

bool secrets_equal(module_state *s, const uint8_t *a, const uint8_t *b, size_t size) {
    PyObject *equal = PyObject_CallFunction(s->compare, "y#y#", (const char *)a, (Py_ssize_t)size,
                                            (const char *)b, (Py_ssize_t)size);
    bool is = equal == Py_True;
    Py_XDECREF(equal);
    return is;
}

/* ---- for calls that wait ----------------------------------------------- */

/* The engine calls these without the GIL; an exception stays set. */

static bool keeper_random(void *user, uint8_t *out, size_t size) {
    keeper *k = user;
    PyEval_RestoreThread(k->thread);
    bool done = secrets_random(k->state, out, size);
    k->thread = PyEval_SaveThread();
    return done;
}

static int keeper_mac(void *user, const char *digest, const uint8_t *message, size_t size,
                      uint8_t out[NP_MAC_MAX]) {
    keeper *k = user;
    PyEval_RestoreThread(k->thread);
    int length = secrets_mac(k->state, k->key, digest, message, size, out);
    k->thread = PyEval_SaveThread();
    return length;
}

static bool keeper_equal(void *user, const uint8_t *a, const uint8_t *b, size_t size) {
    keeper *k = user;
    PyEval_RestoreThread(k->thread);
    bool equal = secrets_equal(k->state, a, b, size);
    k->thread = PyEval_SaveThread();
    return equal;
}

np_secrets keeper_secrets(keeper *k) {
    return (np_secrets){k, keeper_random, keeper_mac, keeper_equal};
}
