/* The machine that reads a payload: its stack, its memo, and the opcodes that make plain
 * values.  See reader.h. */
#include "reader.h"

#include <stdarg.h>

enum { PROTOCOL = 5, SIGNALS_EVERY = 1 << 16 };

/* ---- refusing ---------------------------------------------------------- */

int reader_refuse(const reader *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    PyObject *text = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (text)
        PyErr_Format(r->state->payload_error, "%U, at byte %zd of %zd", text,
                     (Py_ssize_t)(r->op - r->begin), (Py_ssize_t)(r->end - r->begin));
    Py_XDECREF(text);
    return -1;
}

/* What went wrong in a call that the payload led to is the payload's fault. */
static void blame(const reader *r) {
    if (PyErr_ExceptionMatches(r->state->payload_error)
        || PyErr_ExceptionMatches(PyExc_MemoryError) || !PyErr_ExceptionMatches(PyExc_Exception))
        return;
    PyObject *cause = take_exception();
    reader_refuse(r, "%s: %.500S", Py_TYPE(cause)->tp_name, cause);
    PyObject *error = take_exception();
    if (error) {
        PyException_SetCause(error, Py_NewRef(cause));
        PyException_SetContext(error, cause);
        put_exception(error);
    } else {
        put_exception(cause);
    }
}

/* ---- bytes ------------------------------------------------------------- */

static const uint8_t *take(reader *r, uint64_t n) {
    uint64_t left = (uint64_t)(r->end - r->at);
    if (n > left) {
        reader_refuse(r, "it wants %llu more bytes, of which there are %llu",
                      (unsigned long long)n, (unsigned long long)left);
        return NULL;
    }
    const uint8_t *data = r->at;
    r->at += n;
    return data;
}

/* A little-endian number of so many bytes. */
static int take_number(reader *r, unsigned bytes, uint64_t *out) {
    const uint8_t *data = take(r, bytes);
    if (!data)
        return -1;
    *out = 0;
    while (bytes--)
        *out = *out << 8 | data[bytes];
    return 0;
}

/* So many bytes as a number of so many bytes says. */
static const uint8_t *take_counted(reader *r, unsigned bytes, Py_ssize_t *size) {
    uint64_t n;
    if (take_number(r, bytes, &n) < 0)
        return NULL;
    const uint8_t *data = take(r, n);
    *size = (Py_ssize_t)n;
    return data;
}

/* ---- stack, marks and memo --------------------------------------------- */

static int make_room(pile *p, size_t count) {
    if (count <= p->room)
        return 0;
    size_t room = p->room ? p->room + p->room / 2 : 16;
    if (room < count)
        room = count;
    value *items = PyMem_Realloc(p->items, room * sizeof *items);
    if (!items) {
        PyErr_NoMemory();
        return -1;
    }
    p->items = items;
    p->room = room;
    return 0;
}

int reader_push(reader *r, PyObject *object, uint32_t depth) {
    if (!object)
        return -1;
    if (make_room(&r->stack, r->stack.count + 1) < 0) {
        Py_DECREF(object);
        return -1;
    }
    r->stack.items[r->stack.count++] = (value){.object = object, .depth = depth};
    return 0;
}

value *reader_top(const reader *r, size_t n) {
    if (r->stack.count - r->floor < n) {
        reader_refuse(r, "there are not enough values for this opcode");
        return NULL;
    }
    return r->stack.items + r->stack.count - n;
}

void reader_drop(reader *r, size_t n) {
    while (n--)
        Py_DECREF(r->stack.items[--r->stack.count].object);
}

int reader_push_strange(reader *r, PyObject *object, uint32_t depth) {
    if (reader_push(r, object, depth) < 0)
        return -1;
    r->stack.items[r->stack.count - 1].strange = true;
    return 0;
}

static int push_mark(reader *r) {
    if (r->mark_count == r->mark_room) {
        size_t room = r->mark_room ? r->mark_room * 2 : 16;
        size_t *marks = PyMem_Realloc(r->marks, room * sizeof *marks);
        if (!marks) {
            PyErr_NoMemory();
            return -1;
        }
        r->marks = marks;
        r->mark_room = room;
    }
    r->marks[r->mark_count++] = r->floor = r->stack.count;
    return 0;
}

/* Ends the topmost mark; how many values are above it, `below` of which must be there beneath. */
static int pop_mark(reader *r, size_t below, size_t *count) {
    if (!r->mark_count)
        return reader_refuse(r, "there is no mark for this opcode");
    *count = r->stack.count - r->floor;
    r->mark_count--;
    r->floor = r->mark_count ? r->marks[r->mark_count - 1] : 0;
    return reader_top(r, *count + below) ? 0 : -1;
}

