/* Threads, locks and the clock, over SRW locks and condition variables.
 * linux/sync.h has the same names over pthreads; both are thin enough to be
 * inlined. */
#ifndef NP_SYNC_H
#define NP_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "win32.h"

typedef SRWLOCK np_mutex;
typedef CONDITION_VARIABLE np_cond;
typedef HANDLE np_thread;
typedef void (*np_thread_main)(void *arg);

#define NP_MUTEX_INIT SRWLOCK_INIT

static inline void np_mutex_init(np_mutex *m) { InitializeSRWLock(m); }
static inline void np_mutex_destroy(np_mutex *m) { (void)m; }
static inline void np_mutex_lock(np_mutex *m) { AcquireSRWLockExclusive(m); }
static inline bool np_mutex_trylock(np_mutex *m) { return TryAcquireSRWLockExclusive(m) != 0; }
static inline void np_mutex_unlock(np_mutex *m) { ReleaseSRWLockExclusive(m); }

static inline void np_cond_init(np_cond *c) { InitializeConditionVariable(c); }
static inline void np_cond_destroy(np_cond *c) { (void)c; }
static inline void np_cond_broadcast(np_cond *c) { WakeAllConditionVariable(c); }
static inline void np_cond_wait(np_cond *c, np_mutex *m) {
    SleepConditionVariableSRW(c, m, INFINITE, 0);
}
/* Waits at most timeout_ns (negative: for ever).  False when the time is up. */
bool np_cond_wait_for(np_cond *c, np_mutex *m, int64_t timeout_ns);

static inline uintptr_t np_thread_id(void) { return GetCurrentThreadId(); }
/* 0 or an error of the system. */
int np_thread_start(np_thread *t, np_thread_main main, void *arg);
void np_thread_join(np_thread t);
static inline void np_thread_detach(np_thread t) { CloseHandle(t); }

/* A process does not fork. */
static inline bool np_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    (void)prepare, (void)parent, (void)child;
    return true;
}

/* Monotonic time in nanoseconds. */
int64_t np_now(void);

/* A timeout as the system's waits take it, rounded up, so that few end before
 * their time; those look at np_now again.  Negative: INFINITE. */
DWORD np_milliseconds(int64_t timeout_ns);

#endif
