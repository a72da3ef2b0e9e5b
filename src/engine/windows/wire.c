/* A pipe handle that a thread waits on itself.  Every operation is overlapped;
 * when a wait ends early the operation is cancelled, and what the system says
 * in the end counts: a message that came in the same moment is kept. */
#include "wire.h"

#include <stdio.h>
#include <winternl.h>

#include "dial.h"
#include "error.h"
#include "security.h"
#include "wire_wait.h"

enum { STATUS_OK = 0, QUOTA = 64 << 10 };
#define STATUS_PART_OF_MESSAGE ((NTSTATUS)0x80000005)   /* STATUS_BUFFER_OVERFLOW */

/* ---- waiting ----------------------------------------------------------- */

np_code np_wire_wait(const HANDLE *events, size_t count, const np_wait *wait, size_t *which,
                     DWORD *os) {
    HANDLE handles[MAXIMUM_WAIT_OBJECTS];
    DWORD n = 0, wake = MAXDWORD;
    while (n < count) {
        handles[n] = events[n];
        n++;
    }
    if (wait->wake) {
        wake = n;
        handles[n++] = (HANDLE)np_signal_waitable(wait->wake);
    }
    if (wait->interrupt)
        handles[n++] = (HANDLE)wait->interrupt;
    /* The system's waits go by its ticks, and end up to one of them (16 ms) too soon. */
    DWORD r;
    do {
        r = WaitForMultipleObjects(n, handles, FALSE, np_milliseconds(np_wait_left(wait)));
    } while (r == WAIT_TIMEOUT && np_wait_left(wait) != 0);
    if (r == WAIT_TIMEOUT)
        return NP_E_TIMEOUT;
    if (r >= n) {
        *os = GetLastError();
        return NP_E_SYSTEM;
    }
    *which = r;
    return r < count ? NP_OK : r == wake ? NP_E_CLOSED : NP_E_INTERRUPTED;
}

static np_code wait_for(HANDLE event, const np_wait *wait, int *os) {
    size_t which;
    DWORD error = 0;
    np_code code = np_wire_wait(&event, 1, wait, &which, &error);
    *os = (int)error;
    return code;
}

/* The end of an operation that ReadFile or WriteFile started: its error, 0 for
 * none.  *bytes is right for a part of a message, too. */
static DWORD result(HANDLE handle, OVERLAPPED *op, size_t *bytes) {
    DWORD unused;
    GetOverlappedResult(handle, op, &unused, TRUE);
    NTSTATUS status = (NTSTATUS)op->Internal;
    *bytes = (size_t)op->InternalHigh;
    if (status == STATUS_OK)
        return 0;
    return status == STATUS_PART_OF_MESSAGE ? ERROR_MORE_DATA : RtlNtStatusToDosError(status);
}

static np_code failed(DWORD error, np_code unless, int *os) {
    *os = (int)error;
    np_code code = np_code_from_os((int)error);
    return code == NP_E_BROKEN ? unless : code;
}

/* ---- life -------------------------------------------------------------- */

np_code np_wire_open(np_wire *w, HANDLE handle, int *os) {
    *w = (np_wire){.handle = handle};
    w->received = CreateEventW(NULL, TRUE, FALSE, NULL);
    w->sent = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (w->received && w->sent)
        return NP_OK;
    *os = (int)GetLastError();
    np_wire_close(w);
    return NP_E_SYSTEM;
}

np_code np_wire_adopt(np_wire *w, intptr_t handle, int *os) {
    return np_wire_open(w, (HANDLE)handle, os);
}

static void close_one(HANDLE *handle) {
    if (*handle)
        CloseHandle(*handle);
    *handle = NULL;
}

void np_wire_close(np_wire *w) {
    size_t unused;
    if (w->receiving) {
        CancelIoEx(w->handle, &w->receive);
        result(w->handle, &w->receive, &unused);
    }
    w->receiving = false;
    close_one(&w->handle);
    close_one(&w->received);
    close_one(&w->sent);
}

intptr_t np_wire_handle(const np_wire *w) { return (intptr_t)w->handle; }

/* The instance may be gone, or serve another client, by the time it is used. */
static np_code dial_failed(DWORD error, int *os) {
    np_code code = np_dial_code(error);
    *os = (int)error;
    return code == NP_E_BROKEN ? NP_E_NOT_FOUND : code;
}

static bool widen(const char *address, wchar_t out[NP_PIPE_PATH + 1]) {
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, address, -1, out, NP_PIPE_PATH + 1);
}

