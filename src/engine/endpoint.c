/* An endpoint from its making to its end: resources in order of acquisition,
 * given back in the reverse order by whoever drops the last reference. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "fork.h"

void np_config_init(np_config *config) {
    *config = (np_config){
        .threads = 1,
        .continuous_read = true,
        .message_buffer_size = 131072,
        .listeners = 8,
        .max_handshakes = 128,
        .max_message_size = 64 << 20,
        .message_timeout_ns = INT64_C(60000000000),
        .write_high_water = 1 << 20,
        .max_pending_bytes = 64 << 20,
        .reconnect_min_ns = 50000000,
        .reconnect_max_ns = INT64_C(5000000000),
    };
}

/* ---- making and ending ------------------------------------------------- */

static void worker_close(np_worker *w) {
    np_batch_close(&w->batch);
    np_port_close(&w->port);
}

static np_code worker_open(np_endpoint *ep, np_worker *w, unsigned index, np_error *error) {
    w->endpoint = ep;
    w->index = index;
    w->time = ep->config.time;
    w->random = (uint64_t)np_now() ^ (uint64_t)(uintptr_t)w << 16;
    w->posted_tail = &w->posted;
    np_list_init(&w->timers);
    np_list_init(&w->message_timers);
    np_code code = np_port_open(&w->port, error);
    if (code != NP_OK)
        return code;
    np_mutex_init(&w->post_lock);
    np_mutex_init(&w->wake_lock);
    bool batch = np_batch_open(&w->batch, w);
    w->batch.arena.size = NP_ARENA_SIZE;
    w->batch.arena.data = malloc(NP_ARENA_SIZE);
    if (batch && w->batch.arena.data)
        return NP_OK;
    worker_close(w);
    np_mutex_destroy(&w->post_lock);
    np_mutex_destroy(&w->wake_lock);
    return NP_E_MEMORY;
}

void np_endpoint_close(np_endpoint *ep) {
    np_mutex_lock(&ep->lock);
    if (!ep->closed) {
        ep->closed = true;
        for (unsigned i = 0; i < ep->worker_count; i++)
            worker_close(&ep->workers[i]);
        np_signal_close(&ep->backlog.signal);
        np_signal_close(&ep->quit_signal);
    }
    np_mutex_unlock(&ep->lock);
}

static void free_endpoint(np_endpoint *ep) {
    void (*released)(void *) = ep->host.released;
    void *user = ep->host.user;
    np_endpoint_close(ep);
    for (unsigned i = 0; i < ep->worker_count; i++) {
        np_mutex_destroy(&ep->workers[i].post_lock);
        np_mutex_destroy(&ep->workers[i].wake_lock);
    }
    free(ep->workers);
    np_accept_free(ep);
    for (size_t i = 0; i < ep->backlog.count; i++) {
        np_event *e = &ep->backlog.events[ep->backlog.first + i];
        if (e->kind == NP_EVENT_MESSAGE)
            np_buffer_drop(e->u.message.buffer);
    }
    free(ep->backlog.events);
    np_mutex_destroy(&ep->backlog.lock);
    np_mutex_destroy(&ep->trash_lock);
    np_mutex_destroy(&ep->lease.lock);
    np_cond_destroy(&ep->lease.changed);
    np_mutex_destroy(&ep->lock);
    np_cond_destroy(&ep->ended);
    free(ep);
    if (released)
        released(user);
}

