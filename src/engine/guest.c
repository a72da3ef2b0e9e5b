/* Guests: threads of the host inside run, dispatch or stop.  A guest of a
 * marshalled endpoint is itself the poller, so that nothing is handed from
 * thread to thread; the worker's thread stands back meanwhile.  The model of it
 * is lease.pml, with the processes Worker, Guest and Stop. */
#include "internal.h"

enum { LATE_ROUNDS = 16 };          /* of a run whose time is up */

/* ---- the lease --------------------------------------------------------- */

/* A marshalled guest's waits are many and short, and a timer for each, so that the
 * host is asked, would cost more than the rest of the round: the worker, who has
 * nothing else to do, wakes it. */
void np_lease_enter_worker(np_endpoint *ep) {
    np_lease *l = &ep->lease;
    np_mutex_lock(&l->lock);
    while (np_load32(&l->guests)) {
        if (np_cond_wait_for(&l->changed, &l->lock, NP_ASK_NS))
            continue;
        np_store32(&ep->attention, 1);
        np_port_wake(&ep->workers[0].port);
    }
    l->worker_polls = true;
    np_mutex_unlock(&l->lock);
}

void np_lease_leave_worker(np_endpoint *ep) {
    np_lease *l = &ep->lease;
    np_mutex_lock(&l->lock);
    l->worker_polls = false;
    np_cond_broadcast(&l->changed);
    np_mutex_unlock(&l->lock);
}

static void enter_guest(np_endpoint *ep) {
    np_lease *l = &ep->lease;
    np_mutex_lock(&l->lock);
    np_add32(&l->guests, 1);
    if (l->worker_polls)
        np_port_wake(&ep->workers[0].port);
    while (l->worker_polls)
        np_cond_wait(&l->changed, &l->lock);
    np_mutex_unlock(&l->lock);
}

static void leave_guest(np_endpoint *ep) {
    np_lease *l = &ep->lease;
    np_mutex_lock(&l->lock);
    np_add32(&l->guests, (uint32_t)-1);
    np_cond_broadcast(&l->changed);
    np_mutex_unlock(&l->lock);
}

/* One guest at a time: true if this thread is it now. */
static bool claim(np_endpoint *ep) { return !np_swap32(&ep->dispatching, 1); }

/* Only a stop waits for it.  One that found it claimed has changed the phase
 * before, so that it is seen here: both swap the same variable. */
static void unclaim(np_endpoint *ep) {
    if (np_load32(&ep->forked))
        return;
    np_swap32(&ep->dispatching, 0);
    if (!np_endpoint_is_stopping(ep))
        return;
    np_mutex_lock(&ep->lock);
    np_cond_broadcast(&ep->ended);
    np_mutex_unlock(&ep->lock);
}

/* ---- running ----------------------------------------------------------- */

static int64_t remaining(int64_t end) {
    if (end < 0)
        return -1;
    int64_t left = end - np_now();
    return left > 0 ? left : 0;
}

static int64_t end_of(int64_t timeout_ns) {
    int64_t now = np_now();
    return timeout_ns < 0 || timeout_ns > INT64_MAX - now ? -1 : now + timeout_ns;
}

static int64_t one_wait(int64_t left) { return left < 0 || left > NP_ASK_NS ? NP_ASK_NS : left; }

/* The first round only looks: what came while this thread became the guest. */
static int64_t next_wait(bool *looked, int64_t left) {
    int64_t wait = *looked ? left : 0;
    *looked = true;
    return wait;
}

/* Host code may run in there (signal handlers), and may call the engine. */
static bool ask_interrupted(np_endpoint *ep, void *thread) {
    if (!ep->host.interrupted)
        return true;
    np_batch here = {.endpoint = ep};
    np_batch_make_current(&here);
    bool go_on = ep->host.interrupted(ep->host.user, thread);
    np_batch_end_current(&here);
    return go_on;
}

/* Delivers the backlog as it is now, not what is added meanwhile. */
static void drain_backlog(np_endpoint *ep, void *thread, np_round *round) {
    size_t end = round->delivered + np_delivery_backlog_count(ep);
    while (!round->leave && round->delivered < end && np_delivery_backlog(ep, thread, round))
        if (np_load32(&ep->forked))
            return;
}

