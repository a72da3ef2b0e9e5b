/* Locks, threads and the clock of the scripted platform.  There is one thread:
 * whoever takes a lock that is taken would wait for ever, and what other
 * threads do happens where a thread waits. */
#ifndef NP_SYNC_H
#define NP_SYNC_H

#include <stdbool.h>
#include <stdint.h>

typedef struct np_mutex {
    bool taken;
} np_mutex;

typedef struct np_cond {
    int unused;
} np_cond;

typedef void (*np_thread_main)(void *arg);
typedef void *np_thread;            /* the argument of its main */

#define NP_MUTEX_INIT {false}

static inline void np_mutex_init(np_mutex *m) { m->taken = false; }
void np_mutex_destroy(np_mutex *m);
void np_mutex_lock(np_mutex *m);
bool np_mutex_trylock(np_mutex *m);
void np_mutex_unlock(np_mutex *m);

static inline void np_cond_init(np_cond *c) { c->unused = 0; }
static inline void np_cond_destroy(np_cond *c) { (void)c; }
static inline void np_cond_broadcast(np_cond *c) { (void)c; }
bool np_cond_wait_for(np_cond *c, np_mutex *m, int64_t timeout_ns);
static inline void np_cond_wait(np_cond *c, np_mutex *m) { np_cond_wait_for(c, m, -1); }

static inline uintptr_t np_thread_id(void) { return 1; }
int np_thread_start(np_thread *t, np_thread_main main, void *arg);
void np_thread_join(np_thread t);
static inline void np_thread_detach(np_thread t) { (void)t; }
static inline bool np_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    (void)prepare, (void)parent, (void)child;
    return true;
}

int64_t np_now(void);

#endif
