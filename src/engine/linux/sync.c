#include "sync.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

void np_cond_init(np_cond *c) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

bool np_cond_wait_for(np_cond *c, np_mutex *m, int64_t timeout_ns) {
    if (timeout_ns < 0) {
        pthread_cond_wait(c, m);
        return true;
    }
    int64_t end = np_now() + timeout_ns;
    struct timespec t = {.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};
    return pthread_cond_timedwait(c, m, &t) != ETIMEDOUT;
}

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