static np_run_result run_marshalled(np_endpoint *ep, void *thread, int64_t end) {
    np_run_result result;
    unsigned late = 0;
    bool looked = false;
    enter_guest(ep);
    for (;;) {
        np_round round = {0};
        drain_backlog(ep, thread, &round);
        if (np_load32(&ep->forked))
            return NP_RUN_STOPPED;
        if (round.leave) {
            result = NP_RUN_INTERRUPTED;
            break;
        }
        if (np_endpoint_has_stopped(ep)) {
            result = NP_RUN_STOPPED;
            break;
        }
        if (np_load32(&ep->quit) && np_swap32(&ep->quit, 0)) {
            result = NP_RUN_QUIT;
            break;
        }
        int64_t left = remaining(end);
        np_worker_poll(&ep->workers[0], thread, next_wait(&looked, left), false, &round);
        if (np_load32(&ep->forked))
            return NP_RUN_STOPPED;
        if (round.leave || ((round.idle || round.attention) && !ask_interrupted(ep, thread))) {
            result = NP_RUN_INTERRUPTED;
            break;
        }
        /* What is there is still taken, but clients that never pause can't hold it. */
        if (left == 0 && (round.idle || ++late == LATE_ROUNDS) && !np_endpoint_has_stopped(ep)) {
            result = NP_RUN_TIMEOUT;
            break;
        }
    }
    leave_guest(ep);
    return result;
}

/* Events run on the workers: this thread only waits. */
static np_run_result run_free(np_endpoint *ep, void *thread, int64_t end) {
    for (;;) {
        if (np_endpoint_has_stopped(ep))
            return NP_RUN_STOPPED;
        if (np_swap32(&ep->quit, 0)) {
            np_signal_clear(&ep->quit_signal);
            return NP_RUN_QUIT;
        }
        int64_t left = remaining(end);
        int r = np_signal_wait(&ep->quit_signal, one_wait(left));
        if (r == 0 && left >= 0 && remaining(end) == 0)
            return NP_RUN_TIMEOUT;
        if (r == 1 && !np_load32(&ep->quit) && !np_endpoint_has_stopped(ep))
            np_signal_clear(&ep->quit_signal);
        if (!ask_interrupted(ep, thread))
            return NP_RUN_INTERRUPTED;
    }
}

np_run_result np_endpoint_run(np_endpoint *ep, void *thread, int64_t timeout_ns) {
    if (np_load32(&ep->forked) || np_endpoint_has_stopped(ep))
        return NP_RUN_STOPPED;
    if (np_endpoint_is_inside(ep) || !claim(ep))
        return NP_RUN_BUSY;
    int64_t end = end_of(timeout_ns);
    np_run_result result = ep->config.marshalled ? run_marshalled(ep, thread, end)
                                                 : run_free(ep, thread, end);
    unclaim(ep);
    return result;
}

int64_t np_endpoint_dispatch(np_endpoint *ep, void *thread, int64_t timeout_ns) {
    if (np_load32(&ep->forked) || !ep->config.marshalled)
        return 0;
    if (np_endpoint_is_inside(ep) || !claim(ep))
        return -1;
    np_round round = {0};
    drain_backlog(ep, thread, &round);
    if (!round.delivered && timeout_ns != 0 && !np_endpoint_has_stopped(ep)) {
        int64_t end = end_of(timeout_ns);
        bool looked = false;
        enter_guest(ep);
        drain_backlog(ep, thread, &round);
        while (!round.delivered && !round.leave && !np_endpoint_has_stopped(ep)
               && !np_swap32(&ep->quit, 0)) {
            int64_t left = remaining(end);
            np_worker_poll(&ep->workers[0], thread, next_wait(&looked, left), false, &round);
            if (np_load32(&ep->forked))
                return (int64_t)round.delivered;
            if (left == 0 || ((round.idle || round.attention) && !ask_interrupted(ep, thread)))
                break;
        }
        leave_guest(ep);
    }
    unclaim(ep);
    return (int64_t)round.delivered;
}

bool np_endpoint_can_be_driven(void) { return NP_PORT_WATCHABLE; }

