/* A connection's life: states, failures and the close protocol, on the thread
 * that is the connection's poller.  What other threads call is in
 * connection_calls.c.  The model's connection.pml has the same functions. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static void set_state(np_connection *c, np_state state) {
    c->state = state;
    np_store32(&c->visible, state);
}

np_connection *np_connection_new(np_endpoint *endpoint, np_worker *worker, const np_link *link) {
    np_connection *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    np_store32(&c->refs, 1);
    c->endpoint = endpoint;
    c->worker = worker;
    c->link = *link;
    c->read_op = (np_operation){.kind = NP_OP_READ, .owner = c};
    c->write_op = (np_operation){.kind = NP_OP_WRITE, .owner = c};
    c->held_tail = &c->held;
    c->reads_tail = &c->reads;
    np_list_init(&c->registry);
    np_list_init(&c->timer.node);
    np_mutex_init(&c->lock);
    set_state(c, NP_STATE_OPENING);
    np_endpoint_retain(endpoint);
    return c;
}

void np_connection_note(np_connection *c, np_error error) {
    np_mutex_lock(&c->lock);
    if (!c->error.code)
        c->error = error;
    np_mutex_unlock(&c->lock);
}

void np_connection_record(np_connection *c, np_batch *batch, np_error error) {
    np_connection_note(c, error);
    np_batch_error(batch, c, error, NULL);
}

static void linger_over(np_timer *timer, np_batch *batch) {
    np_connection *c = NP_ENTRY(timer, np_connection, timer);
    np_error error = np_error_make(NP_E_TIMEOUT, NP_DOING_WRITE);
    error.value = np_load64(&c->pending);
    if (!error.value && np_load64(&c->backlog)) {
        /* It is the host that takes its time. */
        np_timer_set(c->worker, &c->timer, NP_LINGER_NS);
        return;
    }
    error.limit = NP_LINGER_NS / 1000000000;
    if (error.value)    /* else it only waited for answers, and there are none */
        np_connection_record(c, batch, error);
    np_connection_abort(c, batch);
}

/* Ends reading; what was written still goes out. */
static void begin_drain(np_connection *c, np_batch *batch, bool close_writes) {
    if (close_writes) {
        np_mutex_lock(&c->lock);
        c->write_closed = true;
        np_mutex_unlock(&c->lock);
    }
    np_batch_touch(batch, c);
    if (c->state >= NP_STATE_DRAINING)
        return;
    set_state(c, NP_STATE_DRAINING);
    c->timer.fire = linger_over;
    np_timer_set(c->worker, &c->timer, NP_LINGER_NS);
}

/* What can go out without waiting still does; then nothing starts any more. */
static void cancel_operations(np_connection *c) {
    np_mutex_lock(&c->lock);
    np_outbound_flush_locked(c, &c->worker->chunks);
    c->write_closed = true;
    c->aborted = true;
    if (c->linked && (c->reading || c->writing))
        np_link_cancel(&c->link);
    np_mutex_unlock(&c->lock);
}

void np_connection_abort(np_connection *c, np_batch *batch) {
    np_batch_touch(batch, c);
    if (c->state >= NP_STATE_ABORTING)
        return;
    set_state(c, NP_STATE_ABORTING);
    np_timer_clear(&c->timer);
    cancel_operations(c);
    if (c->client)
        np_client_cancel(c);
}

static void fail(np_connection *c, np_batch *batch, np_error error) {
    np_connection_record(c, batch, error);
    np_connection_abort(c, batch);
}

void np_connection_open(np_connection *c, np_batch *batch) {
    np_endpoint *ep = c->endpoint;
    if (c->state != NP_STATE_OPENING)   /* a stop was faster: it may be CLOSED */
        return;
    np_batch_touch(batch, c);
    np_error error = {.activity = NP_DOING_ACCEPT};
    np_code code = np_link_check_peer(&c->link, &ep->config, ep->address, &error);
    if (code == NP_OK)
        code = np_link_attach(&c->link, &c->worker->port, &ep->config, &error);
    if (code != NP_OK) {
        error.code = code;
        error.activity = NP_DOING_ACCEPT;
        np_batch_error(batch, NULL, error, NULL);
        set_state(c, NP_STATE_ABORTING);
        return;
    }
    np_connection_opened(c, batch);
}

/* False: it was closed meanwhile, and ends. */
static bool enter_state(np_connection *c, np_batch *batch, np_state state) {
    np_mutex_lock(&c->lock);
    bool closed = c->close_asked;
    if (!closed) {
        c->linked = true;
        /* With the link, not before: nothing else would send it. */
        c->write_closed = state != NP_STATE_OPEN;
        set_state(c, state);
    }
    np_mutex_unlock(&c->lock);
    if (closed)
        np_connection_abort(c, batch);
    return !closed;
}

void np_connection_opened(np_connection *c, np_batch *batch) {
    if (!c->greeting)
        np_connection_established(c, batch);
    else if (enter_state(c, batch, NP_STATE_GREETING))
        np_greeting_begin(c, batch);
}

