/* What a payload names, and the objects that are made of it. */
#include "reader.h"

/* ---- names ------------------------------------------------------------- */

int reader_global(reader *r) {
    value *names = reader_top(r, 2);
    if (!names)
        return -1;
    if (!PyUnicode_CheckExact(names[0].object) || !PyUnicode_CheckExact(names[1].object))
        return reader_refuse(r, "a name is not text");
    PyObject *name = PyObject_CallMethod(r->reading, "find", "OO", names[0].object,
                                         names[1].object);
    if (name && Py_TYPE(name) != r->state->payload_name) {
        reader_refuse(r, "%.100U.%.100U is not allowed", names[0].object, names[1].object);
        Py_CLEAR(name);
    }
    if (!name)
        return -1;
    reader_drop(r, 2);
    return reader_push(r, name, 0);
}

static int flag(PyObject *name, const char *attribute) {
    PyObject *v = PyObject_GetAttrString(name, attribute);
    int truth = v ? PyObject_IsTrue(v) : -1;
    Py_XDECREF(v);
    return truth;
}

static int check_callable(const reader *r, const value *name, const value *args) {
    if (Py_TYPE(name->object) != r->state->payload_name)
        return reader_refuse(r, "it calls a value that is not a name");
    if (!PyTuple_CheckExact(args->object))
        return reader_refuse(r, "arguments are not a tuple");
    return 0;
}

/* ---- arguments that are copied ----------------------------------------- */

static int64_t size_of(PyObject *argument) {
    if (PyBytes_CheckExact(argument))
        return PyBytes_GET_SIZE(argument);
    if (PyUnicode_CheckExact(argument))
        return PyUnicode_GET_LENGTH(argument);
    if (PyLong_CheckExact(argument))
        return reader_int_size(argument);
    if (PyList_CheckExact(argument))
        return PyList_GET_SIZE(argument);
    return 0;
}

/* A value that the memo gives out again and again must not be copied each time. */
static int count_copies(reader *r, PyObject *args) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(args); i++) {
        int64_t size = size_of(PyTuple_GET_ITEM(args, i));
        if (size < 0)
            return -1;
        if ((uint64_t)size > r->copies)
            return reader_refuse(r, "it copies more than it holds");
        r->copies -= (uint64_t)size;
    }
    return 0;
}

/* ---- making ------------------------------------------------------------ */

static int enlist(PyObject **list, PyObject *object) {
    if (!*list && !(*list = PyDict_New()))
        return -1;
    PyObject *id = PyLong_FromVoidPtr(object);
    int result = id ? PyDict_SetItem(*list, id, object) : -1;
    Py_XDECREF(id);
    return result;
}

static int strike(PyObject *list, PyObject *object) {
    PyObject *id = PyLong_FromVoidPtr(object);
    int found = !id ? -1 : list ? PyDict_Contains(list, id) : 0;
    int result = found > 0 ? PyDict_DelItem(list, id) : found;
    Py_XDECREF(id);
    return result;
}

/* Nobody else has what was made just now, so it may be filled; what was there before, such as
 * a member of an enumeration, may not. */
static int open_new(reader *r, PyObject *object) {
    return Py_REFCNT(object) == 1 ? enlist(&r->open, object) : 0;
}

static int made(reader *r, PyObject *name, PyObject *object, uint32_t depth, size_t used) {
    int fills = object ? flag(name, "fills") : -1;
    if (fills < 0 || (fills && open_new(r, object) < 0)) {
        Py_XDECREF(object);
        return -1;
    }
    reader_drop(r, used);
    return reader_push_strange(r, object, depth);
}

static PyObject *set_of_list(reader *r, PyTypeObject *type, PyObject *args) {
    PyObject *list = PyTuple_GET_SIZE(args) == 1 ? PyTuple_GET_ITEM(args, 0) : NULL;
    if (!list || !PyList_CheckExact(list)) {
        reader_refuse(r, "a set is made of a list");
        return NULL;
    }
    PyObject *set = PySet_New(NULL);
    for (Py_ssize_t i = 0; set && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = Py_NewRef(PyList_GET_ITEM(list, i));
        if (reader_add(r, set, item, NULL) < 0)
            Py_CLEAR(set);
        Py_DECREF(item);
    }
    if (set && type == &PyFrozenSet_Type)
        Py_SETREF(set, PyFrozenSet_New(set));
    return set;
}

static PyObject *call(reader *r, PyObject *name, PyObject *args) {
    PyObject *target = PyObject_GetAttrString(name, "make");
    PyObject *result = NULL;
    if (target == (PyObject *)&PySet_Type || target == (PyObject *)&PyFrozenSet_Type)
        result = set_of_list(r, (PyTypeObject *)target, args);
    else if (target == Py_None)
        reader_refuse(r, "%S can't be called like this", name);
    else if (target)
        result = PyObject_CallObject(target, args);
    Py_XDECREF(target);
    return result;
}

int reader_reduce(reader *r) {
    value *name = reader_top(r, 2);
    if (!name || check_callable(r, name, name + 1) < 0)
        return -1;
    PyObject *args = name[1].object;
    int plain = flag(name->object, "plain");
    if (plain < 0 || (plain && count_copies(r, args) < 0))
        return -1;
    return made(r, name->object, call(r, name->object, args), name[1].depth, 2);
}

static PyObject *call_new(reader *r, PyObject *name, PyObject *args, PyObject *kwargs) {
    PyObject *target = PyObject_GetAttrString(name, "new");
    PyObject *result = NULL;
    if (target == Py_None)
        reader_refuse(r, "%S can't be made like this", name);
    else if (target)
        result = PyObject_Call(target, args, kwargs);
    Py_XDECREF(target);
    return result;
}

int reader_new(reader *r, bool keywords) {
    size_t used = keywords ? 3 : 2;
    value *name = reader_top(r, used);
    if (!name || check_callable(r, name, name + 1) < 0)
        return -1;
    PyObject *kwargs = keywords ? name[2].object : NULL;
    if (kwargs && !PyDict_CheckExact(kwargs))
        return reader_refuse(r, "keyword arguments are not a dict");
    int needs_state = flag(name->object, "needs_state");
    if (needs_state < 0)
        return -1;
    uint32_t depth = name[1].depth;
    PyObject *object = call_new(r, name->object, name[1].object, kwargs);
    int result = made(r, name->object, object, depth, used);
    return result < 0 || !needs_state ? result : enlist(&r->unfinished, object);
}

/* ---- states ------------------------------------------------------------ */

int reader_build(reader *r) {
    value *object = reader_top(r, 2);
    if (!object || reader_settle(r, object + 1) < 0)
        return -1;
    int open = reader_is_open(r, object, NULL);
    if (open <= 0)
        return open ? -1 : reader_refuse(r, "it gives a state to what was not newly made for it");
    if (strike(r->open, object->object) < 0)
        return -1;
    PyObject *done = PyObject_CallMethod(r->reading, "build", "OO", object->object,
                                         object[1].object);
    Py_XDECREF(done);
    if (!done || strike(r->unfinished, object->object) < 0)
        return -1;
    reader_drop(r, 1);
    return 0;
}
