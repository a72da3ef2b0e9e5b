/* Keys of mappings and members of sets.
 *
 * Numbers and what consists of them have hashes that anybody can predict, so a
 * payload could bring keys that all meet in one place, and adding n of them would take
 * n * n steps; and a tuple that has one other twice, which has one other twice, and
 * so on, takes 2 to the power of n steps to hash.  So each key's cost is counted before
 * it is added, and for containers that are not tiny a model of their table counts
 * the meetings.
 *
 * What a key costs to compare is not its own business alone: a small one that a
 * large one equals would be compared with it each time that it is added again.  So
 * once a payload has had a heavy key, tiny containers have a model too, and whoever
 * meets its like pays for the heaviest. */
#include "reader.h"

enum { TINY = 32, SMALL = 128, HEAVY = 8, LINEAR = 9 };

#define EMPTY ((Py_hash_t) - 1)       /* no object has this hash */

static int spend(reader *r, uint64_t work) {
    if (work > r->work)
        return reader_refuse(r, "its keys take more work to hash and to compare than so few bytes "
                                "may cause");
    r->work -= work;
    return 0;
}

/* ---- a model ----------------------------------------------------------- */

static void clear_model(key_model *m) {
    Py_CLEAR(m->container);
    PyMem_Free(m->slots);
    *m = (key_model){0};
}

void reader_forget_models(reader *r) {
    clear_model(&r->small);
    for (size_t i = 0; i < READER_MODELS; i++)
        clear_model(&r->models[i]);
}

/* The way to a free slot that CPython's dict and set take: a set looks at the next few slots
 * as well before it jumps.  cost: of a comparison. */
static int put(reader *r, key_model *m, Py_hash_t hash, uint64_t cost) {
    size_t at = (size_t)hash, further = (size_t)hash,
           linear = PyAnySet_Check(m->container) ? LINEAR : 0;
    for (;;) {
        at &= m->mask;
        size_t last = at + linear <= m->mask ? at + linear : at;
        for (size_t i = at; i <= last; i++) {
            if (m->slots[i] == EMPTY) {
                m->slots[i] = hash;
                m->used++;
                return 0;
            }
            if (spend(r, 1 + (m->slots[i] == hash ? cost : 0)) < 0)
                return -1;
        }
        further >>= 5;
        at = at * 5 + 1 + further;
    }
}

static int grow(reader *r, key_model *m) {
    Py_hash_t *old = m->slots;
    size_t old_size = old ? m->mask + 1 : 0, size = 8;
    size_t wanted = PyAnySet_Check(m->container) && m->used <= 50000 ? m->used * 4 : m->used * 3;
    while (size <= wanted)
        size *= 2;
    m->slots = PyMem_New(Py_hash_t, size);
    if (!m->slots) {
        m->slots = old;
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < size; i++)
        m->slots[i] = EMPTY;
    m->mask = size - 1;
    m->used = 0;
    int result = 0;
    for (size_t i = 0; result == 0 && i < old_size; i++)
        if (old[i] != EMPTY)
            result = put(r, m, old[i], 0);
    PyMem_Free(old);
    return result;
}

static int model_key(reader *r, key_model *m, PyObject *key, uint64_t cost) {
    Py_hash_t hash = PyObject_Hash(key);
    if (hash == -1)
        return -1;
    if ((!m->slots || (m->used + 1) * 3 > (m->mask + 1) * 2) && grow(r, m) < 0)
        return -1;
    return put(r, m, hash, cost);
}

/* ---- the cost of a hash ------------------------------------------------ */

static int weigh(reader *r, PyObject *key, unsigned depth);

static int weigh_tuple(reader *r, PyObject *key, unsigned depth) {
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyTuple_GET_SIZE(key); i++)
        result = weigh(r, PyTuple_GET_ITEM(key, i), depth);
    return result;
}

/* Whose members meet when it is compared as they did when it was made. */
static int weigh_set(reader *r, PyObject *key, unsigned depth) {
    key_model m = {.container = Py_NewRef(key)};
    PyObject *items = PyFrozenSet_Type.tp_iter(key), *item;
    int result = items ? 0 : -1;
    while (result == 0 && (item = PyIter_Next(items))) {
        uint64_t before = r->work;
        result = weigh(r, item, depth) < 0 ? -1 : model_key(r, &m, item, before - r->work);
        Py_DECREF(item);
    }
    Py_XDECREF(items);
    clear_model(&m);
    return PyErr_Occurred() ? -1 : result;
}

static int weigh_attributes(reader *r, PyObject *key, const char *const *names, unsigned depth) {
    int result = 0;
    for (; result == 0 && *names; names++) {
        PyObject *item = PyObject_GetAttrString(key, *names);
        result = item ? weigh(r, item, depth) : -1;
        Py_XDECREF(item);
    }
    return result;
}

static int64_t memory(PyObject *object) {
    PyObject *size = PyObject_CallMethod((PyObject *)Py_TYPE(object), "__sizeof__", "O", object);
    int64_t bytes = size ? PyLong_AsLongLong(size) : -1;
    Py_XDECREF(size);
    return bytes;
}

int64_t reader_int_size(PyObject *number) {
    int overflow;
    PyLong_AsLongLongAndOverflow(number, &overflow);
    return overflow ? memory(number) : 0;
}

/* A number that is compared with one of another type is converted, which takes time that grows
 * with the square of its size.  Up to 2048 bytes its payload has paid for that. */
static int weigh_number(reader *r, int64_t bytes) {
    if (bytes < 0)
        return -1;
    uint64_t n = bytes < 1 << 20 ? (uint64_t)bytes / 64 : 1 << 14;
    return spend(r, 1 + n + 32 * n * n);
}