int reader_settle(const reader *r, value *v) {
    if (Py_TYPE(v->object) != r->state->payload_name)
        return 0;
    PyObject *stands_for = PyObject_GetAttrString(v->object, "value");
    if (!stands_for)
        return -1;
    if (stands_for == Py_None) {
        reader_refuse(r, "%S is not a value", v->object);
        Py_DECREF(stands_for);
        return -1;
    }
    Py_SETREF(v->object, stands_for);
    return 0;
}

static int put_memo(reader *r, uint64_t index) {
    value *top = reader_top(r, 1);
    if (!top)
        return -1;
    if (index > (uint64_t)(r->end - r->begin))
        return reader_refuse(r, "%llu can't be the number of a value",
                             (unsigned long long)index);
    if (make_room(&r->memo, (size_t)index + 1) < 0)
        return -1;
    while (r->memo.count <= index)
        r->memo.items[r->memo.count++] = (value){0};
    PyObject *old = r->memo.items[index].object;
    Py_INCREF(top->object);
    r->memo.items[index] = *top;
    Py_XDECREF(old);
    return 0;
}

static int push_again(reader *r, value v) {
    return (v.strange ? reader_push_strange : reader_push)(r, Py_NewRef(v.object), v.depth);
}

static int get_memo(reader *r, uint64_t index) {
    if (index >= r->memo.count || !r->memo.items[index].object)
        return reader_refuse(r, "there is no value with the number %llu",
                             (unsigned long long)index);
    return push_again(r, r->memo.items[index]);
}

int reader_is_open(const reader *r, const value *v, const PyTypeObject *type) {
    if (Py_TYPE(v->object) == type && !v->strange)
        return 1;
    if (!r->open)
        return 0;
    PyObject *id = PyLong_FromVoidPtr(v->object);
    int found = id ? PyDict_Contains(r->open, id) : -1;
    Py_XDECREF(id);
    return found;
}

static int check_open(const reader *r, const value *v, const PyTypeObject *type) {
    int open = reader_is_open(r, v, type);
    return open ? open : reader_refuse(r, "it fills what was not newly made for it");
}

/* ---- plain values ------------------------------------------------------ */

static int push_int(reader *r, unsigned bytes) {
    uint64_t n;
    if (take_number(r, bytes, &n) < 0)
        return -1;
    return reader_push(r, PyLong_FromLong(bytes == 4 ? (int32_t)n : (long)n), 0);
}

static int push_long(reader *r, unsigned bytes) {
    Py_ssize_t size;
    const uint8_t *data = take_counted(r, bytes, &size);
    return data ? reader_push(r, long_from_bytes(data, (size_t)size), 0) : -1;
}

static int push_float(reader *r) {
    const uint8_t *data = take(r, 8);
    double number = data ? PyFloat_Unpack8((const char *)data, 0) : 0;
    return data ? reader_push(r, PyFloat_FromDouble(number), 0) : -1;
}

static int push_text(reader *r, unsigned bytes) {
    Py_ssize_t size;
    const char *data = (const char *)take_counted(r, bytes, &size);
    return data ? reader_push(r, PyUnicode_DecodeUTF8(data, size, "surrogatepass"), 0) : -1;
}

/* A str of Python 2. */
static int push_old_text(reader *r, unsigned bytes) {
    Py_ssize_t size;
    const char *data = (const char *)take_counted(r, bytes, &size);
    return data ? reader_push(r, PyUnicode_DecodeASCII(data, size, "strict"), 0) : -1;
}

static int push_bytes(reader *r, unsigned bytes) {
    Py_ssize_t size;
    const char *data = (const char *)take_counted(r, bytes, &size);
    return data ? reader_push(r, PyBytes_FromStringAndSize(data, size), 0) : -1;
}

static int push_bytearray(reader *r) {
    Py_ssize_t size;
    const char *data = (const char *)take_counted(r, 8, &size);
    return data ? reader_push(r, PyByteArray_FromStringAndSize(data, size), 0) : -1;
}

static int push_buffer(reader *r) {
    PyObject *buffer = r->buffers ? PyIter_Next(r->buffers) : NULL;
    if (!buffer && !PyErr_Occurred())
        return reader_refuse(r, "it wants a buffer out of band, and there is none");
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
    size_t count = 0;
    return pop_mark(r, 0, &count) < 0 ? -1 : make_tuple(r, count);
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
    if (check_open(r, list, &PyList_Type) < 0)
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
    size_t count = 0;
    return pop_mark(r, 1, &count) < 0 ? -1 : append(r, count);
}

