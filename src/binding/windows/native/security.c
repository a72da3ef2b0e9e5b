/* SecurityAttributes: who may open what is created, from SDDL or nobody excluded. */
#include "native.h"

#include <sddl.h>

typedef struct security_object {
    PyObject_HEAD
    SECURITY_ATTRIBUTES attributes;
    SECURITY_DESCRIPTOR without_dacl;
    void *from_sddl;                    /* LocalFree's; NULL: without_dacl is in use */
} security_object;

static DWORD describe(security_object *self, const wchar_t *sddl) {
    BOOL done;
    if (sddl) {
        done = ConvertStringSecurityDescriptorToSecurityDescriptorW(sddl, SDDL_REVISION_1,
                                                                    &self->from_sddl, NULL);
        self->attributes.lpSecurityDescriptor = self->from_sddl;
    } else {
        done = InitializeSecurityDescriptor(&self->without_dacl, SECURITY_DESCRIPTOR_REVISION)
               && SetSecurityDescriptorDacl(&self->without_dacl, TRUE, NULL, FALSE);
        self->attributes.lpSecurityDescriptor = &self->without_dacl;
    }
    return done ? 0 : GetLastError();
}

static PyObject *security_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"sddl", "bInheritHandle", NULL};
    PyObject *sddl;
    int inherit = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$p:SecurityAttributes", names, &sddl,
                                     &inherit))
        return NULL;
    native_name text = {0};
    if (sddl != Py_None && !native_name_get(sddl, &text))
        return NULL;
    security_object *self = (security_object *)type->tp_alloc(type, 0);
    if (self) {
        self->attributes.nLength = sizeof self->attributes;
        self->attributes.bInheritHandle = inherit;
        DWORD os = describe(self, text.text);
        if (os) {
            native_raise(os, NULL);
            Py_CLEAR(self);
        }
    }
    native_name_free(&text);
    return (PyObject *)self;
}

static void security_dealloc(PyObject *object) {
    security_object *self = (security_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->from_sddl)
        LocalFree(self->from_sddl);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *get_sddl(PyObject *object, void *unused) {
    (void)unused;
    security_object *self = (security_object *)object;
    if (!self->from_sddl)
        Py_RETURN_NONE;
    const SECURITY_INFORMATION parts = OWNER_SECURITY_INFORMATION | GROUP_SECURITY_INFORMATION
                                       | DACL_SECURITY_INFORMATION;
    wchar_t *text;
    if (!ConvertSecurityDescriptorToStringSecurityDescriptorW(self->from_sddl, SDDL_REVISION_1,
                                                              parts, &text, NULL))
        return native_raise(GetLastError(), NULL);
    PyObject *result = PyUnicode_FromWideChar(text, -1);
    LocalFree(text);
    return result;
}

static PyObject *get_inherit(PyObject *object, void *unused) {
    (void)unused;
    return PyBool_FromLong(((security_object *)object)->attributes.bInheritHandle);
}

static PyGetSetDef getset[] = {
    {"sddl", get_sddl, NULL,
     "Owner, group and DACL as Windows has understood them; None without a DACL.", NULL},
    {"bInheritHandle", get_inherit, NULL, "Whether child processes may inherit the handle.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static const char doc[] =
    "SecurityAttributes(sddl, *, bInheritHandle=False)\n--\n\n"
    "Who may open what CreateNamedPipe or CreateFile creates: SECURITY_ATTRIBUTES with a\n"
    "security descriptor.  sddl: the descriptor in Windows' description language, such as\n"
    "'D:P(A;;FA;;;SY)(A;;FA;;;OW)'; None: a null DACL, which lets everyone do everything (what\n"
    "InitializeSecurityDescriptor and SetSecurityDescriptorDacl(TRUE, NULL) make).\n"
    "bInheritHandle: whether child processes may inherit the handle.  OSError for SDDL that\n"
    "Windows does not understand.";

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_new, security_new},
    {Py_tp_dealloc, security_dealloc},
    {Py_tp_getset, getset},
    {0, NULL},
};

PyType_Spec native_security_spec = {
    .name = "npipes.native.SecurityAttributes",
    .basicsize = sizeof(security_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

bool native_security_get(PyObject *module, PyObject *object, SECURITY_ATTRIBUTES **out) {
    *out = NULL;
    if (object == Py_None)
        return true;
    if (!PyObject_TypeCheck(object, native_state_of(module)->security_type)) {
        PyErr_Format(PyExc_TypeError,
                     "lpSecurityAttributes must be SecurityAttributes or None, not %.200s",
                     Py_TYPE(object)->tp_name);
        return false;
    }
    *out = &((security_object *)object)->attributes;
    return true;
}