np_code np_wire_dial(np_wire *w, const char *address, bool owner_only, uint64_t *owner, int *os) {
    wchar_t path[NP_PIPE_PATH + 1];
    HANDLE handle = NULL;
    DWORD error = widen(address, path) ? np_dial_open(path, false, &handle) : GetLastError();
    (void)owner;
    if (error)
        return dial_failed(error, os);
    if (owner_only && !np_security_is_owner(handle)) {
        CloseHandle(handle);
        return NP_E_OWNER;
    }
    return np_wire_open(w, handle, os);
}

/* WaitNamedPipe can't be interrupted: pauses are short. */
np_code np_wire_dial_pause(const char *address, np_code why, int64_t pause_ns,
                           const np_wait *wait) {
    wchar_t path[NP_PIPE_PATH + 1];
    DWORD ms = np_milliseconds(pause_ns);
    if (why == NP_E_BUSY && widen(address, path)) {
        if (WaitNamedPipeW(path, ms) || GetLastError() == ERROR_SEM_TIMEOUT)
            ms = 0;
    }
    HANDLE interrupt = (HANDLE)wait->interrupt;
    if (interrupt)
        return WaitForSingleObject(interrupt, ms) == WAIT_OBJECT_0 ? NP_E_INTERRUPTED : NP_OK;
    Sleep(ms);
    return NP_OK;
}

/* ---- pairs ------------------------------------------------------------- */

static np_atomic_u32 pairs;

np_code np_wire_pair(np_wire *a, np_wire *b, int *os) {
    wchar_t path[NP_PIPE_PATH + 1];
    np_config config;
    np_error error;
    void *descriptor;
    np_config_init(&config);
    swprintf(path, NP_PIPE_PATH, L"\\\\.\\pipe\\npipes-pair-%lu-%lu-%llx", GetCurrentProcessId(),
             (unsigned long)np_add32(&pairs, 1), (unsigned long long)np_now());
    np_code code = np_security_descriptor(&config, &descriptor, &error);
    *os = error.os;
    if (code != NP_OK)
        return code;
    SECURITY_ATTRIBUTES security = {sizeof security, descriptor, FALSE};
    HANDLE first = CreateNamedPipeW(
        path, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | FILE_FLAG_FIRST_PIPE_INSTANCE,
        PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS, 1,
        QUOTA, QUOTA, 0, &security);
    *os = (int)GetLastError();
    LocalFree(descriptor);
    if (first == INVALID_HANDLE_VALUE)
        return NP_E_SYSTEM;
    HANDLE second = NULL;
    *os = (int)np_dial_open(path, false, &second);
    if (*os) {
        CloseHandle(first);
        return NP_E_SYSTEM;
    }
    code = np_wire_open(a, first, os);
    if (code != NP_OK) {
        CloseHandle(second);
        return code;
    }
    code = np_wire_open(b, second, os);
    if (code != NP_OK)
        np_wire_close(a);
    return code;
}

/* ---- receiving --------------------------------------------------------- */

/* How much of the current message is still in the pipe; at least 1, so that the
 * rest is asked for. */
static uint64_t rest_of_message(np_wire *w) {
    DWORD left = 0;
    return PeekNamedPipe(w->handle, NULL, 0, NULL, NULL, &left) && left ? left : 1;
}

/* One overlapped read to its end: the error of the system, or 0, and how the
 * wait for it ended. */
static DWORD read_some(np_wire *w, uint8_t *to, DWORD size, const np_wait *wait, size_t *got,
                       np_code *waited, int *os) {
    OVERLAPPED op = {.hEvent = w->received};
    *waited = NP_OK;
    if (!ReadFile(w->handle, to, size, NULL, &op)) {
        DWORD error = GetLastError();
        if (error != ERROR_IO_PENDING && error != ERROR_MORE_DATA)
            return error;
        if (error == ERROR_IO_PENDING) {
            *waited = wait_for(op.hEvent, wait, os);
            if (*waited != NP_OK)
                CancelIoEx(w->handle, &op);
        }
    }
    return result(w->handle, &op, got);
}

np_code np_wire_receive(np_wire *w, uint8_t *to, size_t size, const np_wait *wait, size_t *got,
                        uint64_t *left, int *os) {
    *got = 0;
    *left = 0;
    if (w->empty) {
        w->empty = false;
        return NP_OK;
    }
    np_code waited;
    DWORD error = read_some(w, to, size < MAXDWORD ? (DWORD)size : MAXDWORD, wait, got, &waited,
                            os);
    if (error == ERROR_OPERATION_ABORTED && waited != NP_OK)
        return waited;
    if (error == ERROR_MORE_DATA)
        *left = rest_of_message(w);
    else if (error)
        return failed(error, NP_E_EOF, os);
    return NP_OK;
}

