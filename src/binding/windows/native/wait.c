/* Calls that may wait for the other end, and their cancelling from any thread.
 *
 * A handle opened with FILE_FLAG_OVERLAPPED and one opened without are used
 * alike: each call gets an OVERLAPPED of its own.  With the flag the call
 * returns at once and its event is waited for; without it the system waits
 * inside the call and ignores the event.  CancelIoEx ends the first kind.  The
 * second is ended through its thread, so every thread inside a call is in a
 * list, with its handle.  It leaves the list before the caller goes on, and
 * cancelling holds the lock: no other I/O of that thread can be hit. */
#include "native.h"

static SRWLOCK lock = SRWLOCK_INIT;
static native_wait *waits;          /* guarded by lock */

static void add(native_wait *wait) {
    AcquireSRWLockExclusive(&lock);
    wait->next = waits;
    if (waits)
        waits->previous = wait;
    waits = wait;
    ReleaseSRWLockExclusive(&lock);
}

static void drop(native_wait *wait) {
    AcquireSRWLockExclusive(&lock);
    if (wait->previous)
        wait->previous->next = wait->next;
    else
        waits = wait->next;
    if (wait->next)
        wait->next->previous = wait->previous;
    ReleaseSRWLockExclusive(&lock);
}

DWORD native_wait_begin(native_wait *wait, HANDLE handle) {
    *wait = (native_wait){.handle = handle};
    wait->event = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (!wait->event)
        return GetLastError();
    if (!DuplicateHandle(GetCurrentProcess(), GetCurrentThread(), GetCurrentProcess(),
                         &wait->thread, 0, FALSE, DUPLICATE_SAME_ACCESS)) {
        DWORD os = GetLastError();
        CloseHandle(wait->event);
        return os;
    }
    /* The low bit keeps the completion out of a port that the handle may have,
     * whose owner knows nothing of this call. */
    wait->overlapped.hEvent = (HANDLE)((ULONG_PTR)wait->event | 1);
    add(wait);
    return 0;
}

DWORD native_wait_end(native_wait *wait, BOOL done, DWORD *count) {
    DWORD os = done ? 0 : GetLastError();
    if (os == ERROR_IO_PENDING) {
        DWORD moved;
        WaitForSingleObject(wait->event, INFINITE);
        os = GetOverlappedResult(wait->handle, &wait->overlapped, &moved, FALSE) ? 0
                                                                                 : GetLastError();
    }
    *count = (DWORD)wait->overlapped.InternalHigh;
    drop(wait);
    CloseHandle(wait->thread);
    CloseHandle(wait->event);
    return os;
}

DWORD native_wait_cancel(HANDLE handle) {
    AcquireSRWLockExclusive(&lock);
    for (native_wait *wait = waits; wait; wait = wait->next)
        if (wait->handle == handle)
            CancelSynchronousIo(wait->thread);
    ReleaseSRWLockExclusive(&lock);
    if (CancelIoEx(handle, NULL))
        return 0;
    DWORD os = GetLastError();
    return os == ERROR_NOT_FOUND ? 0 : os;
}
