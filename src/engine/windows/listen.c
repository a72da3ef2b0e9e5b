/* The listening end: instances of one pipe, each waiting for one client.
 *
 * The name exists as long as any instance does, so np_listener_open makes the
 * first one itself (with the flag that refuses a name somebody else serves) and
 * keeps it as the spare that the first arm takes.  A client can connect to an
 * instance from the moment it is made, also before ConnectNamedPipe: that then
 * says "connected already" or "came and left", and both are clients.  The one
 * that left may have sent something, which is read like any other's.
 *
 * An instance goes when both of its ends are closed.  So a client of a server that
 * has stopped keeps the name from the next one until it has closed its end, and
 * the system says that access is denied, as it does of a name that is served.
 *
 * Lock order: the listener's lock, then the port's. */
#include "listen.h"

#include <string.h>

#include "error.h"
#include "port.h"
#include "security.h"

_Static_assert(offsetof(np_instance, operation) == 0, "an operation is cast to its instance");

enum { QUOTA = 64 << 10, LEAVING_MS = 10 };
/* What clients of a server before have to notice that it has stopped. */
#define LEAVE_NS INT64_C(500000000)

np_pipe_flags np_listener_flags(bool byte_mode, bool first) {
    np_pipe_flags flags = {PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED,
                           PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS};
    if (first)
        flags.open |= FILE_FLAG_FIRST_PIPE_INSTANCE;
    flags.mode |= byte_mode ? PIPE_TYPE_BYTE | PIPE_READMODE_BYTE
                            : PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE;
    return flags;
}

HANDLE np_listener_create(const np_listener *listener, bool first, DWORD *os) {
    SECURITY_ATTRIBUTES security = {sizeof security, listener->descriptor, FALSE};
    np_pipe_flags flags = np_listener_flags(listener->byte_mode, first);
    HANDLE handle = CreateNamedPipeW(listener->path, flags.open, flags.mode,
                                     PIPE_UNLIMITED_INSTANCES, listener->quota, listener->quota, 0,
                                     &security);
    if (handle != INVALID_HANDLE_VALUE)
        return handle;
    *os = GetLastError();
    return NULL;
}

/* Where an instance waits for clients, somebody serves the name. */
static HANDLE create_first(const np_listener *listener, DWORD *os) {
    int64_t end = np_now() + LEAVE_NS;
    HANDLE handle;
    while (!(handle = np_listener_create(listener, true, os)) && *os == ERROR_ACCESS_DENIED
           && np_now() < end && !WaitNamedPipeW(listener->path, NMPWAIT_NOWAIT))
        Sleep(LEAVING_MS);
    return handle;
}

np_code np_listener_open(np_listener *listener, const np_config *config, const char *address,
                         np_error *error) {
    *listener = (np_listener){.byte_mode = config->byte_mode};
    np_mutex_init(&listener->lock);
    np_list_init(&listener->armed);
    size_t quota = config->kernel_buffer_size ? config->kernel_buffer_size : QUOTA;
    listener->quota = quota < MAXDWORD ? (DWORD)quota : MAXDWORD;
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, address, -1, listener->path,
                             NP_PIPE_PATH + 1))
        return np_error_set(error, NP_E_INVALID, GetLastError(), 0, 0);
    np_code code = np_security_descriptor(config, &listener->descriptor, error);
    if (code != NP_OK)
        return code;
    DWORD os = 0;
    listener->spare = create_first(listener, &os);
    if (listener->spare)
        return NP_OK;
    LocalFree(listener->descriptor);
    listener->descriptor = NULL;
    if (os == ERROR_ACCESS_DENIED || os == ERROR_PIPE_BUSY)
        return np_error_set(error, NP_E_EXISTS, os, 0, 0);
    return np_error_from_os(error, os);
}

/* An instance is bound to its port when it is armed. */
np_code np_listener_attach(np_listener *listener, np_port *port, np_error *error) {
    (void)listener;
    (void)port;
    (void)error;
    return NP_OK;
}