int64_t np_endpoint_drive(np_endpoint *ep, void *thread, int64_t *next_ns) {
    *next_ns = -1;
    if (np_load32(&ep->forked) || !ep->config.marshalled || np_load32(&ep->phase) == NP_PHASE_NEW)
        return 0;
    if (np_endpoint_is_inside(ep) || !claim(ep))
        return -1;
    np_round round = {0};
    drain_backlog(ep, thread, &round);
    if (np_load32(&ep->forked))
        return (int64_t)round.delivered;
    if (ep->config.driven && !np_endpoint_has_stopped(ep))
        *next_ns = np_worker_drive(&ep->workers[0], thread, &round);
    else if (np_delivery_backlog_count(ep))
        *next_ns = 0;
    unclaim(ep);
    return (int64_t)round.delivered;
}

/* ---- ending ------------------------------------------------------------ */

void np_endpoint_quit(np_endpoint *ep) {
    if (np_load32(&ep->forked))
        return;
    np_store32(&ep->quit, 1);
    np_endpoint_interrupt(ep);
}

void np_endpoint_interrupt(np_endpoint *ep) {
    if (np_load32(&ep->forked))
        return;
    np_mutex_lock(&ep->lock);
    if (!ep->closed && ep->worker_count) {
        if (ep->config.marshalled) {
            np_store32(&ep->attention, 1);
            np_port_wake(&ep->workers[0].port);
        } else {
            np_signal_set(&ep->quit_signal);
        }
    }
    np_mutex_unlock(&ep->lock);
}

bool np_endpoint_is_inside(const np_endpoint *ep) {
    for (const np_batch *b = np_current_batch; b; b = b->outer)
        if (b->endpoint == ep)
            return true;
    return false;
}

/* Delivers until the endpoint has stopped; this thread is the guest. */
static void finish_as_guest(np_endpoint *ep, void *thread, int64_t end) {
    enter_guest(ep);
    for (;;) {
        np_round round = {0};
        while (np_delivery_backlog(ep, thread, &round))
            ;
        if (np_load32(&ep->forked) || np_endpoint_has_stopped(ep) || remaining(end) == 0)
            break;
        np_worker_poll(&ep->workers[0], thread, remaining(end), false, &round);
    }
    leave_guest(ep);
}

/* Marshalled events need a thread to run on: this one, if no other is there.
 * False when the time is up. */
static bool wait_stopped(np_endpoint *ep, void *thread, int64_t end) {
    for (;;) {
        if (ep->config.marshalled && claim(ep)) {
            finish_as_guest(ep, thread, end);
            unclaim(ep);
        }
        np_mutex_lock(&ep->lock);
        while ((!np_endpoint_has_stopped(ep) || np_load32(&ep->dispatching)) && remaining(end) != 0
               && !(ep->config.marshalled && !np_load32(&ep->dispatching)))
            np_cond_wait_for(&ep->ended, &ep->lock, remaining(end));
        np_mutex_unlock(&ep->lock);
        /* In this order: when it has stopped nothing is added to the backlog, and
         * whoever took the last of it is claimed until that is delivered. */
        if (np_endpoint_has_stopped(ep) && !np_delivery_backlog_count(ep)
            && !np_load32(&ep->dispatching))
            return true;
        if (remaining(end) == 0)
            return false;
    }
}

static bool join_threads(np_endpoint *ep) {
    np_mutex_lock(&ep->lock);
    while (ep->starting)        /* another thread is still inside listen */
        np_cond_wait(&ep->ended, &ep->lock);
    bool mine = !ep->joining;
    ep->joining = true;
    np_mutex_unlock(&ep->lock);
    if (mine) {
        for (unsigned i = 0; i < ep->worker_count; i++)
            if (ep->workers[i].started)
                np_thread_join(ep->workers[i].thread);
        np_endpoint_close(ep);
        np_mutex_lock(&ep->lock);
        ep->threads_joined = true;
        np_cond_broadcast(&ep->ended);
        np_mutex_unlock(&ep->lock);
        return true;
    }
    np_mutex_lock(&ep->lock);
    while (!ep->threads_joined)
        np_cond_wait(&ep->ended, &ep->lock);
    np_mutex_unlock(&ep->lock);
    return true;
}

bool np_endpoint_stop_wait(np_endpoint *ep, void *thread, int64_t timeout_ns) {
    if (np_load32(&ep->forked) || np_load32(&ep->phase) == NP_PHASE_NEW)
        return true;
    if (np_endpoint_is_inside(ep))
        return false;
    return wait_stopped(ep, thread, end_of(timeout_ns)) && join_threads(ep);
}
