/* Polling: one round takes what the port completed, what other threads posted
 * and what timers are due, and gives the batch that comes of it to delivery.
 * It is the model's process Worker; posting.pml is how others reach it. */
#include <stdlib.h>

#include "internal.h"

int64_t np_clock(void) { return np_now(); }

/* ---- timers ------------------------------------------------------------ */

int64_t np_worker_now(const np_worker *worker) {
    const np_time_source *time = worker->time;
    return time ? time->now(time->user) : np_now();
}

void np_timer_set(np_worker *worker, np_timer *timer, int64_t delay_ns) {
    timer->deadline = np_worker_now(worker) + delay_ns;
    np_list_remove(&timer->node);
    np_node *at = worker->timers.prev;
    while (at != &worker->timers && NP_ENTRY(at, np_timer, node)->deadline > timer->deadline)
        at = at->prev;
    np_list_insert_before(at->next, &timer->node);
}

void np_timer_append(np_worker *worker, np_timer *timer, int64_t delay_ns) {
    timer->deadline = np_worker_now(worker) + delay_ns;
    np_list_remove(&timer->node);
    np_list_append(&worker->message_timers, &timer->node);
}

void np_timer_clear(np_timer *timer) { np_list_remove(&timer->node); }

static np_timer *first_of(const np_list *list) {
    return np_list_empty(list) ? NULL : NP_ENTRY(list->next, np_timer, node);
}

/* NULL: none is set. */
static np_timer *first_timer(const np_worker *worker) {
    np_timer *a = first_of(&worker->timers), *b = first_of(&worker->message_timers);
    return !a || (b && b->deadline < a->deadline) ? b : a;
}

static int64_t until_timer(const np_worker *worker, int64_t timeout_ns) {
    const np_timer *first = first_timer(worker);
    if (!first)
        return timeout_ns;
    int64_t left = first->deadline - np_worker_now(worker);
    if (left < 0)
        left = 0;
    return timeout_ns < 0 || left < timeout_ns ? left : timeout_ns;
}

static void fire_timers(np_worker *worker, np_batch *batch) {
    np_timer *timer = first_timer(worker);
    int64_t now = timer ? np_worker_now(worker) : 0;
    for (; timer && timer->deadline <= now; timer = first_timer(worker)) {
        np_list_remove(&timer->node);
        timer->fire(timer, batch);
    }
}

/* ---- posted requests --------------------------------------------------- */

void np_worker_wake(np_worker *worker) {
    if (!np_swap32(&worker->asleep, 0))
        return;
    /* Something else may wake it meanwhile, and be the last it does. */
    np_mutex_lock(&worker->wake_lock);
    if (!worker->ended)
        np_port_wake(&worker->port);
    np_mutex_unlock(&worker->wake_lock);
}

static np_connection *take_posted(np_worker *worker) {
    if (!np_load32(&worker->any_posted))
        return NULL;
    np_mutex_lock(&worker->post_lock);
    np_connection *c = worker->posted;
    worker->posted = NULL;
    worker->posted_tail = &worker->posted;
    np_store32(&worker->any_posted, 0);
    np_mutex_unlock(&worker->post_lock);
    return c;
}

/* It has stopped, and nothing of its own is left: EMPTY of the model. */
static bool is_empty(np_worker *worker) {
    np_endpoint *ep = worker->endpoint;
    np_batch *batch = &worker->batch;
    if (!worker->stopping || batch->count || batch->touched || batch->doomed || batch->wanted
        || batch->due)
        return false;
    np_mutex_lock(&ep->lock);
    bool empty = worker->live == 0 && worker->armed == 0;
    np_mutex_unlock(&ep->lock);
    return empty;
}

/* Why the poller must not sleep.  All that np_port_wake is called for is seen
 * here, as a wake may be lost on a wait that did not sleep. */
static bool has_posted(np_worker *worker, bool queue) {
    np_endpoint *ep = worker->endpoint;
    return np_load32(&worker->any_posted) || (np_load32(&worker->stop_posted) && !worker->stopping)
           || (worker->index == 0 && np_load32(&ep->ready)) || is_empty(worker)
           || (queue ? np_load32(&ep->lease.guests) : np_load32(&ep->attention));
}

static void process_posted(np_worker *worker, np_batch *batch) {
    np_connection *c = take_posted(worker);
    while (c) {
        np_connection *next = c->posted_next;
        np_connection_on_requests(c, batch, np_swap32(&c->requests, 0));
        np_connection_release(c);
        c = next;
    }
}

/* The last of the poller's life: from now on nothing is posted, and nobody is
 * about to wake the port, which may be closed. */
static void close_posted(np_worker *worker) {
    np_mutex_lock(&worker->wake_lock);
    worker->ended = true;
    np_mutex_unlock(&worker->wake_lock);
    np_mutex_lock(&worker->post_lock);
    worker->closed = true;
    np_mutex_unlock(&worker->post_lock);
    np_connection *c = take_posted(worker);
    while (c) {
        np_connection *next = c->posted_next;
        np_connection_release(c);
        c = next;
    }
}

/* ---- stopping ---------------------------------------------------------- */

static void begin_stop(np_worker *worker, np_batch *batch) {
    np_endpoint *ep = worker->endpoint;
    worker->stopping = true;
    np_mutex_lock(&ep->lock);
    np_node *node = ep->connections.next;
    /* Aborting takes the connection's lock, which comes after the endpoint's;
     * nothing of it changes the list. */
    for (; node != &ep->connections; node = node->next) {
        np_connection *c = NP_ENTRY(node, np_connection, registry);
        if (c->worker == worker)
            np_connection_abort(c, batch);
    }
    np_mutex_unlock(&ep->lock);
}

