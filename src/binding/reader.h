/* Reading an object out of a message that nobody vouches for.
 *
 * A payload is a pickle.  This machine runs its opcodes, but not as the standard
 * library's does: it makes plain values by itself, and whatever the payload names
 * is a Name of npipes.plain, or of what `allow` names, or the end.  A Name is no
 * value: it can be called by the opcodes that make objects, and only what they
 * made newly can be filled or be given a state, once.
 *
 * Nothing recurses, and what a payload can cost is bounded by its size: a length
 * or an index is believed only as far as there are bytes for it, tuples nest so
 * deep at most, arguments that are copied count, and so does the hashing and
 * comparing of keys (reader_keys.c). */
#ifndef NP_READER_H
#define NP_READER_H

#include "state.h"

enum {
    READER_DEPTH = 1000,    /* hash() of a nested tuple recurses, without a check */
    READER_MODELS = 8
};

/* Owns its reference.  depth: how deep tuples nest in it; strange: it was not made by the
 * machine itself, so that it may be somebody else's too. */
typedef struct value {
    PyObject *object;
    uint32_t depth;
    bool strange;
} value;

typedef struct pile {
    value *items;
    size_t count, room;
} pile;

/* The table inside a dict or set, by hashes alone. */
typedef struct key_model {
    PyObject *container;    /* NULL: unused */
    Py_hash_t *slots;
    size_t mask, used;
} key_model;

typedef struct reader {
    module_state *state;
    PyObject *reading;          /* of npipes.payload; borrowed */
    PyObject *buffers;          /* an iterator of out-of-band buffers, or NULL; borrowed */
    const uint8_t *begin, *at, *end;
    const uint8_t *op;          /* the opcode that is being done */
    pile stack, memo;
    size_t *marks, mark_count, mark_room;
    size_t floor;               /* nothing below the last mark can be popped */
    PyObject *open;             /* id: object; what may still be filled */
    PyObject *unfinished;       /* id: object; what is nothing yet without a state */
    bool buffers_failed;        /* which is not the payload's fault */
    uint64_t work;              /* what is left for keys */
    uint64_t heaviest;          /* of the keys there were */
    uint64_t copies;            /* bytes of arguments that may still be copied */
    PyObject *fraction;         /* the class, once it is there */
    key_model models[READER_MODELS];    /* the one used last comes first */
    key_model small;
} reader;

/* ---- reader.c ---------------------------------------------------------- */

/* The object in a payload; with reading NULL as by default.  buffers: an iterable or None.
 * `data` is bytes-like. */
PyObject *reader_load(module_state *state, PyObject *reading, PyObject *data, PyObject *buffers);
/* A Reading for these arguments, NULL being the defaults: *out is NULL if it is the usual one. */
int reader_choose(module_state *state, PyObject *trusted, PyObject *allow, PyObject **out);
/* npipes._npipes._read(data, reading, buffers) */
PyObject *reader_function(PyObject *module, PyObject *args);
/* Fetches what npipes.payload has; once. */
int reader_prepare(module_state *state);

/* ---- reader_stack.c ---------------------------------------------------- */

/* Raises UnsafePayloadError that says where; always -1. */
int reader_refuse(const reader *r, const char *format, ...);
/* So many of the bytes that come; NULL with an exception if there are not so many. */
const uint8_t *reader_take(reader *r, uint64_t n);
/* A little-endian number of so many bytes. */
int reader_number(reader *r, unsigned bytes, uint64_t *out);
/* As many bytes as a number of so many bytes says. */
const uint8_t *reader_counted(reader *r, unsigned bytes, Py_ssize_t *size);

int reader_make_room(pile *p, size_t count);
/* Takes over the reference, and NULL for an exception. */
int reader_push(reader *r, PyObject *object, uint32_t depth);
int reader_push_strange(reader *r, PyObject *object, uint32_t depth);
int reader_push_again(reader *r, value v);
/* The topmost n values, or NULL with an exception. */
value *reader_top(const reader *r, size_t n);
void reader_drop(reader *r, size_t n);
int reader_mark(reader *r);
/* Ends the topmost mark; how many values are above it, `below` of which must be there beneath. */
int reader_unmark(reader *r, size_t below, size_t *count);
int reader_put(reader *r, uint64_t index);
int reader_get(reader *r, uint64_t index);
/* A value is about to become part of another: a class then stands for itself. */
int reader_settle(const reader *r, value *v);
/* Whether it may still be filled; `type` is what the machine makes itself.  -1 with an exception. */
int reader_is_open(const reader *r, const value *v, const PyTypeObject *type);
/* The same, with an exception if it may not. */
int reader_check_open(const reader *r, const value *v, const PyTypeObject *type);

/* ---- reader_opcodes.c -------------------------------------------------- */

int reader_step(reader *r, uint8_t op);

/* ---- reader_objects.c: names and what is made of them ------------------ */

int reader_global(reader *r);           /* (module, name) on the stack -> Name */
int reader_reduce(reader *r);
int reader_new(reader *r, bool keywords);
int reader_build(reader *r);

/* ---- reader_keys.c ----------------------------------------------------- */

/* Adds to a mapping (item not NULL), or to a set. */
int reader_add(reader *r, PyObject *container, PyObject *key, PyObject *item);
void reader_forget_models(reader *r);
/* Bytes of an int, 0 if it is not a large one.  -1 with an exception. */
int64_t reader_int_size(PyObject *number);

#endif
