/* Instances of a pipe that wait for clients, and a thread that waits for them. */
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "listen.h"
#include "wire_wait.h"

/* Begins to wait for a client.  0 or GetLastError(). */
static DWORD arm(np_wire_instance *i) {
    i->overlapped = (OVERLAPPED){.hEvent = i->connected};
    i->pending = false;
    if (ConnectNamedPipe(i->handle, &i->overlapped))
        return 0;
    DWORD error = GetLastError();
    if (error == ERROR_IO_PENDING) {
        i->pending = true;
        return 0;
    }
    /* Here already; or here and gone, and what it sent is still to be read. */
    if (error != ERROR_PIPE_CONNECTED && error != ERROR_NO_DATA)
        return error;
    SetEvent(i->connected);
    return 0;
}

static void close_instance(np_wire_instance *i) {
    DWORD unused;
    /* Also where there is nothing to cancel any more: the system may still be about to
     * write down how it ended. */
    if (i->pending) {
        CancelIoEx(i->handle, &i->overlapped);
        GetOverlappedResult(i->handle, &i->overlapped, &unused, TRUE);
    }
    if (i->handle)
        CloseHandle(i->handle);
    if (i->connected)
        CloseHandle(i->connected);
    free(i);
}

/* One instance more: of this handle, or of a new one where it is NULL. */
static DWORD add(np_wire_listener *l, HANDLE handle) {
    DWORD error = 0;
    np_wire_instance *i = calloc(1, sizeof *i);
    if (!i) {
        if (handle)
            CloseHandle(handle);
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    i->handle = handle;
    if (!handle)
        i->handle = np_listener_create(&l->listener, false, &error);
    if (!error && !(i->connected = CreateEventW(NULL, TRUE, FALSE, NULL)))
        error = GetLastError();
    if (!error)
        error = arm(i);
    if (error)
        close_instance(i);
    else
        l->instances[l->count++] = i;
    return error;
}

np_code np_wire_listen(np_wire_listener *l, const np_config *config, const char *address,
                       np_error *error) {
    l->count = 0;
    np_code code = np_listener_open(&l->listener, config, address, error);
    if (code != NP_OK)
        return code;
    HANDLE first = l->listener.spare;
    l->listener.spare = NULL;
    DWORD os = add(l, first);
    while (!os && l->count < NP_WIRE_INSTANCES)
        os = add(l, NULL);
    if (!os)
        return NP_OK;
    np_wire_unlisten(l);
    return np_error_from_os(error, os);
}

void np_wire_unlisten(np_wire_listener *l) {
    while (l->count)
        close_instance(l->instances[--l->count]);
    np_listener_close(&l->listener);
}

/* There is no fork. */
void np_wire_listener_forked(np_wire_listener *l) { (void)l; }

intptr_t np_wire_listener_handle(const np_wire_listener *l) {
    (void)l;
    return 0;
}

static np_wire_instance *take_out(np_wire_listener *l, size_t which) {
    np_wire_instance *taken = l->instances[which];
    size_t after = --l->count - which;
    memmove(&l->instances[which], &l->instances[which + 1], after * sizeof taken);
    return taken;
}

/* An instance that can't be waited on. */
static void drop(np_wire_listener *l, size_t which) { close_instance(take_out(l, which)); }

/* A connected instance; the others still wait, so the address stays. */
static np_code hand_over(np_wire_listener *l, size_t which, np_wire *out, int *os) {
    np_wire_instance *taken = take_out(l, which);
    HANDLE handle = taken->handle;
    CloseHandle(taken->connected);
    free(taken);
    return np_wire_open(out, handle, os);
}

/* Whether the instance has a client.  The system cancels what a thread waited
 * for when that thread ends: then the wait is begun again. */
static DWORD look(np_wire_instance *i, bool *has_client) {
    DWORD unused, error = 0;
    if (i->pending && !GetOverlappedResult(i->handle, &i->overlapped, &unused, FALSE))
        error = GetLastError();
    if (error != ERROR_IO_INCOMPLETE)
        i->pending = false;
    *has_client = !error || error == ERROR_NO_DATA;
    return *has_client ? 0 : error == ERROR_OPERATION_ABORTED ? arm(i) : error;
}

static DWORD fill(np_wire_listener *l) {
    DWORD error = 0;
    while (l->count < NP_WIRE_INSTANCES && !error)
        error = add(l, NULL);
    return l->count ? 0 : error;
}

/* The system decided who may: see security.c. */
np_code np_wire_accept(np_wire_listener *l, const np_wait *wait, np_wire *out, int *os) {
    for (;;) {
        HANDLE events[NP_WIRE_INSTANCES];
        size_t which = 0;
        bool has_client;
        DWORD error = fill(l);
        if (error) {
            *os = (int)error;
            return NP_E_SYSTEM;
        }
        for (size_t i = 0; i < l->count; i++)
            events[i] = l->instances[i]->connected;
        np_code code = np_wire_wait(events, l->count, wait, &which, &error);
        *os = (int)error;
        if (code != NP_OK)
            return code;
        error = look(l->instances[which], &has_client);
        if (has_client)
            return hand_over(l, which, out, os);
        if (error)
            drop(l, which);
    }
}

_Static_assert(NP_WIRE_INSTANCES + NP_WIRES_WAITED + 2 <= MAXIMUM_WAIT_OBJECTS,
               "all of them, and what else ends the wait, are waited for at once");

np_code np_wire_listener_wait(np_wire_listener *l, bool clients, np_wire *const *wires,
                              size_t count, const np_wait *wait, int *os) {
    HANDLE events[NP_WIRE_INSTANCES + NP_WIRES_WAITED];
    size_t n = 0, which;
    DWORD error = 0;
    for (size_t i = 0; clients && i < l->count; i++)
        events[n++] = l->instances[i]->connected;
    for (size_t i = 0; i < count; i++)
        events[n++] = wires[i]->received;
    np_code code = np_wire_wait(events, n, wait, &which, &error);
    *os = (int)error;
    return code;
}