/* ---- one round --------------------------------------------------------- */

void np_worker_process(np_worker *worker, np_batch *batch, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const np_completion *done = &worker->completions[i];
        void *owner = done->operation->owner;
        switch (done->operation->kind) {
        case NP_OP_ACCEPT: np_accept_completed(worker, batch, done); break;
        case NP_OP_CONNECT: np_client_completed(owner, batch, done); break;
        case NP_OP_READ: np_connection_on_read(owner, batch, done); break;
        case NP_OP_WRITE: np_connection_on_write(owner, batch, done); break;
        }
    }
}

static size_t wait(np_worker *worker, int64_t timeout_ns, bool queue) {
    size_t count = 0;
    np_arena *arena = &worker->batch.arena;
    int64_t spin = (int64_t)worker->endpoint->config.spin_us * 1000;
    if (spin && timeout_ns) {
        int64_t end = np_now() + spin;
        do {
            np_port_wait(&worker->port, arena, worker->completions, NP_COMPLETIONS, 0, &count);
        } while (!count && !has_posted(worker, queue) && np_now() < end);
        if (count)
            return count;
    }
    if (timeout_ns) {
        np_swap32(&worker->asleep, 1);
        if (has_posted(worker, queue))
            timeout_ns = 0;
    }
    np_port_wait(&worker->port, arena, worker->completions, NP_COMPLETIONS, timeout_ns, &count);
    np_store32(&worker->asleep, 0);
    return count;
}

void np_worker_poll(np_worker *worker, void *thread, int64_t timeout_ns, bool queue,
                    np_round *round) {
    np_batch *batch = &worker->batch;
    if (worker->index == 0 && np_load32(&worker->endpoint->ready)
        && np_swap32(&worker->endpoint->ready, 0))
        np_batch_add(batch, NP_EVENT_READY, NULL);
    process_posted(worker, batch);
    bool stops_now = np_load32(&worker->stop_posted) && !worker->stopping;
    if (stops_now)
        begin_stop(worker, batch);
    /* A worker that begins to stop may have nothing left that would wake it. */
    if (batch->count || batch->touched || batch->due || stops_now)
        timeout_ns = 0;
    size_t count = wait(worker, until_timer(worker, timeout_ns), queue);
    np_worker_process(worker, batch, count);
    fire_timers(worker, batch);
    np_delivery_run(batch, thread, queue, round);
    round->idle = count == 0 && round->delivered == 0;
    round->attention = !queue && np_load32(&worker->endpoint->attention)
                       && np_swap32(&worker->endpoint->attention, 0);
    if (np_load32(&worker->endpoint->forked))
        return;
    if (is_empty(worker) && !np_load32(&worker->drained)) {
        close_posted(worker);
        np_endpoint_worker_drained(worker);
    }
}

/* A foreign event loop has others to serve: it is called again at once when this
 * was not enough. */
enum { DRIVE_ROUNDS = 8 };

int64_t np_worker_drive(np_worker *worker, void *thread, np_round *round) {
    np_batch *batch = &worker->batch;
    np_endpoint *ep = worker->endpoint;
    np_round one;
    bool left;
    unsigned rounds = 0;
    do {
        one = (np_round){0};
        np_worker_poll(worker, thread, 0, false, &one);
        round->delivered += one.delivered;
        round->leave |= one.leave;
        if (np_load32(&ep->forked) || np_load32(&worker->drained))
            return -1;
        left = batch->count || batch->touched || has_posted(worker, false);
    } while ((left || !one.idle) && !round->leave && ++rounds < DRIVE_ROUNDS);
    /* From here on whoever posts something makes the port readable. */
    np_swap32(&worker->asleep, 1);
    if (left || has_posted(worker, false))
        np_worker_wake(worker);
    return until_timer(worker, -1);
}

/* ---- the thread -------------------------------------------------------- */

/* No worker polls before all are there, so that READY comes first. */
static void join(np_worker *worker) {
    np_endpoint *ep = worker->endpoint;
    np_mutex_lock(&ep->lock);
    if (++ep->joined == ep->worker_count)
        np_store32(&ep->ready, 1);
    np_cond_broadcast(&ep->ended);
    while (ep->joined < ep->worker_count && !np_endpoint_is_stopping(ep))
        np_cond_wait(&ep->ended, &ep->lock);
    np_mutex_unlock(&ep->lock);
}

void np_worker_main(void *arg) {
    np_worker *worker = arg;
    np_endpoint *ep = worker->endpoint;
    bool marshalled = ep->config.marshalled;
    void *thread = ep->host.thread_begin ? ep->host.thread_begin(ep->host.user) : NULL;
    join(worker);
    if (marshalled)
        np_lease_enter_worker(ep);
    while (!np_load32(&worker->drained) && !np_load32(&ep->forked)) {
        np_round round = {0};
        np_worker_poll(worker, thread, -1, marshalled, &round);
        if (marshalled) {
            np_lease_leave_worker(ep);
            np_lease_enter_worker(ep);
        }
    }
    if (marshalled)
        np_lease_leave_worker(ep);
    if (np_load32(&ep->forked))
        return;
    if (ep->host.thread_end)
        ep->host.thread_end(ep->host.user, thread);
    np_endpoint_release(ep);
}
