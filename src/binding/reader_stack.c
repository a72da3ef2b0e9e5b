/* What the machine that reads a payload works with: bytes, stack, marks and memo. */
#include "reader.h"

#include <stdarg.h>

/* ---- refusing ---------------------------------------------------------- */

/* Every protocol of pickle from 2 on begins with this opcode. */
static const char *other_use(const reader *r) {
    bool pickled = r->begin < r->end && *r->begin == 0x80;
    return pickled
               ? ""
               : "; it does not begin as an object does: what send_bytes() sent is for recv_bytes()";
}

int reader_refuse(const reader *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    PyObject *text = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (text)
        PyErr_Format(r->state->payload_error, "%U, at byte %zd of %zd%s", text,
                     (Py_ssize_t)(r->op - r->begin), (Py_ssize_t)(r->end - r->begin), other_use(r));
    Py_XDECREF(text);
    return -1;
}

/* ---- bytes ------------------------------------------------------------- */

const uint8_t *reader_take(reader *r, uint64_t n) {
    uint64_t left = (uint64_t)(r->end - r->at);
    if (n > left) {
        reader_refuse(r, "it wants %llu more bytes, of which there are %llu", (unsigned long long)n,
                      (unsigned long long)left);
        return NULL;
    }
    const uint8_t *data = r->at;
    r->at += n;
    return data;
}

/* A little-endian number of so many bytes. */
int reader_number(reader *r, unsigned bytes, uint64_t *out) {
    const uint8_t *data = reader_take(r, bytes);
    if (!data)
        return -1;
    *out = 0;
    while (bytes--)
        *out = *out << 8 | data[bytes];
    return 0;
}

/* So many bytes as a number of so many bytes says. */
const uint8_t *reader_counted(reader *r, unsigned bytes, Py_ssize_t *size) {
    uint64_t n;
    if (reader_number(r, bytes, &n) < 0)
        return NULL;
    const uint8_t *data = reader_take(r, n);
    *size = (Py_ssize_t)n;
    return data;
}

/* ---- stack, marks and memo --------------------------------------------- */

int reader_make_room(pile *p, size_t count) {
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
    if (reader_make_room(&r->stack, r->stack.count + 1) < 0) {
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

int reader_mark(reader *r) {
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
int reader_unmark(reader *r, size_t below, size_t *count) {
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

int reader_put(reader *r, uint64_t index) {
    value *top = reader_top(r, 1);
    if (!top)
        return -1;
    if (index > (uint64_t)(r->end - r->begin))
        return reader_refuse(r, "%llu can't be the number of a value", (unsigned long long)index);
    if (reader_make_room(&r->memo, (size_t)index + 1) < 0)
        return -1;
    while (r->memo.count <= index)
        r->memo.items[r->memo.count++] = (value){0};
    PyObject *old = r->memo.items[index].object;
    Py_INCREF(top->object);
    r->memo.items[index] = *top;
    Py_XDECREF(old);
    return 0;
}

int reader_push_again(reader *r, value v) {
    return (v.strange ? reader_push_strange : reader_push)(r, Py_NewRef(v.object), v.depth);
}

int reader_get(reader *r, uint64_t index) {
    if (index >= r->memo.count || !r->memo.items[index].object)
        return reader_refuse(r, "there is no value with the number %llu",
                             (unsigned long long)index);
    return reader_push_again(r, r->memo.items[index]);
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

int reader_check_open(const reader *r, const value *v, const PyTypeObject *type) {
    int open = reader_is_open(r, v, type);
    return open ? open : reader_refuse(r, "it fills what was not newly made for it");
}
