#include "sync.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- locks ------------------------------------------------------------- */

/* Sleeps while *a is `value`, at most for timeout (NULL: no limit). */
static bool sleep_while(np_atomic_u32 *a, uint32_t value, const struct timespec *timeout) {
    return syscall(SYS_futex, a, FUTEX_WAIT_PRIVATE, value, timeout, NULL, 0) == 0
           || errno != ETIMEDOUT;
}

static void wake(np_atomic_u32 *a, int count) {
    syscall(SYS_futex, a, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Whoever has slept can't know that nobody else does, and says that one does. */
void np_mutex_sleep(np_mutex *m) {
    while (np_swap32(&m->state, 2) != 0)
        sleep_while(&m->state, 2, NULL);
}

void np_mutex_wake(np_mutex *m) { wake(&m->state, 1); }

void np_cond_broadcast(np_cond *c) {
    np_add32(&c->broadcasts, 1);
    wake(&c->broadcasts, INT_MAX);
}

bool np_cond_wait_for(np_cond *c, np_mutex *m, int64_t timeout_ns) {
    struct timespec t = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    uint32_t seen = np_load32(&c->broadcasts);
    np_mutex_unlock(m);
    bool in_time = sleep_while(&c->broadcasts, seen, timeout_ns < 0 ? NULL : &t);
    np_mutex_lock(m);
    return in_time;
}

/* ---- threads ----------------------------------------------------------- */

typedef struct {
    np_thread_main main;
    void *arg;
} start;

static void *run(void *p) {
    start s = *(start *)p;
    free(p);
    s.main(s.arg);
    return NULL;
}

int np_thread_start(np_thread *t, np_thread_main main, void *arg) {
    start *s = malloc(sizeof *s);
    if (!s)
        return ENOMEM;
    s->main = main;
    s->arg = arg;
    /* Those of a crash stay: they can only be the thread's own. */
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t all, old;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
        sigdelset(&all, crashes[i]);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(t, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err)
        free(s);
    return err;
}

bool np_at_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void)) {
    return pthread_atfork(prepare, parent, child) == 0;
}