static int set_items(reader *r, size_t count) {
    value *dict = reader_top(r, count + 1);
    if (!dict)
        return -1;
    if (count % 2)
        return reader_refuse(r, "a key has no value");
    if (check_open(r, dict, &PyDict_Type) < 0)
        return -1;
    for (size_t i = 1; i < count; i += 2) {
        value *key = dict + i, *item = key + 1;
        if (reader_settle(r, key) < 0 || reader_settle(r, item) < 0)
            return -1;
        int result = PyDict_Check(dict->object)
                         ? reader_add(r, dict->object, key->object, item->object)
                         : PyObject_SetItem(dict->object, key->object, item->object);
        if (result < 0)
            return -1;
    }
    reader_drop(r, count);
    return 0;
}

static int set_marked_items(reader *r) {
    size_t count = 0;
    return pop_mark(r, 1, &count) < 0 ? -1 : set_items(r, count);
}

static int add_items(reader *r, PyObject *set, value *items, size_t count, uint32_t *depth) {
    for (size_t i = 0; i < count; i++) {
        if (reader_settle(r, &items[i]) < 0
            || reader_add(r, set, items[i].object, NULL) < 0)
            return -1;
        *depth = items[i].depth > *depth ? items[i].depth : *depth;
    }
    return 0;
}

static int add_marked_items(reader *r) {
    size_t count = 0;
    uint32_t depth = 0;
    if (pop_mark(r, 1, &count) < 0)
        return -1;
    value *set = reader_top(r, count + 1);
    if (!set || check_open(r, set, &PySet_Type) < 0)
        return -1;
    if (!PySet_CheckExact(set->object))
        return reader_refuse(r, "this is not a set");
    if (add_items(r, set->object, set + 1, count, &depth) < 0)
        return -1;
    reader_drop(r, count);
    return 0;
}

static int make_frozenset(reader *r) {
    size_t count = 0;
    uint32_t depth = 0;
    if (pop_mark(r, 0, &count) < 0)
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
    if (take_number(r, 1, &version) < 0)
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
    if (take_number(r, 8, &size) < 0)
        return -1;
    if (size > (uint64_t)(r->end - r->at))
        return reader_refuse(r, "a part of %llu bytes was announced, of which there are %llu",
                             (unsigned long long)size, (unsigned long long)(r->end - r->at));
    return 0;
}

static int pop(reader *r) {
    size_t count = 0;
    if (r->stack.count == r->floor)
        return pop_mark(r, 0, &count);
    reader_drop(r, 1);
    return 0;
}

static int pop_marked(reader *r) {
    size_t count = 0;
    if (pop_mark(r, 0, &count) < 0)
        return -1;
    reader_drop(r, count);
    return 0;
}

static int duplicate(reader *r) {
    value *top = reader_top(r, 1);
    return top ? push_again(r, *top) : -1;
}

static int numbered(reader *r, unsigned bytes, int (*function)(reader *, uint64_t)) {
    uint64_t index;
    return take_number(r, bytes, &index) < 0 ? -1 : function(r, index);
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

static int step(reader *r, uint8_t op) {
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

    case '(': return push_mark(r);
    case '0': return pop(r);
    case '1': return pop_marked(r);
    case '2': return duplicate(r);
    case 0x94: return put_memo(r, r->memo.count);
    case 'q': return numbered(r, 1, put_memo);
    case 'r': return numbered(r, 4, put_memo);
    case 'h': return numbered(r, 1, get_memo);
    case 'j': return numbered(r, 4, get_memo);

    case 'c': return push_line(r) < 0 || push_line(r) < 0 ? -1 : reader_global(r);
    case 0x93: return reader_global(r);
    case 'R': return reader_reduce(r);
    case 0x81: return reader_new(r, false);
    case 0x92: return reader_new(r, true);
    case 'b': return reader_build(r);
    default:
        return reader_refuse(r, "opcode 0x%x is none that a message may have", op);
    }
}

static PyObject *finish(reader *r) {
    if (r->at != r->end) {
        reader_refuse(r, "%zd bytes follow the end", (Py_ssize_t)(r->end - r->at));
        return NULL;
    }
    if (r->unfinished) {
        reader_refuse(r, "an object has not got its state");
        return NULL;
    }
    if (r->mark_count || r->stack.count != 1) {
        reader_refuse(r, "it ends with %zu values instead of one", r->stack.count);
        return NULL;
    }
    if (reader_settle(r, r->stack.items) < 0)
        return NULL;
    return Py_NewRef(r->stack.items[0].object);
}

static PyObject *run(reader *r) {
    for (uint64_t n = 1;; n++) {
        r->op = r->at;
        if (r->at == r->end) {
            reader_refuse(r, "it has no end");
            return NULL;
        }
        uint8_t op = *r->at++;
        if (op == '.')
            return finish(r);
        if (step(r, op) < 0)
            return NULL;
        if (n % SIGNALS_EVERY == 0 && PyErr_CheckSignals() < 0)
            return NULL;
    }
}

/* ---- from outside ------------------------------------------------------ */