void np_connection_established(np_connection *c, np_batch *batch) {
    np_batch_touch(batch, c);
    if (!enter_state(c, batch, NP_STATE_OPEN))
        return;
    c->connected = true;
    if (c->client)
        np_client_established(c);
    np_add64_relaxed(&c->endpoint->connections_total, 1);
    np_batch_add(batch, NP_EVENT_CONNECTED, c);
}

/* The peer closed, or died: between messages that is an orderly end. */
static void peer_left(np_connection *c, np_batch *batch) {
    c->peer_gone = true;
    if (!np_inbound_is_partial(c)) {
        if (c->endpoint->config.keep_ended && !c->write_ended)
            np_batch_add(batch, NP_EVENT_END, c);
        else
            begin_drain(c, batch, false);
        return;
    }
    np_error error = np_error_make(NP_E_RESET, NP_DOING_READ);
    error.value = np_inbound_partial_size(c);
    error.limit = c->header_size ? 0 : c->expected;
    fail(c, batch, error);
}

void np_connection_on_read(np_connection *c, np_batch *batch, const np_completion *done) {
    c->reading = false;
    np_batch_touch(batch, c);
    if (c->state == NP_STATE_GREETING) {
        np_greeting_on_read(c, batch, done);
        return;
    }
    if (c->state != NP_STATE_OPEN) {
        c->peer_gone |= done->code == NP_E_EOF || done->code == NP_E_RESET;
        return;
    }
    np_error error = {.activity = NP_DOING_READ, .os = done->os};
    error.code = done->code;
    if (done->code == NP_OK)
        error.code = np_inbound_feed(c, batch, done, &error);
    if (error.code == NP_E_EOF || error.code == NP_E_RESET)
        peer_left(c, batch);
    else if (error.code != NP_OK && error.code != NP_E_CANCELED)
        fail(c, batch, error);
}

void np_connection_on_write(np_connection *c, np_batch *batch, const np_completion *done) {
    if (c->greeting)
        np_greeting_on_write(c, batch, done);
    else
        np_outbound_completed(c, done);
    np_batch_touch(batch, c);
}

/* Nothing more can be written.  What the peer sent before is still read. */
static void write_ended(np_connection *c, np_batch *batch) {
    if (c->write_ended || c->state == NP_STATE_CLOSED)
        return;
    c->write_ended = true;
    np_mutex_lock(&c->lock);
    np_error error = c->write_error;
    if (c->linked)
        np_link_end_writes(&c->link);
    np_mutex_unlock(&c->lock);
    np_connection_record(c, batch, error);
    np_outbound_fail_all(c, batch, error);
    np_store32(&c->visible, NP_STATE_DRAINING);
    bool may_read_rest = error.code == NP_E_BROKEN || error.code == NP_E_RESET;
    if (c->state != NP_STATE_OPEN || !may_read_rest || c->peer_gone)
        np_connection_abort(c, batch);
}

static void report_refusals(np_connection *c, np_batch *batch) {
    np_mutex_lock(&c->lock);
    np_refusal *r = c->refusals;
    bool lost = c->refusal_lost;
    c->refusals = NULL;
    c->refusal_lost = false;
    np_mutex_unlock(&c->lock);
    if (lost)
        np_batch_error(batch, c, np_error_make(NP_E_MEMORY, NP_DOING_BROADCAST), NULL);
    while (r) {
        np_refusal *next = r->next;
        np_batch_error(batch, c, r->error, r->cookie);
        free(r);
        r = next;
    }
}

void np_connection_on_requests(np_connection *c, np_batch *batch, uint32_t requests) {
    if (c->state == NP_STATE_DIALING) {     /* all others are of the life before */
        np_client_on_requests(c, batch, requests);
        return;
    }
    if (requests & NP_REQUEST_OPEN)
        np_connection_open(c, batch);
    if (c->state == NP_STATE_CLOSED)
        return;
    if (requests & NP_REQUEST_REFUSED)
        report_refusals(c, batch);
    if (requests & NP_REQUEST_SENT)
        np_outbound_report(c, batch);
    if (requests & NP_REQUEST_WRITE_END)
        write_ended(c, batch);
    if (requests & NP_REQUEST_DRAINED && c->state == NP_STATE_OPEN && !c->write_ended)
        np_batch_add(batch, NP_EVENT_DRAINED, c);
    if (requests & NP_REQUEST_READ && c->state == NP_STATE_OPEN)
        np_inbound_serve_reads(c, batch);
    if (requests & NP_REQUEST_CROWDED)
        np_greeting_crowded(c, batch);
    if (requests & NP_REQUEST_CLOSE && c->state == NP_STATE_GREETING)
        np_connection_abort(c, batch);
    else if (requests & NP_REQUEST_CLOSE)
        begin_drain(c, batch, true);
    np_batch_touch(batch, c);
}

