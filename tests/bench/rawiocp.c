/* The yardstick: an echo server for messages on a Windows named pipe, written
 * straight against the system.  One thread, one completion port, a fixed number
 * of instances, each listening again when its client has left.
 *
 *     rawiocp PIPENAME [INSTANCES]
 *
 * Prints "ready" when it listens and runs until it is killed.  A client's next
 * message is read while the answer to the last one is still being written. */
#define WIN32_LEAN_AND_MEAN
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0602
#endif
#include <windows.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUOTA = 64 << 10, FIRST_SIZE = 64 << 10, ENTRIES = 64, INSTANCES = 64 };

typedef struct {
    char *data;
    DWORD size, capacity;
} buffer;

typedef struct {
    OVERLAPPED read, write;         /* read: of the connect as well */
    HANDLE pipe;
    bool connecting, reading, writing, whole, gone;
    buffer in, out;
} instance;

static HANDLE port;

static void die(const char *what) {
    fprintf(stderr, "%s: error %lu\n", what, GetLastError());
    exit(1);
}

static void reserve(buffer *b, DWORD capacity) {
    if (capacity <= b->capacity)
        return;
    b->data = realloc(b->data, capacity);
    if (!b->data)
        die("realloc");
    b->capacity = capacity;
}

static void start_connect(instance *i) {
    memset(&i->read, 0, sizeof i->read);
    i->in.size = 0;
    i->whole = i->gone = false;
    i->connecting = true;
    if (ConnectNamedPipe(i->pipe, &i->read))
        return;
    DWORD error = GetLastError();
    if (error == ERROR_PIPE_CONNECTED || error == ERROR_NO_DATA)
        PostQueuedCompletionStatus(port, 0, (ULONG_PTR)i, &i->read);
    else if (error != ERROR_IO_PENDING)
        die("ConnectNamedPipe");
}

static void start_read(instance *i) {
    memset(&i->read, 0, sizeof i->read);
    i->reading = true;
    if (ReadFile(i->pipe, i->in.data + i->in.size, i->in.capacity - i->in.size, NULL, &i->read))
        return;
    DWORD error = GetLastError();
    if (error != ERROR_IO_PENDING && error != ERROR_MORE_DATA) {
        i->reading = false;
        i->gone = true;
    }
}

/* The message that was read goes back, and the other buffer is read into. */
static void echo(instance *i) {
    buffer message = i->in;
    i->in = i->out;
    i->out = message;
    i->in.size = 0;
    i->whole = false;
    memset(&i->write, 0, sizeof i->write);
    i->writing = WriteFile(i->pipe, i->out.data, i->out.size, NULL, &i->write)
                 || GetLastError() == ERROR_IO_PENDING;
    if (i->writing)
        start_read(i);
    else
        i->gone = true;
}

static void read_done(instance *i, DWORD bytes, LONG status) {
    if (i->connecting) {
        i->connecting = false;
        start_read(i);
        return;
    }
    i->reading = false;
    i->in.size += bytes;
    if (status == 0) {
        i->whole = true;
    } else if (status == (LONG)0x80000005) {    /* STATUS_BUFFER_OVERFLOW: the message has more */
        DWORD left = 0;
        PeekNamedPipe(i->pipe, NULL, 0, NULL, NULL, &left);
        reserve(&i->in, i->in.size + (left ? left : FIRST_SIZE));
        start_read(i);
    } else {
        i->gone = true;
    }
}

static void completed(instance *i, OVERLAPPED *overlapped) {
    LONG status = (LONG)overlapped->Internal;
    if (overlapped == &i->read) {
        read_done(i, (DWORD)overlapped->InternalHigh, status);
    } else {
        i->writing = false;
        i->gone |= status != 0;
    }
    if (i->whole && !i->writing && !i->gone)
        echo(i);
    if (!i->gone)
        return;
    if (i->reading || i->writing) {
        CancelIoEx(i->pipe, NULL);
    } else {
        DisconnectNamedPipe(i->pipe);
        start_connect(i);
    }
}

static void open_instance(instance *i, const char *path, bool first) {
    i->pipe = CreateNamedPipeA(path,
                               PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED
                                   | (first ? FILE_FLAG_FIRST_PIPE_INSTANCE : 0),
                               PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_WAIT
                                   | PIPE_REJECT_REMOTE_CLIENTS,
                               PIPE_UNLIMITED_INSTANCES, QUOTA, QUOTA, 0, NULL);
    if (i->pipe == INVALID_HANDLE_VALUE)
        die("CreateNamedPipe");
    if (!CreateIoCompletionPort(i->pipe, port, (ULONG_PTR)i, 0))
        die("CreateIoCompletionPort");
    reserve(&i->in, FIRST_SIZE);
    reserve(&i->out, FIRST_SIZE);
    start_connect(i);
}

int main(int argc, char **argv) {
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : INSTANCES;
    if (argc < 2 || count < 1) {
        fprintf(stderr, "usage: rawiocp PIPENAME [INSTANCES]\n");
        return 2;
    }
    char path[300];
    snprintf(path, sizeof path, "%s%s", argv[1][0] == '\\' ? "" : "\\\\.\\pipe\\", argv[1]);
    instance *instances = calloc((size_t)count, sizeof *instances);
    port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 1);
    if (!instances || !port)
        die("start");
    for (long n = 0; n < count; n++)
        open_instance(&instances[n], path, n == 0);
    puts("ready");
    fflush(stdout);
    for (;;) {
        OVERLAPPED_ENTRY entries[ENTRIES];
        ULONG got = 0;
        if (!GetQueuedCompletionStatusEx(port, entries, ENTRIES, &got, INFINITE, FALSE))
            die("GetQueuedCompletionStatusEx");
        for (ULONG n = 0; n < got; n++)
            completed((instance *)entries[n].lpCompletionKey, entries[n].lpOverlapped);
    }
}