/* The system cancels what a thread began when that thread ends: then it is begun
 * again. */
np_code np_wire_receive_some(np_wire *w, uint8_t *to, size_t size, size_t *got, uint64_t *left,
                             int *os) {
    DWORD error;
    *got = 0;
    *left = 0;
    do {
        if (!w->receiving) {
            w->receive = (OVERLAPPED){.hEvent = w->received};
            error = ReadFile(w->handle, to, (DWORD)size, NULL, &w->receive) ? 0 : GetLastError();
            if (error && error != ERROR_IO_PENDING && error != ERROR_MORE_DATA)
                return failed(error, NP_E_EOF, os);
            w->receiving = true;
        }
        if (!HasOverlappedIoCompleted(&w->receive))
            return NP_E_TIMEOUT;
        w->receiving = false;
        error = result(w->handle, &w->receive, got);
    } while (error == ERROR_OPERATION_ABORTED);
    if (error == ERROR_MORE_DATA)
        *left = rest_of_message(w);
    else if (error)
        return failed(error, NP_E_EOF, os);
    return NP_OK;
}

/* What PeekNamedPipe has seen can be read without waiting, but for a message of
 * no bytes, which it does not see. */
np_code np_wire_take(np_wire *w, uint8_t *chunk, size_t capacity, uint64_t limit, np_slice *out,
                     size_t max, size_t *count, int *os) {
    size_t used = 0;
    np_wait at_once = {.deadline = np_now()};
    *count = 0;
    while (*count < max && !w->empty) {
        DWORD available = 0, length = 0;
        if (!PeekNamedPipe(w->handle, NULL, 0, NULL, &available, &length) || !available
            || length > capacity - used || length > limit)
            break;
        size_t got;
        uint64_t left;
        np_code code = np_wire_receive(w, chunk + used, capacity - used, &at_once, &got, &left, os);
        if (code == NP_E_TIMEOUT)
            break;
        if (code != NP_OK)
            return code;
        out[(*count)++] = (np_slice){chunk + used, got};
        used += got;
    }
    return NP_OK;
}

/* A read of no bytes waits for a message and leaves it there, but one of no
 * bytes is taken by it. */
np_code np_wire_poll(np_wire *w, const np_wait *wait, int *os) {
    DWORD available = 0;
    if (w->empty || !PeekNamedPipe(w->handle, NULL, 0, NULL, &available, NULL) || available)
        return NP_OK;
    uint8_t nothing;
    size_t got;
    np_code waited;
    DWORD error = read_some(w, &nothing, 0, wait, &got, &waited, os);
    if (error == ERROR_OPERATION_ABORTED && waited != NP_OK)
        return waited;
    if (!error)
        w->empty = true;
    else if (error != ERROR_MORE_DATA && np_code_from_os((int)error) != NP_E_BROKEN)
        return failed(error, NP_E_EOF, os);
    return NP_OK;
}

bool np_wire_holds(const np_wire *w) { return w->empty; }

void np_wire_set_holds(np_wire *w, bool holds) { w->empty = holds; }

/* ---- sending ----------------------------------------------------------- */

np_code np_wire_send(np_wire *w, const np_slice *slices, size_t count, const np_wait *wait,
                     size_t *taken, int *os) {
    (void)count;
    DWORD error;
    *taken = 0;
    if (!w->sending) {
        if (slices[0].size > MAXDWORD)
            return NP_E_TOO_LARGE;
        w->send = (OVERLAPPED){.hEvent = w->sent};
        w->sending = true;
        if (!WriteFile(w->handle, slices[0].data, (DWORD)slices[0].size, NULL, &w->send)
            && (error = GetLastError()) != ERROR_IO_PENDING) {
            w->sending = false;
            return failed(error, NP_E_BROKEN, os);
        }
    }
    np_code waited = wait_for(w->sent, wait, os);
    if (waited == NP_E_INTERRUPTED)
        return waited;
    if (waited != NP_OK)
        CancelIoEx(w->handle, &w->send);
    w->sending = false;
    error = result(w->handle, &w->send, taken);
    if (error == ERROR_OPERATION_ABORTED && waited != NP_OK)
        return waited;
    return error ? failed(error, NP_E_BROKEN, os) : NP_OK;
}

bool np_wire_send_stop(np_wire *w) {
    size_t taken;
    if (!w->sending)
        return true;
    CancelIoEx(w->handle, &w->send);
    w->sending = false;
    return result(w->handle, &w->send, &taken) == 0;
}
