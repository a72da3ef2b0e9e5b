#include "sync.h"

#include <process.h>
#include <stdlib.h>

DWORD np_milliseconds(int64_t timeout_ns) {
    if (timeout_ns < 0)
        return INFINITE;
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return ms < (int64_t)INFINITE ? (DWORD)ms : INFINITE - 1;
}

bool np_cond_wait_for(np_cond *c, np_mutex *m, int64_t timeout_ns) {
    return SleepConditionVariableSRW(c, m, np_milliseconds(timeout_ns), 0)
           || GetLastError() != ERROR_TIMEOUT;
}

typedef struct {
    np_thread_main main;
    void *arg;
} start;

static unsigned __stdcall run(void *p) {
    start s = *(start *)p;
    free(p);
    s.main(s.arg);
    return 0;
}

/* _beginthreadex and not CreateThread: the host's code runs on this thread and
 * may need the C library's per-thread state. */
int np_thread_start(np_thread *t, np_thread_main main, void *arg) {
    start *s = malloc(sizeof *s);
    if (!s)
        return ERROR_NOT_ENOUGH_MEMORY;
    s->main = main;
    s->arg = arg;
    SetLastError(0);
    *t = (HANDLE)_beginthreadex(NULL, 0, run, s, 0, NULL);
    if (*t)
        return 0;
    DWORD os = GetLastError();
    free(s);
    return os ? (int)os : ERROR_NOT_ENOUGH_MEMORY;
}

void np_thread_join(np_thread t) {
    WaitForSingleObject(t, INFINITE);
    CloseHandle(t);
}

/* Whole seconds and the rest apart: count * 10^9 would overflow within days at
 * a frequency in the gigahertz. */
int64_t np_now(void) {
    LARGE_INTEGER count, frequency;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&count);
    int64_t seconds = count.QuadPart / frequency.QuadPart;
    int64_t rest = count.QuadPart % frequency.QuadPart;
    return seconds * 1000000000 + rest * 1000000000 / frequency.QuadPart;
}