/* ---- pumping ----------------------------------------------------------- */

/* A peer that does not read what it is sent is not read from either.  A client
 * reads on: its server does the same, and they would wait for each other. */
static bool is_choked(const np_connection *c) {
    uint64_t high = c->endpoint->config.write_high_water;
    return high && !c->client && np_load64(&c->pending) > high;
}

static bool may_read(const np_connection *c) {
    const np_config *config = &c->endpoint->config;
    if (c->reading || c->wanted_capacity || c->peer_gone || np_load32(&c->paused) || is_choked(c))
        return false;
    if (np_load64(&c->backlog) > NP_BACKLOG_LIMIT)
        return false;
    /* One message ahead of read(), so that a peer that leaves is noticed. */
    return config->continuous_read || !c->held;
}

static void read_on(np_connection *c) {
    if (!may_read(c))
        return;
    size_t capacity = 0;
    uint8_t *buffer = np_inbound_target(c, &capacity);
    c->reading = true;
    np_link_read(&c->link, &c->read_op, buffer, capacity);
}

/* Cookies of read()s that get no message go back to the host. */
static void end_reads(np_connection *c, np_batch *batch) {
    np_mutex_lock(&c->lock);
    np_read_request *r = c->reads;
    c->reads = NULL;
    c->reads_tail = &c->reads;
    np_mutex_unlock(&c->lock);
    while (r) {
        np_read_request *next = r->next;
        np_error error = c->error;
        if (!error.code)
            error.code = c->peer_gone ? NP_E_EOF : NP_E_CANCELED;
        error.activity = NP_DOING_READ;
        if (r->cookie)
            np_batch_error(batch, c, error, r->cookie);
        free(r);
        r = next;
    }
}

/* An event that keeps the connection until it is delivered. */
static void add_last_event(np_connection *c, np_batch *batch, np_event_kind kind) {
    np_connection_retain(c);
    np_batch_add(batch, kind, c)->u.error = c->error;
    batch->owns = true;
}

/* No operation is outstanding: the end.  The order of the last events is
 * SENT, ERROR, DISCONNECTED. */
static void finish(np_connection *c, np_batch *batch) {
    np_timer_clear(&c->timer);
    np_mutex_lock(&c->lock);
    c->write_closed = true;
    c->linked = false;
    np_mutex_unlock(&c->lock);
    report_refusals(c, batch);
    np_outbound_report(c, batch);
    uint64_t unsent = np_load64(&c->pending);
    if (unsent && c->peer_gone && !c->error.code) {
        np_error error = np_error_make(NP_E_BROKEN, NP_DOING_WRITE);
        error.value = unsent;
        np_connection_record(c, batch, error);
    }
    np_error left = c->error.code ? c->error : np_error_make(NP_E_CANCELED, NP_DOING_WRITE);
    left.activity = NP_DOING_WRITE;
    np_outbound_fail_all(c, batch, left);
    np_inbound_clear(c);
    end_reads(c, batch);
    np_mutex_lock(&c->lock);
    bool again = c->client && np_client_goes_on_locked(c);
    set_state(c, again ? NP_STATE_DIALING : NP_STATE_CLOSED);
    np_mutex_unlock(&c->lock);
    if (c->client)
        np_client_ended(c, again);
    else
        np_accept_reuse(c, batch);
    if (c->connected)
        add_last_event(c, batch, NP_EVENT_DISCONNECTED);
    c->connected = false;
    if (again)
        return;
    if (c->client)
        add_last_event(c, batch, NP_EVENT_ENDED);
    c->doomed_next = batch->doomed;
    batch->doomed = c;
}

static bool outbox_empty(np_connection *c) {
    np_mutex_lock(&c->lock);
    bool empty = c->out.count == 0 && !c->writing && !c->dirty;
    np_mutex_unlock(&c->lock);
    return empty;
}

static bool is_idle(np_connection *c) {
    np_mutex_lock(&c->lock);
    bool idle = !c->reading && !c->writing;
    np_mutex_unlock(&c->lock);
    return idle && !(c->client && c->client->outstanding);
}

void np_connection_pump(np_connection *c, np_batch *batch) {
    if (c->state == NP_STATE_OPEN) {
        read_on(c);
        if (c->endpoint->config.message_timeout_ns)
            np_inbound_watch(c);
    } else if (c->state == NP_STATE_GREETING) {
        np_greeting_pump(c, batch);     /* what comes of it is the next round's */
        return;
    } else if (c->state == NP_STATE_DRAINING) {
        /* Handlers that have yet to see the peer's last messages may answer. */
        bool answered = np_load64(&c->backlog) == 0 || !c->peer_gone;
        if (answered && outbox_empty(c)) {
            set_state(c, NP_STATE_ABORTING);
            np_timer_clear(&c->timer);
            cancel_operations(c);
        }
    }
    if (c->state == NP_STATE_ABORTING && is_idle(c))
        finish(c, batch);
}