/* Waits for a client on instance->link; lock held.  0 or GetLastError(). */
static DWORD connect_locked(np_listener *listener, np_instance *instance) {
    np_operation *op = &instance->operation;
    memset(&op->overlapped, 0, sizeof op->overlapped);
    op->kind = NP_OP_ACCEPT;
    instance->listener = listener;
    instance->canceled = false;
    DWORD os = ConnectNamedPipe(instance->link.handle, &op->overlapped) ? 0 : GetLastError();
    if (os == ERROR_PIPE_CONNECTED || os == ERROR_NO_DATA) {
        np_port_complete(instance->link.port, op, NP_OK, 0);
        np_port_wake(instance->link.port);
    } else if (os && os != ERROR_IO_PENDING) {
        return os;
    }
    np_list_append(&listener->armed, &instance->node);
    return 0;
}

static DWORD arm_locked(np_listener *listener, np_instance *instance, np_port *port) {
    DWORD os = 0;
    HANDLE handle = listener->spare;
    listener->spare = NULL;
    if (!handle && !(handle = np_listener_create(listener, false, &os)))
        return os;
    instance->link = (np_link){.handle = handle, .port = port, .pid = -1};
    os = np_port_join(port, handle);
    if (!os)
        os = connect_locked(listener, instance);
    if (os)
        np_link_close(&instance->link);
    return os;
}

np_code np_listener_arm(np_listener *listener, np_instance *instance, np_port *port,
                        np_error *error) {
    np_mutex_lock(&listener->lock);
    bool closed = listener->closed;
    DWORD os = closed ? 0 : arm_locked(listener, instance, port);
    np_mutex_unlock(&listener->lock);
    if (closed)
        return np_error_set(error, NP_E_CLOSED, 0, 0, 0);
    return os ? np_error_from_os(error, os) : NP_OK;
}

bool np_listener_arm_again(np_listener *listener, np_instance *instance, const np_link *link) {
    np_mutex_lock(&listener->lock);
    bool armed = false;
    if (!listener->closed) {
        instance->link = *link;
        instance->link.pid = -1;
        armed = connect_locked(listener, instance) == 0;
        if (!armed)
            instance->link = (np_link){.pid = -1};
    }
    np_mutex_unlock(&listener->lock);
    return armed;
}

void np_listener_accepted(np_instance *instance, np_completion *out) {
    np_listener *listener = instance->listener;
    np_mutex_lock(&listener->lock);
    np_list_remove(&instance->node);
    bool canceled = instance->canceled;
    np_mutex_unlock(&listener->lock);
    if (out->os == ERROR_NO_DATA)
        *out = (np_completion){.operation = out->operation};
    if (canceled) {
        out->code = NP_E_CANCELED;
        out->os = ERROR_OPERATION_ABORTED;
    }
    if (out->code != NP_OK) {
        np_link_close(&instance->link);
        return;
    }
    ULONG pid;
    if (GetNamedPipeClientProcessId(instance->link.handle, &pid))
        instance->link.pid = pid;
}

/* A failed accept comes back when its instance is armed again, not by itself. */
void np_listener_pause(np_listener *listener) { (void)listener; }

void np_listener_resume(np_listener *listener) { (void)listener; }

/* The handles are closed here, not when the completions are taken: an instance
 * that nobody waits on any more would still let clients in. */
void np_listener_cancel(np_listener *listener, np_port *port) {
    (void)port;
    np_mutex_lock(&listener->lock);
    listener->closed = true;
    for (np_node *node = listener->armed.next; node != &listener->armed; node = node->next) {
        np_instance *instance = NP_ENTRY(node, np_instance, node);
        if (instance->canceled)
            continue;
        instance->canceled = true;
        CancelIoEx(instance->link.handle, NULL);
        CloseHandle(instance->link.handle);
        instance->link.handle = NULL;
    }
    np_mutex_unlock(&listener->lock);
}

void np_listener_close(np_listener *listener) {
    np_mutex_lock(&listener->lock);
    listener->closed = true;
    if (listener->spare)
        CloseHandle(listener->spare);
    listener->spare = NULL;
    if (listener->descriptor)
        LocalFree(listener->descriptor);
    listener->descriptor = NULL;
    np_mutex_unlock(&listener->lock);
}

/* There is no fork. */
void np_listener_abandon(np_listener *listener) { (void)listener; }