np_code np_endpoint_new(const np_config *config, const np_host *host, np_endpoint **out,
                        np_error *error) {
    *error = np_error_make(NP_E_INVALID, NP_DOING_START);
    if (config->driven && (!NP_PORT_WATCHABLE || !config->marshalled))
        return NP_E_INVALID;
    error->code = NP_E_MEMORY;
    np_endpoint *ep = calloc(1, sizeof *ep);
    if (!ep)
        return NP_E_MEMORY;
    np_code code = np_signal_open(&ep->backlog.signal, error);
    if (code == NP_OK) {
        code = np_signal_open(&ep->quit_signal, error);
        if (code != NP_OK)
            np_signal_close(&ep->backlog.signal);
    }
    if (code != NP_OK) {
        free(ep);
        return code;
    }
    ep->config = *config;
    ep->host = *host;
    np_store32(&ep->refs, 1);
    np_store32(&ep->want_sent, config->want_sent);
    ep->append_limit = NP_LINK_FRAMED && !config->byte_mode ? config->max_pending_bytes : 0;
    if (config->write_high_water && config->write_high_water < ep->append_limit)
        ep->append_limit = config->write_high_water;
    np_mutex_init(&ep->lock);
    np_cond_init(&ep->ended);
    np_mutex_init(&ep->lease.lock);
    np_cond_init(&ep->lease.changed);
    np_mutex_init(&ep->backlog.lock);
    np_mutex_init(&ep->trash_lock);
    np_list_init(&ep->connections);
    np_list_init(&ep->unproved);
    np_list_init(&ep->slots);
    np_list_init(&ep->spare_slots);
    np_list_init(&ep->accept_timer.node);
    np_list_init(&ep->fork_node);
    *out = ep;
    return NP_OK;
}

void np_endpoint_retain(np_endpoint *ep) { np_add32(&ep->refs, 1); }

void np_endpoint_release(np_endpoint *ep) {
    if (np_add32(&ep->refs, (uint32_t)-1) != 1)
        return;
    if (np_load32(&ep->forked))
        return;
    np_fork_remove(ep);
    if (!ep->threads_joined)
        for (unsigned i = 0; i < ep->worker_count; i++)
            if (ep->workers[i].started)
                np_thread_detach(ep->workers[i].thread);
    free_endpoint(ep);
}

/* ---- starting ---------------------------------------------------------- */

/* Threads that know of the endpoint already find all of its workers, or none. */
static np_code open_resources(np_endpoint *ep, np_error *error) {
    np_code code = NP_OK;
    /* Marshalled events run one at a time, so one poller does all there is. */
    unsigned count = ep->config.marshalled || !ep->config.threads ? 1 : ep->config.threads;
    unsigned opened = 0;
    np_worker *workers = calloc(count, sizeof *workers);
    if (!workers)
        return NP_E_MEMORY;
    while (opened < count && code == NP_OK) {
        code = worker_open(ep, &workers[opened], opened, error);
        if (code == NP_OK)
            opened++;
    }
    np_mutex_lock(&ep->lock);
    ep->workers = workers;
    ep->worker_count = opened;
    np_mutex_unlock(&ep->lock);
    return code;
}

/* Takes back instances that were armed before the start failed. */
static void discard_slots(np_endpoint *ep) {
    np_accept_stop(ep);
    for (unsigned i = 0; i < ep->worker_count; i++) {
        np_worker *w = &ep->workers[i];
        while (w->armed) {
            size_t count;
            np_port_wait(&w->port, &w->batch.arena, w->completions, NP_COMPLETIONS, -1, &count);
            np_worker_process(w, &w->batch, count);
            np_batch_reset(&w->batch);
        }
    }
}

/* A worker's thread could not be started: those that run end again. */
static np_code undo_start(np_endpoint *ep, int os, np_error *error) {
    error->os = os;
    np_endpoint_stop_begin(ep);
    for (unsigned i = 0; i < ep->worker_count; i++)
        if (ep->workers[i].started)
            np_thread_join(ep->workers[i].thread);
    np_mutex_lock(&ep->lock);
    ep->joining = ep->threads_joined = true;
    np_mutex_unlock(&ep->lock);
    discard_slots(ep);
    np_store32(&ep->phase, NP_PHASE_STOPPED);
    return NP_E_SYSTEM;
}

/* READY is the first event of the first drive, for which the port is readable. */
static void start_driven(np_endpoint *ep) {
    np_mutex_lock(&ep->lock);
    ep->joined = ep->worker_count;
    np_mutex_unlock(&ep->lock);
    np_store32(&ep->ready, 1);
    np_port_wake(&ep->workers[0].port);
}

