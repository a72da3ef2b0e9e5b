#include "listener.h"

#include <stdlib.h>
#include <windows.h>

struct listener {
    HANDLE pipe;
    OVERLAPPED connecting;
};

/* A client that is there already leaves the event as it would come. */
static void arm(listener *l) {
    ResetEvent(l->connecting.hEvent);
    if (!ConnectNamedPipe(l->pipe, &l->connecting) && GetLastError() == ERROR_PIPE_CONNECTED)
        SetEvent(l->connecting.hEvent);
}

listener *listener_open(const char *address) {
    wchar_t path[512];
    listener *l = calloc(1, sizeof *l);
    if (!l || !MultiByteToWideChar(CP_UTF8, 0, address, -1, path, 512))
        return NULL;
    l->pipe = CreateNamedPipeW(path, PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED,
                               PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE, 1, 65536, 65536, 0, NULL);
    l->connecting.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (l->pipe == INVALID_HANDLE_VALUE)
        return NULL;
    arm(l);
    return l;
}

bool listener_drop_one(listener *l, int timeout_ms) {
    if (WaitForSingleObject(l->connecting.hEvent, (DWORD)timeout_ms) != WAIT_OBJECT_0)
        return false;
    DisconnectNamedPipe(l->pipe);
    arm(l);
    return true;
}

void listener_close(listener *l) {
    DWORD got;
    if (CancelIoEx(l->pipe, &l->connecting))
        GetOverlappedResult(l->pipe, &l->connecting, &got, TRUE);
    CloseHandle(l->pipe);
    CloseHandle(l->connecting.hEvent);
    free(l);
}
