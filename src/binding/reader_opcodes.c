/* The opcodes of pickle, and those in full that make plain values. */
#include "reader.h"

enum { PROTOCOL = 5 };

/* ---- plain values ------------------------------------------------------ */

static int push_int(reader *r, unsigned bytes) {
    uint64_t n;
    if (reader_number(r, bytes, &n) < 0)
        return -1;
    return reader_push(r, PyLong_FromLong(bytes == 4 ? (int32_t)n : (long)n), 0);
}

static int push_long(reader *r, unsigned bytes) {
    Py_ssize_t size;
    const uint8_t *data = reader_counted(r, bytes, &size);
    return data ? reader_push(r, long_from_bytes(data, (size_t)size), 0) : -1;
}

static int push_float(reader *r) {
    const uint8_t *data = reader_take(r, 8);
    double number = data ? PyFloat_Unpack8((const char *)data, 0) : 0;
    return data ? reader_push(r, PyFloat_FromDouble(number), 0) : -1;
}

static int push_text(reader *r, unsigned bytes) {
    Py_ssize_t size;
    const char *data = (const char *)reader_counted(r, bytes, &size);
    return data ? reader_push(r, PyUnicode_DecodeUTF8(data, size, "surrogatepass"), 0) : -1;
}

/* A str of Python 2. */
static int push_old_text(reader *r, unsigned bytes) {
    Py_ssize_t size;
    const char *data = (const char *)reader_counted(r, bytes, &size);
    return data ? reader_push(r, PyUnicode_DecodeASCII(data, size, "strict"), 0) : -1;
}

static int push_bytes(reader *r, unsigned bytes) {
    Py_ssize_t size;
    const char *data = (const char *)reader_counted(r, bytes, &size);
    return data ? reader_push(r, PyBytes_FromStringAndSize(data, size), 0) : -1;
}

static int push_bytearray(reader *r) {
    Py_ssize_t size;
    const char *data = (const char *)reader_counted(r, 8, &size);
    return data ? reader_push(r, PyByteArray_FromStringAndSize(data, size), 0) : -1;
}

static int push_buffer(reader *r) {
    PyObject *buffer = r->buffers ? PyIter_Next(r->buffers) : NULL;
    if (!buffer && !PyErr_Occurred())
        return reader_refuse(r, "it wants a buffer out of band, and there is none");
    r->buffers_failed = !buffer;
    return reader_push_strange(r, buffer, 0);
}

static int protect_buffer(reader *r) {
    value *top = reader_top(r, 1);
    if (!top)
        return -1;
    if (!PyObject_CheckBuffer(top->object))
        return reader_refuse(r, "this is no buffer");
    PyObject *view = PyMemoryView_FromObject(top->object);
    if (view && !PyMemoryView_GET_BUFFER(view)->readonly)
        Py_SETREF(view, PyObject_CallMethod(view, "toreadonly", NULL));
    if (view)
        Py_SETREF(top->object, view);
    return view ? 0 : -1;
}

/* ---- containers -------------------------------------------------------- */

static int make_tuple(reader *r, size_t count) {
    value *items = reader_top(r, count);
    if (!items)
        return -1;
    uint32_t depth = 0;
    for (size_t i = 0; i < count; i++) {
        if (reader_settle(r, &items[i]) < 0)
            return -1;
        depth = items[i].depth > depth ? items[i].depth : depth;
    }
    if (count && ++depth > READER_DEPTH)
        return reader_refuse(r, "values are nested more than %d deep", READER_DEPTH);
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    if (!tuple)
        return -1;
    for (size_t i = 0; i < count; i++)
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, Py_NewRef(items[i].object));
    reader_drop(r, count);
    return reader_push(r, tuple, depth);
}

static int make_marked_tuple(reader *r) {
    size_t count;
    return reader_unmark(r, 0, &count) < 0 ? -1 : make_tuple(r, count);
}