static np_code start_workers(np_endpoint *ep, np_error *error) {
    for (unsigned i = 0; i < ep->worker_count; i++) {
        np_worker *w = &ep->workers[i];
        np_endpoint_retain(ep);     /* the thread's */
        int os = np_thread_start(&w->thread, np_worker_main, w);
        if (os) {
            np_endpoint_release(ep);
            return undo_start(ep, os, error);
        }
        w->started = true;
    }
    return NP_OK;
}

/* Runs the workers and waits until all are there. */
static np_code run(np_endpoint *ep, np_error *error) {
    np_mutex_lock(&ep->lock);
    ep->starting = true;
    np_mutex_unlock(&ep->lock);
    np_store32(&ep->phase, NP_PHASE_RUNNING);
    np_code code = NP_OK;
    if (ep->config.driven)
        start_driven(ep);
    else
        code = start_workers(ep, error);
    np_mutex_lock(&ep->lock);
    while (code == NP_OK && ep->joined < ep->worker_count)
        np_cond_wait(&ep->ended, &ep->lock);
    ep->starting = false;
    np_cond_broadcast(&ep->ended);
    np_mutex_unlock(&ep->lock);
    return code;
}

static bool is_new(np_endpoint *ep, np_error *error) {
    *error = np_error_make(NP_OK, NP_DOING_START);
    return np_load32(&ep->phase) == NP_PHASE_NEW && !ep->workers;
}

np_code np_endpoint_listen(np_endpoint *ep, const char *name, np_error *error) {
    if (!is_new(ep, error))
        return NP_E_STATE;
    np_code code = np_address(name, ep->address, sizeof ep->address, error);
    if (code == NP_OK) {
        np_store32(&ep->addressed, 1);
        code = open_resources(ep, error);
    }
    error->activity = NP_DOING_START;
    if (code != NP_OK)
        return code;
    np_fork_add(ep);
    code = np_accept_start(ep, error);
    error->activity = NP_DOING_START;
    if (code != NP_OK) {
        discard_slots(ep);
        return code;
    }
    return run(ep, error);
}

np_code np_endpoint_open(np_endpoint *ep, np_error *error) {
    if (!is_new(ep, error))
        return NP_E_STATE;
    np_code code = open_resources(ep, error);
    error->activity = NP_DOING_START;
    if (code != NP_OK)
        return code;
    np_fork_add(ep);
    return run(ep, error);
}

/* ---- stopping ---------------------------------------------------------- */

void np_endpoint_stop_listening(np_endpoint *ep) {
    if (np_endpoint_is_running(ep))
        np_accept_stop(ep);
}

void np_endpoint_stop_begin(np_endpoint *ep) {
    if (np_load32(&ep->forked) || !np_cas32(&ep->phase, NP_PHASE_RUNNING, NP_PHASE_STOPPING))
        return;
    np_accept_stop(ep);
    np_mutex_lock(&ep->lock);
    np_cond_broadcast(&ep->ended);
    np_mutex_unlock(&ep->lock);
    for (unsigned i = 0; i < ep->worker_count; i++) {
        np_store32(&ep->workers[i].stop_posted, 1);
        np_worker_wake(&ep->workers[i]);
    }
}

void np_endpoint_worker_drained(np_worker *worker) {
    np_endpoint *ep = worker->endpoint;
    np_mutex_lock(&ep->lock);
    np_store32(&worker->drained, 1);
    if (++ep->drained_count == ep->worker_count) {
        np_store32(&ep->phase, NP_PHASE_STOPPED);
        np_signal_set(&ep->quit_signal);
    }
    np_cond_broadcast(&ep->ended);
    np_mutex_unlock(&ep->lock);
}

/* ---- asking ------------------------------------------------------------ */

np_worker *np_endpoint_pick_locked(np_endpoint *ep) {
    np_worker *best = &ep->workers[0];
    for (unsigned i = 1; i < ep->worker_count; i++) {
        np_worker *w = &ep->workers[i];
        if (w->live < best->live || (w->live == best->live && w->armed < best->armed))
            best = w;
    }
    return best;
}

