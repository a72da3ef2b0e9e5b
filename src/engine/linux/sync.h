/* Threads, locks and the clock, over pthreads and futexes.  windows/sync.h has
 * the same names over SRW locks; both are thin enough to be inlined: a lock is
 * taken for every message, and is nearly always free. */
#ifndef NP_SYNC_H
#define NP_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "atomic.h"

/* 0: free; 1: taken; 2: taken, and somebody sleeps until it is free. */
typedef struct np_mutex {
    np_atomic_u32 state;
} np_mutex;

/* A count of broadcasts: whoever waits sleeps until it changes. */
typedef struct np_cond {
    np_atomic_u32 broadcasts;
} np_cond;

typedef pthread_t np_thread;
typedef void (*np_thread_main)(void *arg);

#define NP_MUTEX_INIT {{0}}
void np_mutex_sleep(np_mutex *m);
void np_mutex_wake(np_mutex *m);

static inline void np_mutex_init(np_mutex *m) { np_store32(&m->state, 0); }
static inline void np_mutex_destroy(np_mutex *m) { (void)m; }
static inline bool np_mutex_trylock(np_mutex *m) { return np_cas32(&m->state, 0, 1); }
static inline void np_mutex_lock(np_mutex *m) {
    if (!np_mutex_trylock(m))
        np_mutex_sleep(m);
}
static inline void np_mutex_unlock(np_mutex *m) {
    if (np_swap32(&m->state, 0) == 2)
        np_mutex_wake(m);
}

static inline void np_cond_init(np_cond *c) { np_store32(&c->broadcasts, 0); }
static inline void np_cond_destroy(np_cond *c) { (void)c; }
void np_cond_broadcast(np_cond *c);
/* Waits at most timeout_ns (negative: for ever).  False when the time is up.
 * May return early. */
bool np_cond_wait_for(np_cond *c, np_mutex *m, int64_t timeout_ns);
static inline void np_cond_wait(np_cond *c, np_mutex *m) { np_cond_wait_for(c, m, -1); }

static inline uintptr_t np_thread_id(void) { return (uintptr_t)pthread_self(); }
/* Starts a thread with signals blocked (but those of a crash), so that signals reach the
 * threads of the host program only.  0 or an errno. */
int np_thread_start(np_thread *t, np_thread_main main, void *arg);
static inline void np_thread_join(np_thread t) { pthread_join(t, NULL); }
static inline void np_thread_detach(np_thread t) { pthread_detach(t); }

/* Has these called inside every fork of the process: ahead of it, and after it in
 * the thread that forked, in the parent and in the child.
 * False: no memory. */
bool np_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

/* Monotonic time in nanoseconds. */
static inline int64_t np_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
