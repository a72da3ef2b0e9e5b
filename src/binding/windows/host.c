#include "state.h"

#include <windows.h>

const bool host_has_descriptors = false;
const char host_family[] = "AF_PIPE";

bool host_post(intptr_t port, intptr_t address) {
    return PostQueuedCompletionStatus((HANDLE)port, 0, 0, (OVERLAPPED *)address);
}

void host_expect_large_messages(void) {}

void host_prepare_large_buffer(void *data, size_t size) { (void)data, (void)size; }

/* CPython's event that Ctrl-C sets, after it has noted the signal. */
PyAPI_FUNC(void *) _PyOS_SigintEvent(void);

static void CALLBACK on_sigint(void *context, BOOLEAN timed_out) {
    (void)timed_out;
    np_endpoint_interrupt(context);
}

void interrupt_watch_begin(interrupt_watch *watch, np_endpoint *endpoint) {
    HANDLE event = _PyOS_SigintEvent();
    HANDLE wait = NULL;
    watch->endpoint = endpoint;
    watch->wait = NULL;
    if (!event)
        return;
    ResetEvent(event);
    if (RegisterWaitForSingleObject(&wait, event, on_sigint, endpoint, INFINITE,
                                    WT_EXECUTEINWAITTHREAD | WT_EXECUTEONLYONCE))
        watch->wait = wait;
}

void interrupt_watch_end(interrupt_watch *watch) {
    if (watch->wait)
        UnregisterWaitEx(watch->wait, INVALID_HANDLE_VALUE);
    watch->wait = NULL;
}

intptr_t host_interrupt(void) {
    HANDLE event = _PyOS_IsMainThread() ? _PyOS_SigintEvent() : NULL;
    if (event)
        ResetEvent(event);
    return (intptr_t)event;
}

/* Wide: the system speaks the user's language, and not UTF-8. */
static PyObject *system_message(DWORD os) {
    wchar_t text[512];
    DWORD n = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, os,
                             0, text, sizeof text / sizeof *text, NULL);
    while (n && (text[n - 1] == L'\n' || text[n - 1] == L'\r' || text[n - 1] == L'.'))
        n--;
    return n ? PyUnicode_FromWideChar(text, (Py_ssize_t)n) : PyUnicode_FromString("unknown error");
}

PyObject *host_os_error(PyObject *type, int os, const char *text, PyObject *filename) {
    PyObject *message = text ? PyUnicode_FromString(text) : system_message((DWORD)os);
    /* OSError(errno, text, filename, winerror): errno follows from winerror. */
    return message
               ? PyObject_CallFunction(type, "iNOi", 0, message, filename ? filename : Py_None, os)
               : NULL;
}