bool np_endpoint_is_running(const np_endpoint *ep) {
    return np_load32(&ep->phase) == NP_PHASE_RUNNING && !np_load32(&ep->forked);
}

bool np_endpoint_has_stopped(const np_endpoint *ep) {
    uint32_t phase = np_load32(&ep->phase);
    return phase == NP_PHASE_NEW || phase == NP_PHASE_STOPPED;
}

bool np_endpoint_is_forked(const np_endpoint *ep) { return np_load32(&ep->forked); }

void np_endpoint_want_sent(np_endpoint *ep, bool want) { np_store32(&ep->want_sent, want); }

const char *np_endpoint_address(const np_endpoint *ep) {
    return np_load32(&ep->addressed) ? ep->address : "";
}

intptr_t np_endpoint_waitable(np_endpoint *ep) {
    if (np_load32(&ep->forked))
        return -1;
    np_mutex_lock(&ep->lock);
    bool open = ep->config.marshalled && !ep->closed && ep->worker_count;
    intptr_t waitable = !open               ? -1
                        : ep->config.driven ? np_port_waitable(&ep->workers[0].port)
                                            : np_signal_waitable(&ep->backlog.signal);
    np_mutex_unlock(&ep->lock);
    return waitable;
}

/* References to the open connections, *count of them; NULL: no memory. */
static np_connection **snapshot(np_endpoint *ep, size_t *count) {
    size_t n = 0;
    np_mutex_lock(&ep->lock);
    np_connection **all = malloc((ep->connection_count + 1) * sizeof *all);
    for (np_node *at = ep->connections.next; all && at != &ep->connections; at = at->next) {
        np_connection *c = NP_ENTRY(at, np_connection, registry);
        if (np_load32(&c->visible) != NP_STATE_OPEN)
            continue;
        np_connection_retain(c);
        all[n++] = c;
    }
    np_mutex_unlock(&ep->lock);
    *count = n;
    return all;
}

int64_t np_endpoint_broadcast(np_endpoint *ep, np_buffer *buffer, void *cookie,
                              void (*take)(void *cookie), void (*drop)(void *cookie)) {
    if (!np_endpoint_is_running(ep))
        return 0;
    size_t count;
    int64_t accepted = 0;
    np_connection **all = snapshot(ep, &count);
    if (!all)
        return -1;
    for (size_t i = 0; i < count; i++) {
        np_error error;
        if (cookie)
            take(cookie);
        np_code code = np_connection_write(all[i], buffer->data, buffer->size, buffer, cookie,
                                           &error);
        error.activity = NP_DOING_BROADCAST;
        if (code == NP_OK)
            accepted++;
        else if ((code == NP_E_CLOSED || !np_connection_refused(all[i], error, cookie)) && cookie)
            drop(cookie);
        np_connection_release(all[i]);
    }
    free(all);
    return accepted;
}

void np_endpoint_stats(np_endpoint *ep, np_stats *out) {
    *out = (np_stats){.connections_total = np_load64(&ep->connections_total)};
    if (np_load32(&ep->forked))
        return;
    np_mutex_lock(&ep->lock);
    for (unsigned i = 0; i < ep->worker_count; i++) {
        np_worker *w = &ep->workers[i];
        out->messages_in += np_load64(&w->messages_in);
        out->messages_out += np_load64(&w->messages_out);
        out->bytes_in += np_load64(&w->bytes_in);
        out->bytes_out += np_load64(&w->bytes_out);
        out->errors += np_load64(&w->errors);
    }
    out->connections = ep->connection_count - ep->greeting_count;
    for (np_node *n = ep->connections.next; n != &ep->connections; n = n->next)
        out->queued_bytes += np_connection_pending(NP_ENTRY(n, np_connection, registry));
    np_mutex_unlock(&ep->lock);
    np_mutex_lock(&ep->backlog.lock);
    out->queued_events = ep->backlog.count;
    np_mutex_unlock(&ep->backlog.lock);
}
