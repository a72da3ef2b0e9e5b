/* Threads, locks and the clock, over pthreads.  windows/sync.h has the same
 * names over SRW locks; both are thin enough to be inlined. */
#ifndef NP_SYNC_H
#define NP_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

typedef pthread_mutex_t np_mutex;
typedef pthread_cond_t np_cond;
typedef pthread_t np_thread;
typedef void (*np_thread_main)(void *arg);

#define NP_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
static inline void np_mutex_init(np_mutex *m) { pthread_mutex_init(m, NULL); }
static inline void np_mutex_destroy(np_mutex *m) { pthread_mutex_destroy(m); }
static inline void np_mutex_lock(np_mutex *m) { pthread_mutex_lock(m); }
static inline bool np_mutex_trylock(np_mutex *m) { return pthread_mutex_trylock(m) == 0; }
static inline void np_mutex_unlock(np_mutex *m) { pthread_mutex_unlock(m); }

void np_cond_init(np_cond *c);
static inline void np_cond_destroy(np_cond *c) { pthread_cond_destroy(c); }
static inline void np_cond_broadcast(np_cond *c) { pthread_cond_broadcast(c); }
static inline void np_cond_wait(np_cond *c, np_mutex *m) { pthread_cond_wait(c, m); }
/* Waits at most timeout_ns (negative: for ever).  False when the time is up. */
bool np_cond_wait_for(np_cond *c, np_mutex *m, int64_t timeout_ns);

static inline uintptr_t np_thread_id(void) { return (uintptr_t)pthread_self(); }
/* Starts a thread with signals blocked (but those of a crash), so that signals reach the
 * threads of the host program only.  0 or an errno. */
int np_thread_start(np_thread *t, np_thread_main main, void *arg);
static inline void np_thread_join(np_thread t) { pthread_join(t, NULL); }
static inline void np_thread_detach(np_thread t) { pthread_detach(t); }

/* Monotonic time in nanoseconds. */
static inline int64_t np_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
