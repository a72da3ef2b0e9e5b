/* Opening a server's pipe.  CreateFile and WaitNamedPipe block for as long as
 * the server, or a network, likes.  So an attempt runs in the system's thread
 * pool, and belongs to two: its pool thread until that has returned, and its
 * dial until it has completed.  A dial that is cancelled completes at once and
 * leaves the attempt to its thread, which closes what it has opened. */
#include "dial.h"

#include <stdlib.h>

#include "error.h"
#include "port.h"
#include "security.h"

_Static_assert(offsetof(np_dial, operation) == 0, "an operation is cast to its dial");

/* Pool threads that may wait for free instances at a time.  Further attempts
 * are busy at once, and come again by the engine's timers. */
enum { WAITERS_MAX = 16 };

static np_atomic_u32 waiters;

typedef struct np_attempt {
    np_atomic_u32 refs;
    np_dial *dial;
    np_port *port;
    bool byte_mode, owner_only;
    int64_t wait_ns;
    wchar_t path[NP_PIPE_PATH + 1];
    HANDLE handle;                  /* the pool thread's, then the dial's; NULL: none */
    np_mutex lock;                  /* guards all below, and port while it is used */
    bool completed;                 /* by the thread, or by a cancel */
} np_attempt;

static void release(np_attempt *a) {
    if (np_add32(&a->refs, (uint32_t)-1) != 1)
        return;
    if (a->handle)
        CloseHandle(a->handle);
    free(a);
}

/* ---- shared with the blocking side ------------------------------------- */

/* SQOS: without it a server may act in its client's name. */
DWORD np_dial_flags(void) {
    return FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION;
}

np_code np_dial_code(DWORD os) {
    switch (os) {
    case 0: return NP_OK;
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND: return NP_E_NOT_FOUND;
    case ERROR_PIPE_BUSY: return NP_E_BUSY;
    case ERROR_ACCESS_DENIED: return NP_E_ACCESS;
    case ERROR_INVALID_PARAMETER: return NP_E_STREAM;   /* only the read mode can be refused */
    default: return np_code_from_os((int)os);
    }
}

/* A handle reads a stream at first, whatever the pipe's type. */
DWORD np_dial_open(const wchar_t *path, bool byte_mode, HANDLE *out) {
    DWORD mode = PIPE_READMODE_MESSAGE;
    HANDLE handle = CreateFileW(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING,
                                np_dial_flags(), NULL);
    if (handle == INVALID_HANDLE_VALUE)
        return GetLastError();
    if (!byte_mode && !SetNamedPipeHandleState(handle, &mode, NULL, NULL)) {
        DWORD os = GetLastError();
        CloseHandle(handle);
        return os;
    }
    *out = handle;
    return 0;
}

/* ---- in the thread pool ------------------------------------------------ */

/* True: there was a free instance a moment ago. */
static bool wait_for_instance(np_attempt *a, int64_t end, PTP_CALLBACK_INSTANCE instance) {
    int64_t left = (end - np_now()) / 1000000;
    bool free_now = false;
    if (left <= NMPWAIT_NOWAIT)
        return false;
    if (np_add32(&waiters, 1) < WAITERS_MAX) {
        CallbackMayRunLong(instance);
        free_now = WaitNamedPipeW(a->path, (DWORD)left);
    }
    np_add32(&waiters, (uint32_t)-1);
    return free_now;
}

static np_code reach(np_attempt *a, PTP_CALLBACK_INSTANCE instance, DWORD *os) {
    int64_t end = np_now() + a->wait_ns;
    do {
        *os = np_dial_open(a->path, a->byte_mode, &a->handle);
    } while (*os == ERROR_PIPE_BUSY && wait_for_instance(a, end, instance));
    if (!*os && a->owner_only && !np_security_is_owner(a->handle))
        return NP_E_OWNER;
    return np_dial_code(*os);
}

static void CALLBACK run(PTP_CALLBACK_INSTANCE instance, void *context) {
    np_attempt *a = context;
    DWORD os = 0;
    np_code code = reach(a, instance, &os);
    np_mutex_lock(&a->lock);
    if (!a->completed) {
        a->completed = true;
        np_port_complete(a->port, &a->dial->operation, code, (int)os);
        np_port_wake(a->port);
    }
    np_mutex_unlock(&a->lock);
    release(a);
}

/* ---- on the poller ----------------------------------------------------- */

void np_dial_init(np_dial *dial, void *owner) {
    *dial = (np_dial){.operation = {.kind = NP_OP_CONNECT, .owner = owner}};
    np_link_none(&dial->link);
}

static np_attempt *attempt_new(np_dial *dial, np_port *port, const np_config *config,
                               const char *address, int64_t wait_ns) {
    np_attempt *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    np_store32(&a->refs, 2);
    a->dial = dial;
    a->port = port;
    a->byte_mode = config->byte_mode;
    a->owner_only = config->owner_only;
    a->wait_ns = wait_ns;
    np_mutex_init(&a->lock);
    /* It was made from this length, so it fits. */
    MultiByteToWideChar(CP_UTF8, 0, address, -1, a->path, NP_PIPE_PATH + 1);
    return a;
}

void np_dial_start(np_dial *dial, np_port *port, const np_config *config, const char *address,
                   int64_t wait_ns) {
    dial->port = port;
    dial->attempt = attempt_new(dial, port, config, address, wait_ns);
    if (!dial->attempt) {
        np_port_complete(port, &dial->operation, NP_E_MEMORY, 0);
        return;
    }
    if (TrySubmitThreadpoolCallback(run, dial->attempt, NULL))
        return;
    DWORD os = GetLastError();
    np_port_complete(port, &dial->operation, np_code_from_os((int)os), (int)os);
    dial->attempt->completed = true;
    release(dial->attempt);         /* the thread's, which there is none of */
}

void np_dial_cancel(np_dial *dial) {
    np_attempt *a = dial->attempt;
    if (!a)
        return;
    np_mutex_lock(&a->lock);
    bool first = !a->completed;
    a->completed = true;
    np_mutex_unlock(&a->lock);
    if (first)
        np_port_complete(dial->port, &dial->operation, NP_E_CANCELED, ERROR_OPERATION_ABORTED);
}

void np_dial_completed(np_dial *dial, np_completion *out) {
    np_attempt *a = dial->attempt;
    dial->attempt = NULL;
    if (!a)
        return;
    /* Its thread may not have let go of the port yet. */
    np_mutex_lock(&a->lock);
    np_mutex_unlock(&a->lock);
    if (out->code == NP_OK) {
        DWORD os = np_port_join(dial->port, a->handle);
        if (os) {
            out->code = np_code_from_os((int)os);
            out->os = (int)os;
        } else {
            ULONG pid;
            dial->link = (np_link){.handle = a->handle, .port = dial->port, .pid = -1};
            if (GetNamedPipeServerProcessId(a->handle, &pid))
                dial->link.pid = pid;
            a->handle = NULL;
        }
    }
    release(a);
}

/* There is no fork. */
void np_dial_abandon(np_dial *dial) { (void)dial; }