static void drop_pile(pile *p) {
    while (p->count)
        Py_XDECREF(p->items[--p->count].object);
    PyMem_Free(p->items);
}

static PyObject *read_plain(module_state *state, PyObject *reading, const Py_buffer *view,
                            PyObject *buffers) {
    const uint8_t *data = view->buf;
    reader r = {
        .state = state, .reading = reading, .buffers = buffers,
        .begin = data, .at = data, .end = data + view->len, .op = data,
        .work = 65536 + 16 * (uint64_t)view->len, .copies = 64 + 2 * (uint64_t)view->len,
    };
    /* With room, so that where the stack ends is never NULL. */
    PyObject *result = make_room(&r.stack, 16) < 0 ? NULL : run(&r);
    if (!result)
        blame(&r);
    PyObject *error = result ? NULL : take_exception();     /* what is dropped may run code */
    reader_forget_models(&r);
    drop_pile(&r.stack);
    drop_pile(&r.memo);
    Py_XDECREF(r.open);
    PyMem_Free(r.marks);
    if (error)
        put_exception(error);
    return result;
}

static PyObject *read_trusted(module_state *state, PyObject *data, PyObject *buffers) {
    if (buffers == Py_None)
        return PyObject_CallOneArg(state->pickle_loads, data);
    PyObject *args = PyTuple_Pack(1, data);
    PyObject *kwargs = Py_BuildValue("{s:O}", "buffers", buffers);
    PyObject *result = args && kwargs ? PyObject_Call(state->pickle_loads, args, kwargs) : NULL;
    Py_XDECREF(kwargs);
    Py_XDECREF(args);
    return result;
}

PyObject *reader_load(module_state *state, PyObject *reading, PyObject *data, PyObject *buffers) {
    if (reader_prepare(state) < 0)
        return NULL;
    if (!reading)
        reading = state->payload_usual;
    if (reading != state->payload_usual) {
        PyObject *trusted = PyObject_GetAttrString(reading, "trusted");
        int truth = trusted ? PyObject_IsTrue(trusted) : -1;
        Py_XDECREF(trusted);
        if (truth < 0)
            return NULL;
        if (truth)
            return read_trusted(state, data, buffers);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *iterator = buffers == Py_None ? NULL : PyObject_GetIter(buffers);
    PyObject *result = iterator || buffers == Py_None
                           ? read_plain(state, reading, &view, iterator) : NULL;
    Py_XDECREF(iterator);
    PyBuffer_Release(&view);
    return result;
}

PyObject *reader_function(PyObject *module, PyObject *args) {
    module_state *state = state_of_module(module);
    PyObject *data, *reading, *buffers;
    if (!PyArg_ParseTuple(args, "OOO:_read", &data, &reading, &buffers)
        || reader_prepare(state) < 0)
        return NULL;
    if (!PyObject_TypeCheck(reading, state->payload_reading))
        return PyErr_Format(PyExc_TypeError, "a Reading, not %R", reading);
    return reader_load(state, reading, data, buffers);
}

/* ---- the part in Python ------------------------------------------------ */

static int fetch(PyObject *module, const char *name, PyObject **out) {
    if (module && !*out)
        *out = PyObject_GetAttrString(module, name);
    return module && *out ? 0 : -1;
}

int reader_prepare(module_state *state) {
    if (state->payload_usual)
        return 0;
    PyObject *payload = PyImport_ImportModule("npipes.payload");
    PyObject *pickle = payload ? PyImport_ImportModule("pickle") : NULL;
    int result = fetch(payload, "UnsafePayloadError", &state->payload_error) < 0
                         || fetch(payload, "Name", (PyObject **)&state->payload_name) < 0
                         || fetch(payload, "Reading", (PyObject **)&state->payload_reading) < 0
                         || fetch(payload, "dumps_to_send", &state->payload_dumps) < 0
                         || fetch(pickle, "loads", &state->pickle_loads) < 0
                         || fetch(payload, "USUAL", &state->payload_usual) < 0
                     ? -1 : 0;
    Py_XDECREF(pickle);
    Py_XDECREF(payload);
    return result;
}

int reader_choose(module_state *state, PyObject *trusted, PyObject *allow, PyObject **out) {
    *out = NULL;
    if ((!trusted || trusted == Py_False)
        && (!allow || (PyTuple_CheckExact(allow) && PyTuple_GET_SIZE(allow) == 0)))
        return 0;
    if (reader_prepare(state) < 0)
        return -1;
    PyObject *none = PyTuple_New(0);
    if (none)
        *out = PyObject_CallFunctionObjArgs((PyObject *)state->payload_reading,
                                            trusted ? trusted : Py_False, allow ? allow : none,
                                            NULL);
    Py_XDECREF(none);
    return *out ? 0 : -1;
}