static int append_to_open(reader *r, PyObject *object, const value *items, size_t count) {
    PyObject *list = PyList_New((Py_ssize_t)count);
    if (!list)
        return -1;
    for (size_t i = 0; i < count; i++)
        PyList_SET_ITEM(list, (Py_ssize_t)i, Py_NewRef(items[i].object));
    PyObject *done = PyObject_CallMethod(r->reading, "extend", "OO", object, list);
    Py_DECREF(list);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int append(reader *r, size_t count) {
    value *list = reader_top(r, count + 1);
    if (!list)
        return -1;
    value *items = list + 1;
    for (size_t i = 0; i < count; i++)
        if (reader_settle(r, &items[i]) < 0)
            return -1;
    if (reader_check_open(r, list, &PyList_Type) < 0)
        return -1;
    if (PyList_CheckExact(list->object)) {
        for (size_t i = 0; i < count; i++)
            if (PyList_Append(list->object, items[i].object) < 0)
                return -1;
    } else if (append_to_open(r, list->object, items, count) < 0) {
        return -1;
    }
    reader_drop(r, count);
    return 0;
}

static int append_marked(reader *r) {
    size_t count;
    return reader_unmark(r, 1, &count) < 0 ? -1 : append(r, count);
}

static int set_items(reader *r, size_t count) {
    value *dict = reader_top(r, count + 1);
    if (!dict)
        return -1;
    if (count % 2)
        return reader_refuse(r, "a key has no value");
    if (reader_check_open(r, dict, &PyDict_Type) < 0)
        return -1;
    for (size_t i = 1; i < count; i += 2) {
        value *key = dict + i, *item = key + 1;
        if (reader_settle(r, key) < 0 || reader_settle(r, item) < 0)
            return -1;
        if (reader_add(r, dict->object, key->object, item->object) < 0)
            return -1;
    }
    reader_drop(r, count);
    return 0;
}

static int set_marked_items(reader *r) {
    size_t count;
    return reader_unmark(r, 1, &count) < 0 ? -1 : set_items(r, count);
}

static int add_items(reader *r, PyObject *set, value *items, size_t count, uint32_t *depth) {
    for (size_t i = 0; i < count; i++) {
        if (reader_settle(r, &items[i]) < 0 || reader_add(r, set, items[i].object, NULL) < 0)
            return -1;
        *depth = items[i].depth > *depth ? items[i].depth : *depth;
    }
    return 0;
}

static int add_marked_items(reader *r) {
    size_t count;
    uint32_t depth = 0;
    if (reader_unmark(r, 1, &count) < 0)
        return -1;
    value *set = reader_top(r, count + 1);
    if (!set || reader_check_open(r, set, &PySet_Type) < 0)
        return -1;
    if (!PySet_CheckExact(set->object))
        return reader_refuse(r, "this is not a set");
    if (add_items(r, set->object, set + 1, count, &depth) < 0)
        return -1;
    reader_drop(r, count);
    return 0;
}

static int make_frozenset(reader *r) {
    size_t count;
    uint32_t depth = 0;
    if (reader_unmark(r, 0, &count) < 0)
        return -1;
    value *items = reader_top(r, count);
    PyObject *set = items ? PySet_New(NULL) : NULL;
    PyObject *frozen = NULL;
    if (set && add_items(r, set, items, count, &depth) == 0) {
        if (++depth > READER_DEPTH)
            reader_refuse(r, "values are nested more than %d deep", READER_DEPTH);
        else
            frozen = PyFrozenSet_New(set);
    }
    Py_XDECREF(set);
    if (!frozen)
        return -1;
    reader_drop(r, count);
    return reader_push(r, frozen, depth);
}

/* ---- opcodes ----------------------------------------------------------- */

static int check_protocol(reader *r) {
    uint64_t version;
    if (reader_number(r, 1, &version) < 0)
        return -1;
    if (r->op != r->begin)
        return reader_refuse(r, "a protocol stands at the beginning only");
    if (version > PROTOCOL)
        return reader_refuse(r, "it is of protocol %d; %d is the latest", (int)version, PROTOCOL);
    return 0;
}

/* Frames say again how long parts are; one that is longer than what there is is cut off. */
static int check_frame(reader *r) {
    uint64_t size;
    if (reader_number(r, 8, &size) < 0)
        return -1;
    if (size > (uint64_t)(r->end - r->at))
        return reader_refuse(r, "a part of %llu bytes was announced, of which there are %llu",
                             (unsigned long long)size, (unsigned long long)(r->end - r->at));
    return 0;
}

static int pop(reader *r) {
    size_t count;
    if (r->stack.count == r->floor)
        return reader_unmark(r, 0, &count);
    reader_drop(r, 1);
    return 0;
}

static int pop_marked(reader *r) {
    size_t count;
    if (reader_unmark(r, 0, &count) < 0)
        return -1;
    reader_drop(r, count);
    return 0;
}

static int duplicate(reader *r) {
    value *top = reader_top(r, 1);
    return top ? reader_push_again(r, *top) : -1;
}

static int numbered(reader *r, unsigned bytes, int (*function)(reader *, uint64_t)) {
    uint64_t index;
    return reader_number(r, bytes, &index) < 0 ? -1 : function(r, index);
}

static int push_line(reader *r) {
    size_t left = (size_t)(r->end - r->at);
    const uint8_t *end = left ? memchr(r->at, '\n', left) : NULL;
    if (!end)
        return reader_refuse(r, "a name has no end");
    const char *text = (const char *)r->at;
    r->at = end + 1;
    return reader_push(r, PyUnicode_DecodeUTF8(text, (const char *)end - text, "strict"), 0);
}

int reader_step(reader *r, uint8_t op) {
    switch (op) {
    case 0x80: return check_protocol(r);
    case 0x95: return check_frame(r);

    case 'N': return reader_push(r, Py_NewRef(Py_None), 0);
    case 0x88: return reader_push(r, Py_NewRef(Py_True), 0);
    case 0x89: return reader_push(r, Py_NewRef(Py_False), 0);
    case 'K': return push_int(r, 1);
    case 'M': return push_int(r, 2);
    case 'J': return push_int(r, 4);
    case 0x8a: return push_long(r, 1);
    case 0x8b: return push_long(r, 4);
    case 'G': return push_float(r);
    case 0x8c: return push_text(r, 1);
    case 'X': return push_text(r, 4);
    case 0x8d: return push_text(r, 8);
    case 'U': return push_old_text(r, 1);
    case 'T': return push_old_text(r, 4);
    case 'C': return push_bytes(r, 1);
    case 'B': return push_bytes(r, 4);
    case 0x8e: return push_bytes(r, 8);
    case 0x96: return push_bytearray(r);
    case 0x97: return push_buffer(r);
    case 0x98: return protect_buffer(r);

    case ')': return make_tuple(r, 0);
    case 0x85: return make_tuple(r, 1);
    case 0x86: return make_tuple(r, 2);
    case 0x87: return make_tuple(r, 3);
    case 't': return make_marked_tuple(r);
    case ']': return reader_push(r, PyList_New(0), 0);
    case 'a': return append(r, 1);
    case 'e': return append_marked(r);
    case '}': return reader_push(r, PyDict_New(), 0);
    case 's': return set_items(r, 2);
    case 'u': return set_marked_items(r);
    case 0x8f: return reader_push(r, PySet_New(NULL), 0);
    case 0x90: return add_marked_items(r);
    case 0x91: return make_frozenset(r);

    case '(': return reader_mark(r);
    case '0': return pop(r);
    case '1': return pop_marked(r);
    case '2': return duplicate(r);
    case 0x94: return reader_put(r, r->memo.count);
    case 'q': return numbered(r, 1, reader_put);
    case 'r': return numbered(r, 4, reader_put);
    case 'h': return numbered(r, 1, reader_get);
    case 'j': return numbered(r, 4, reader_get);

    case 'c': return push_line(r) < 0 || push_line(r) < 0 ? -1 : reader_global(r);
    case 0x93: return reader_global(r);
    case 'R': return reader_reduce(r);
    case 0x81: return reader_new(r, false);
    case 0x92: return reader_new(r, true);
    case 'b': return reader_build(r);
    default: return reader_refuse(r, "opcode 0x%x is none that a message may have", op);
    }
}
