/* One end of one connection: a pipe handle.  The system keeps the boundaries of
 * messages; a read that has no room for all of one brings a part and says so. */
#include "link.h"

#include <stdlib.h>
#include <string.h>

#include "listen.h"
#include "port.h"

enum { READ_SIZE_MIN = 64, READ_SIZE_MAX = 1 << 20 };

static void begin(np_link *link, np_operation *op, np_operation_kind kind) {
    memset(&op->overlapped, 0, sizeof op->overlapped);
    op->kind = kind;
    op->link = link;
    op->data = NULL;
}

void np_link_none(np_link *link) { *link = (np_link){.pid = -1}; }

/* The handle was joined to the port when its instance was armed, or when its
 * dial completed. */
np_code np_link_attach(np_link *link, np_port *port, const np_config *config, np_error *error) {
    (void)error;
    size_t size = config->message_buffer_size;
    link->port = port;
    link->byte_mode = config->byte_mode;
    size = size < READ_SIZE_MIN ? READ_SIZE_MIN : size > READ_SIZE_MAX ? READ_SIZE_MAX : size;
    /* A buffer that came with a reused handle may be of another size. */
    if (size != link->read_size) {
        free(link->buffer);
        link->buffer = NULL;
        link->read_size = size;
    }
    return NP_OK;
}

void np_link_read(np_link *link, np_operation *op, uint8_t *buffer, size_t capacity) {
    begin(link, op, NP_OP_READ);
    if (!buffer) {
        if (!link->buffer)
            link->buffer = malloc(link->read_size);
        if (!link->buffer) {
            np_port_complete(link->port, op, NP_E_MEMORY, 0);
            return;
        }
        buffer = link->buffer;
        capacity = link->read_size;
    }
    op->data = buffer;
    DWORD size = capacity < MAXDWORD ? (DWORD)capacity : MAXDWORD;
    if (ReadFile(link->handle, buffer, size, NULL, &op->overlapped))
        return;
    DWORD os = GetLastError();
    if (os != ERROR_IO_PENDING && os != ERROR_MORE_DATA)
        np_port_complete(link->port, op, np_code_from_os((int)os), (int)os);
}

void np_link_read_completed(np_operation *op, np_completion *out) {
    if (out->code == NP_E_BROKEN)
        out->code = NP_E_EOF;
    if (out->code != NP_OK)
        return;
    out->data = op->data;
    if (out->left) {
        /* At least 1 stays, so that the rest is asked for. */
        DWORD left = 0;
        if (PeekNamedPipe(op->link->handle, NULL, 0, NULL, NULL, &left) && left)
            out->left = left;
    }
}

np_code np_link_write(np_link *link, np_operation *op, const np_slice *slices, size_t count,
                      size_t *taken, int *os) {
    const uint8_t *data = count ? slices[0].data : NULL;
    size_t size = count ? slices[0].size : 0;
    *taken = 0;
    *os = 0;
    begin(link, op, NP_OP_WRITE);
    if (link->byte_mode) {
        /* A stream has no empty messages, and many a reader would take one for its end. */
        if (!size) {
            np_port_complete(link->port, op, NP_OK, 0);
            np_port_wake(link->port);
            return NP_PENDING;
        }
        size = size < MAXDWORD ? size : MAXDWORD;
    } else if (size > MAXDWORD) {
        return NP_E_TOO_LARGE;
    }
    if (WriteFile(link->handle, data, (DWORD)size, NULL, &op->overlapped))
        return NP_PENDING;
    *os = (int)GetLastError();
    if (*os != ERROR_IO_PENDING)
        return np_code_from_os(*os);
    *os = 0;
    return NP_PENDING;
}

void np_link_cancel(np_link *link) { CancelIoEx(link->handle, NULL); }

/* A failed write leaves what the peer sent readable. */
void np_link_end_writes(np_link *link) { (void)link; }

/* No DisconnectNamedPipe: it would throw away what the peer has not read yet. */
void np_link_close(np_link *link) {
    if (link->handle)
        CloseHandle(link->handle);
    link->handle = NULL;
    free(link->buffer);
    link->buffer = NULL;
}

/* A handle can't change its port, so the next client is this worker's too. */
bool np_link_recycle(np_link *link, np_listener *listener, np_instance *instance, np_port *port) {
    if (link->port != port || !DisconnectNamedPipe(link->handle))
        return false;
    if (!np_listener_arm_again(listener, instance, link))
        return false;
    link->handle = NULL;
    link->buffer = NULL;
    return true;
}

/* There is no fork. */
void np_link_abandon(np_link *link) { (void)link; }

intptr_t np_link_handle(const np_link *link) { return (intptr_t)link->handle; }
