/* The completion port.  Packets and operations on the ready list become
 * completions here, and nowhere else.
 *
 * The handles are left in the port's plain mode, in which every operation that
 * was not refused queues a packet, also one that succeeded at once.  The faster
 * mode (FILE_SKIP_COMPLETION_PORT_ON_SUCCESS) does not say whether the part of
 * a message (ERROR_MORE_DATA) is a success, and an operation that may or may
 * not complete has no owner. */
#include "port.h"

#include <winternl.h>

#include "dial.h"
#include "error.h"
#include "link.h"
#include "listen.h"

_Static_assert(offsetof(np_operation, overlapped) == 0, "a packet is cast to its operation");

enum { STATUS_OK = 0 };
#define STATUS_PART_OF_MESSAGE ((NTSTATUS)0x80000005)   /* STATUS_BUFFER_OVERFLOW */
#define STATUS_UNTOUCHED ((NTSTATUS)0x103)              /* STATUS_PENDING */

np_code np_port_open(np_port *port, np_error *error) {
    *port = (np_port){.ready_tail = &port->ready};
    np_mutex_init(&port->lock);
    port->handle = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    return port->handle ? NP_OK : np_error_from_os(error, GetLastError());
}

void np_port_close(np_port *port) {
    if (port->handle)
        CloseHandle(port->handle);
    port->handle = NULL;
}

DWORD np_port_join(np_port *port, HANDLE handle) {
    return CreateIoCompletionPort(handle, port->handle, 0, 0) ? 0 : GetLastError();
}

/* A packet without an operation is a wake.  One at a time is enough: whoever
 * takes it out looks at everything that was there before. */
void np_port_wake(np_port *port) {
    if (np_swap32(&port->wake_posted, 1))
        return;
    if (!PostQueuedCompletionStatus(port->handle, 0, 0, NULL))
        np_store32(&port->wake_posted, 0);
}

intptr_t np_port_waitable(const np_port *port) {
    (void)port;
    return -1;
}

void np_port_complete(np_port *port, np_operation *op, np_code code, int os) {
    op->ready_code = code;
    op->ready_os = os;
    op->next = NULL;
    np_mutex_lock(&port->lock);
    *port->ready_tail = op;
    port->ready_tail = &op->next;
    np_add32(&port->ready_count, 1);
    np_mutex_unlock(&port->lock);
}

static void finish(np_operation *op, np_completion *out) {
    if (op->kind == NP_OP_ACCEPT)
        np_listener_accepted((np_instance *)op, out);
    else if (op->kind == NP_OP_READ)
        np_link_read_completed(op, out);
    else if (op->kind == NP_OP_CONNECT)
        np_dial_completed((np_dial *)op, out);
}

static size_t take_ready(np_port *port, np_completion *out, size_t max) {
    size_t n = 0;
    while (n < max && np_load32(&port->ready_count)) {
        np_mutex_lock(&port->lock);
        np_operation *op = port->ready;
        port->ready = op->next;
        if (!port->ready)
            port->ready_tail = &port->ready;
        np_add32(&port->ready_count, (uint32_t)-1);
        np_mutex_unlock(&port->lock);
        out[n] = (np_completion){.operation = op, .code = op->ready_code, .os = op->ready_os};
        finish(op, &out[n++]);
    }
    return n;
}

/* The status is read from the OVERLAPPED: the packet's copy may have anything in its upper
 * half.  Wine writes the OVERLAPPED in the thread that began the operation, and where that
 * has ended the packet only. */
static void take_packet(const OVERLAPPED_ENTRY *entry, np_completion *out) {
    np_operation *op = (np_operation *)entry->lpOverlapped;
    NTSTATUS status = (NTSTATUS)op->overlapped.Internal;
    if (status == STATUS_UNTOUCHED)
        status = (NTSTATUS)(ULONG)entry->Internal;
    *out = (np_completion){.operation = op};
    if (status == STATUS_OK || status == STATUS_PART_OF_MESSAGE) {
        out->bytes = (size_t)op->overlapped.InternalHigh;
        out->left = status == STATUS_PART_OF_MESSAGE;
    } else {
        out->os = (int)RtlNtStatusToDosError(status);
        out->code = np_code_from_os(out->os);
    }
    finish(op, out);
}

void np_port_wait(np_port *port, np_arena *arena, np_completion *out, size_t max,
                  int64_t timeout_ns, size_t *count) {
    (void)arena;
    size_t n = take_ready(port, out, max);
    size_t room = max - n < NP_PORT_ENTRIES ? max - n : NP_PORT_ENTRIES;
    ULONG got = 0;
    bool woken = false;
    if (room
        && !GetQueuedCompletionStatusEx(port->handle, port->entries, (ULONG)room, &got,
                                        n ? 0 : np_milliseconds(timeout_ns), FALSE))
        got = 0;
    for (ULONG i = 0; i < got; i++) {
        if (port->entries[i].lpOverlapped) {
            take_packet(&port->entries[i], &out[n++]);
        } else {
            /* A swap, not a store: what the waker did before must be seen below. */
            np_swap32(&port->wake_posted, 0);
            woken = true;
        }
    }
    if (woken)
        n += take_ready(port, out + n, max - n);
    *count = n;
}
