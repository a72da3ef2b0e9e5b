#include "client.h"

#include <stdlib.h>
#include <windows.h>

struct client {
    HANDLE pipe;
    HANDLE sent, received;      /* events: one thread may send, another receive */
    bool bytes;
    uint8_t *data;
    DWORD capacity;
};

enum { PART = 65536, CONNECT_TRIES = 1000 };

/* Every instance may be taken for a moment; the server makes another. */
static HANDLE open_pipe(const wchar_t *path) {
    for (int i = 0; i < CONNECT_TRIES; i++) {
        HANDLE pipe = CreateFileW(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING,
                                  FILE_FLAG_OVERLAPPED, NULL);
        if (pipe != INVALID_HANDLE_VALUE)
            return pipe;
        if (GetLastError() != ERROR_PIPE_BUSY)
            return NULL;
        WaitNamedPipeW(path, 20);
    }
    return NULL;
}

static client *connect_to(const char *address, bool bytes) {
    wchar_t path[512];
    if (!MultiByteToWideChar(CP_UTF8, 0, address, -1, path, 512))
        return NULL;
    HANDLE pipe = open_pipe(path);
    if (!pipe)
        return NULL;
    DWORD read_mode = bytes ? PIPE_READMODE_BYTE : PIPE_READMODE_MESSAGE;
    client *c = calloc(1, sizeof *c);
    if (!c || !SetNamedPipeHandleState(pipe, &read_mode, NULL, NULL)) {
        free(c);
        CloseHandle(pipe);
        return NULL;
    }
    c->pipe = pipe;
    c->bytes = bytes;
    c->sent = CreateEventW(NULL, TRUE, FALSE, NULL);
    c->received = CreateEventW(NULL, TRUE, FALSE, NULL);
    return c;
}

client *client_connect(const char *address) { return connect_to(address, false); }

client *client_connect_bytes(const char *address) { return connect_to(address, true); }

bool client_send_raw(client *c, const void *data, size_t size) {
    OVERLAPPED op = {.hEvent = c->sent};
    DWORD done = 0;
    if (!WriteFile(c->pipe, data, (DWORD)size, NULL, &op) && GetLastError() != ERROR_IO_PENDING)
        return false;
    return GetOverlappedResult(c->pipe, &op, &done, TRUE) && done == size;
}

bool client_send(client *c, const void *data, size_t size) {
    return client_send_raw(c, data, size);
}

static bool reserve(client *c, DWORD size) {
    if (size <= c->capacity)
        return true;
    if (size < 2 * c->capacity)
        size = 2 * c->capacity;
    uint8_t *data = realloc(c->data, size);
    if (!data)
        return false;
    c->data = data;
    c->capacity = size;
    return true;
}

/* One read to `at`: ERROR_SUCCESS, or why it is not complete. */
static DWORD receive_part(client *c, DWORD at, DWORD *got, int timeout_ms) {
    OVERLAPPED op = {.hEvent = c->received};
    *got = 0;
    if (!ReadFile(c->pipe, c->data + at, c->capacity - at, NULL, &op)) {
        DWORD os = GetLastError();
        if (os != ERROR_IO_PENDING && os != ERROR_MORE_DATA)
            return os;
    }
    if (WaitForSingleObject(c->received, (DWORD)timeout_ms) != WAIT_OBJECT_0)
        CancelIoEx(c->pipe, &op);
    DWORD os = GetOverlappedResult(c->pipe, &op, got, TRUE) ? ERROR_SUCCESS : GetLastError();
    if (os == ERROR_MORE_DATA)
        *got = (DWORD)op.InternalHigh;      /* Wine reports no count with this error */
    return os;
}

int64_t client_receive(client *c, int timeout_ms) {
    DWORD size = 0, got = 0, os = ERROR_MORE_DATA;
    while (os == ERROR_MORE_DATA) {
        if (!reserve(c, size + PART))
            return CLIENT_RESET;
        os = receive_part(c, size, &got, timeout_ms);
        size += got;
    }
    switch (os) {
    case ERROR_SUCCESS: return size;
    case ERROR_BROKEN_PIPE: return CLIENT_END;
    case ERROR_OPERATION_ABORTED: return CLIENT_TIMEOUT;
    default: return CLIENT_RESET;
    }
}

const uint8_t *client_data(const client *c) { return c->data; }

bool client_end_sending(client *c) {
    (void)c;
    return false;
}

void client_close(client *c) {
    CloseHandle(c->pipe);
    CloseHandle(c->sent);
    CloseHandle(c->received);
    free(c->data);
    free(c);
}