/* Nobody has one before the module is there. */
static int is_fraction(reader *r, PyObject *key) {
    if (!r->fraction) {
        PyObject *name = PyUnicode_FromString("fractions");
        PyObject *module = name ? PyImport_GetModule(name) : NULL;
        r->fraction = module ? PyObject_GetAttrString(module, "Fraction") : NULL;
        Py_XDECREF(module);
        Py_XDECREF(name);
    }
    return (PyObject *)Py_TYPE(key) == r->fraction ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* Types whose methods are slow are heavy, whatever their size. */
static int weigh_other(reader *r, PyObject *key, unsigned depth) {
    static const char *const parts[] = {"numerator", "denominator", NULL};
    int fraction = is_fraction(r, key);
    if (fraction < 0 || spend(r, 1 + HEAVY) < 0)
        return -1;
    return fraction ? weigh_attributes(r, key, parts, depth) : weigh_number(r, memory(key));
}

/* Their hashes are made once; equal ones that are not the same are compared byte by byte. */
static int weigh_text(reader *r, Py_ssize_t size) { return spend(r, 1 + (uint64_t)size / 256); }

static int weigh(reader *r, PyObject *key, unsigned depth) {
    static const char *const bounds[] = {"start", "stop", "step", NULL};
    PyTypeObject *type = Py_TYPE(key);
    if (type == &PyUnicode_Type)
        return weigh_text(r, PyUnicode_GET_LENGTH(key));
    if (type == &PyBytes_Type)
        return weigh_text(r, PyBytes_GET_SIZE(key));
    if (type == &PyFloat_Type || type == &PyBool_Type || key == Py_None)
        return spend(r, 1);
    if (type == &PyLong_Type) {
        int64_t bytes = reader_int_size(key);
        return bytes ? weigh_number(r, bytes) : spend(r, 1);
    }
    if (type == &PyMemoryView_Type)
        return reader_refuse(r, "a buffer is no key");
    if (depth > 2 * READER_DEPTH)
        return reader_refuse(r, "a key is nested more than %d deep", 2 * READER_DEPTH);
    if (PyTuple_Check(key))
        return spend(r, 1) < 0 ? -1 : weigh_tuple(r, key, depth + 1);
    if (PyFrozenSet_Check(key))
        return spend(r, 1) < 0 ? -1 : weigh_set(r, key, depth + 1);
    if (type == &PyRange_Type || type == &PySlice_Type)
        return weigh_attributes(r, key, bounds, depth + 1);
    return weigh_other(r, key, depth + 1);
}

/* ---- the models -------------------------------------------------------- */

static int fill_model(reader *r, key_model *m) {
    PyObject *keys = PyDict_Check(m->container) ? PyDict_Type.tp_iter(m->container)
                                                : PySet_Type.tp_iter(m->container);
    PyObject *key;
    int result = keys ? 0 : -1;
    while (result == 0 && (key = PyIter_Next(keys))) {
        result = weigh(r, key, 0) < 0 ? -1 : model_key(r, m, key, 0);
        Py_DECREF(key);
    }
    Py_XDECREF(keys);
    return PyErr_Occurred() ? -1 : result;
}

static key_model *begin_model(reader *r, key_model *m, PyObject *container) {
    m->container = Py_NewRef(container);
    return fill_model(r, m) < 0 ? NULL : m;
}

/* Small containers come one after the other, and there are many of them: they share one place. */
static key_model *find_small_model(reader *r, PyObject *container, bool make) {
    if (r->small.container == container)
        return &r->small;
    if (!make)
        return NULL;
    clear_model(&r->small);
    return begin_model(r, &r->small, container);
}

/* Those that were not used for longest are made again if need be. */
static key_model *find_model(reader *r, PyObject *container, bool make) {
    size_t i = 0;
    while (i < READER_MODELS && r->models[i].container != container)
        i++;
    if (i == READER_MODELS && !make)
        return NULL;
    key_model found = {0};
    if (i < READER_MODELS)
        found = r->models[i];
    else
        clear_model(&r->models[--i]);
    memmove(&r->models[1], &r->models[0], i * sizeof *r->models);
    r->models[0] = found;
    return found.container ? &r->models[0] : begin_model(r, &r->models[0], container);
}

/* ---- adding ------------------------------------------------------------ */

static int check(reader *r, PyObject *container, PyObject *key) {
    Py_ssize_t size = PyDict_Check(container) ? PyDict_GET_SIZE(container)
                                              : PySet_GET_SIZE(container);
    bool secret = PyUnicode_CheckExact(key) || PyBytes_CheckExact(key);     /* its hash */
    uint64_t before = r->work;
    if (weigh(r, key, 0) < 0)
        return -1;
    if (!secret && before - r->work > r->heaviest)
        r->heaviest = before - r->work;
    if (size < (r->heaviest > HEAVY ? 1 : TINY))
        return 0;
    key_model *m = (size < SMALL ? find_small_model : find_model)(r, container, !secret);
    if (!m)
        return PyErr_Occurred() ? -1 : 0;
    return model_key(r, m, key, secret ? 0 : r->heaviest);
}

int reader_add(reader *r, PyObject *container, PyObject *key, PyObject *item) {
    bool table = PyDict_Check(container) || PyAnySet_Check(container);
    if ((table ? check(r, container, key) : weigh(r, key, 0)) < 0)
        return -1;
    if (!item)
        return PySet_Add(container, key);
    if (PyDict_CheckExact(container))
        return PyDict_SetItem(container, key, item);
    return PyObject_SetItem(container, key, item);
}
