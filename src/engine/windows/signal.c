/* A manual-reset event: stays set until it is cleared, however many wait. */
#include "error.h"

np_code np_signal_open(np_signal *s, np_error *error) {
    s->event = CreateEventW(NULL, TRUE, FALSE, NULL);
    return s->event ? NP_OK : np_error_from_os(error, GetLastError());
}

void np_signal_close(np_signal *s) {
    if (s->event)
        CloseHandle(s->event);
    s->event = NULL;
}

void np_signal_set(np_signal *s) { SetEvent(s->event); }

void np_signal_clear(np_signal *s) { ResetEvent(s->event); }

int np_signal_wait(np_signal *s, int64_t timeout_ns) {
    return WaitForSingleObject(s->event, np_milliseconds(timeout_ns)) == WAIT_OBJECT_0;
}

intptr_t np_signal_waitable(const np_signal *s) { return (intptr_t)s->event; }
