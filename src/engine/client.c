/* Connections that this process makes: when to dial, how long to wait for a
 * server, and when to try again.  A connection dials in its state DIALING; once
 * it has a link, connection.c does the rest.
 *
 * A time without connection begins with np_endpoint_connect or with the end of
 * the link.  In it, attempts that find no server or no free instance are
 * repeated until the deadline; then the failure is reported, once, and the
 * connection ends, or goes on trying if it is to reconnect. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Of the first time without connection: a server is expected to come soon. */
#define WAIT_MIN_NS INT64_C(5000000)
#define WAIT_MAX_NS INT64_C(200000000)
/* The longest that one attempt waits for a free instance. */
#define BUSY_WAIT_NS INT64_C(100000000)
/* What an attempt may take whose deadline is near: the last one, and the only
 * one of a timeout of 0. */
#define GRACE_NS INT64_C(1000000000)

/* ---- the next attempt -------------------------------------------------- */

static uint32_t next_random(np_worker *w) {
    if (w->time)
        return w->time->random(w->time->user);
    w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(w->random >> 32);
}

static int64_t time_left(const np_connection *c) {
    int64_t left = c->client->deadline - np_worker_now(c->worker);
    return left > 0 ? left : 0;
}

static void set_deadline(np_connection *c) {
    np_client *k = c->client;
    int64_t now = np_worker_now(c->worker);
    bool limited = k->timeout_ns >= 0 && k->timeout_ns < INT64_MAX - now;
    k->deadline = limited ? now + k->timeout_ns : INT64_MAX;
    k->reported = false;
}

static void expire(np_timer *timer, np_batch *batch) {
    np_client *k = NP_ENTRY(timer, np_connection, timer)->client;
    (void)batch;
    k->expired = true;
    np_dial_cancel(&k->dial);
}

static void dial(np_connection *c) {
    np_client *k = c->client;
    np_endpoint *ep = c->endpoint;
    int64_t left = time_left(c);
    np_mutex_lock(&ep->lock);
    k->outstanding = true;
    np_dial_start(&k->dial, &c->worker->port, &ep->config, k->address,
                  left < BUSY_WAIT_NS ? left : BUSY_WAIT_NS);
    np_mutex_unlock(&ep->lock);
    k->expired = false;
    if (k->deadline == INT64_MAX || k->reported)
        return;
    c->timer.fire = expire;
    np_timer_set(c->worker, &c->timer, left > GRACE_NS ? left : GRACE_NS);
}

static void dial_now(np_timer *timer, np_batch *batch) {
    (void)batch;
    dial(NP_ENTRY(timer, np_connection, timer));
}

static void dial_later(np_connection *c) {
    np_client *k = c->client;
    const np_config *config = &c->endpoint->config;
    uint32_t random = next_random(c->worker);
    int64_t delay;
    if (k->first) {
        delay = np_backoff_next(&k->wait, WAIT_MIN_NS, WAIT_MAX_NS, random);
        if (delay > time_left(c))
            delay = time_left(c);
    } else {
        delay = np_backoff_next(&k->reconnect, config->reconnect_min_ns, config->reconnect_max_ns,
                                random);
    }
    c->timer.fire = dial_now;
    np_timer_set(c->worker, &c->timer, delay);
}

/* ---- what came of it --------------------------------------------------- */

/* A server may come, or become free. */
static bool is_worth_waiting(np_code code) {
    return code == NP_E_NOT_FOUND || code == NP_E_BUSY || code == NP_E_BROKEN;
}

/* Reports a failure where it is time to.  Whether another attempt is due. */
static bool report(np_connection *c, np_batch *batch, np_error error) {
    np_client *k = c->client;
    if (k->reported || (is_worth_waiting(error.code) && time_left(c) > 0))
        return true;
    error.activity = NP_DOING_CONNECT;
    if (is_worth_waiting(error.code))
        error.limit = k->timeout_ns < 0 ? 0 : (uint64_t)k->timeout_ns / 1000000;
    np_connection_record(c, batch, error);
    k->reported = true;
    k->first = false;
    return c->endpoint->config.reconnect;
}

static void failed(np_connection *c, np_batch *batch, np_error error) {
    np_client *k = c->client;
    if (k->expired) {
        error.code = NP_E_TIMEOUT;
        error.value = (uint64_t)k->timeout_ns;
    }
    if (report(c, batch, error))
        dial_later(c);
    else
        np_connection_abort(c, batch);
}

void np_client_refused(np_connection *c, np_batch *batch, np_error error) {
    c->client->retry = report(c, batch, error);
    np_connection_abort(c, batch);
}

/* What a life before this one has left behind.  Its operations have ended, and
 * its messages were cleared away. */
static void renew(np_connection *c) {
    c->peer_gone = c->write_ended = false;
    c->header_size = 0;
    np_mutex_lock(&c->lock);
    c->error = (np_error){0};
    c->aborted = c->above_high = false;
    c->write_error = (np_error){0};
    np_mutex_unlock(&c->lock);
}

static void close_link(np_connection *c) {
    np_endpoint *ep = c->endpoint;
    np_mutex_lock(&ep->lock);
    if (c->client->has_link) {
        c->client->has_link = false;
        np_greeting_end_locked(c);
        ep->connection_count--;
        np_link_close(&c->link);
    }
    np_mutex_unlock(&ep->lock);
}

static void open(np_connection *c, np_batch *batch) {
    np_error error = {0};
    renew(c);
    error.code = np_link_attach(&c->link, &c->worker->port, &c->endpoint->config, &error);
    if (error.code == NP_OK && np_endpoint_greets(c->endpoint) && !c->greeting)
        error.code = NP_E_MEMORY;
    if (error.code != NP_OK) {
        close_link(c);
        failed(c, batch, error);
        return;
    }
    np_connection_opened(c, batch);
}

void np_client_established(np_connection *c) {
    c->client->first = false;
    c->client->opened = np_worker_now(c->worker);
}

void np_client_completed(np_connection *c, np_batch *batch, const np_completion *done) {
    np_client *k = c->client;
    np_endpoint *ep = c->endpoint;
    np_batch_touch(batch, c);
    np_timer_clear(&c->timer);
    np_mutex_lock(&ep->lock);
    k->outstanding = false;
    if (done->code == NP_OK) {
        c->link = k->dial.link;
        np_link_none(&k->dial.link);
        k->has_link = true;
        ep->connection_count++;
        if (np_endpoint_greets(ep))
            np_greeting_new_locked(c);
    }
    np_mutex_unlock(&ep->lock);
    if (c->state != NP_STATE_DIALING)   /* closed or stopped meanwhile */
        return;
    if (done->code == NP_OK) {
        open(c, batch);
        return;
    }
    np_error error = {.code = done->code, .os = done->os};
    error.value = k->dial.value;
    failed(c, batch, error);
}

/* ---- called by connection.c -------------------------------------------- */

void np_client_on_requests(np_connection *c, np_batch *batch, uint32_t requests) {
    if (requests & NP_REQUEST_CLOSE) {
        np_connection_abort(c, batch);
    } else if (requests & NP_REQUEST_OPEN) {
        set_deadline(c);
        dial(c);
    } else if (requests & NP_REQUEST_REDIAL) {
        set_deadline(c);
        dial_later(c);
    }
}

void np_client_cancel(np_connection *c) {
    if (c->client->outstanding)
        np_dial_cancel(&c->client->dial);
}

bool np_client_goes_on_locked(const np_connection *c) {
    return (c->endpoint->config.reconnect || c->client->retry) && !c->close_asked
           && !np_endpoint_is_stopping(c->endpoint);
}

void np_client_ended(np_connection *c, bool again) {
    np_client *k = c->client;
    np_endpoint *ep = c->endpoint;
    /* One that did not last counts as one more failure. */
    if (c->connected && np_worker_now(c->worker) - k->opened >= ep->config.reconnect_max_ns)
        k->reconnect.attempts = 0;
    close_link(c);
    k->retry = false;
    if (again && !c->connected)     /* there is no DISCONNECTED that the host must see first */
        dial_later(c);
    if (again)
        return;
    np_mutex_lock(&ep->lock);
    np_list_remove(&c->registry);
    c->worker->live--;
    np_mutex_unlock(&ep->lock);
}

void np_client_delivered(np_connection *c) {
    if (c->endpoint->config.reconnect)
        np_connection_post(c, NP_REQUEST_REDIAL);
}

/* ---- making ------------------------------------------------------------ */

void np_client_free(np_client *k) {
    if (k)
        free(k->address);
    free(k);
}

static np_client *client_new(np_connection *c, const char *address, int64_t timeout_ns) {
    np_client *k = calloc(1, sizeof *k);
    size_t size = strlen(address) + 1;
    char *copy = malloc(size);
    if (!k || !copy) {
        free(k);
        free(copy);
        return NULL;
    }
    k->address = memcpy(copy, address, size);
    k->timeout_ns = timeout_ns;
    k->first = true;
    np_dial_init(&k->dial, c);
    return k;
}

/* With one reference, the registry's to be. */
static np_connection *connection_new(np_endpoint *ep, const char *address, int64_t timeout_ns) {
    np_link none;
    np_link_none(&none);
    np_connection *c = np_connection_new(ep, NULL, &none);
    if (!c)
        return NULL;
    c->client = client_new(c, address, timeout_ns);
    if (!c->client) {
        np_connection_release(c);
        return NULL;
    }
    c->state = NP_STATE_DIALING;
    np_store32(&c->visible, NP_STATE_DIALING);
    c->write_closed = true;
    return c;
}

/* A stop looks for connections after it has changed the phase: either it finds
 * this one, or this one sees the phase. */
static np_code enlist(np_connection *c) {
    np_endpoint *ep = c->endpoint;
    np_mutex_lock(&ep->lock);
    bool running = np_endpoint_is_running(ep);
    if (running) {
        c->worker = np_endpoint_pick_locked(ep);
        c->worker->live++;
        np_list_append(&ep->connections, &c->registry);
    }
    np_mutex_unlock(&ep->lock);
    return running ? NP_OK : NP_E_STATE;
}

np_code np_endpoint_connect(np_endpoint *ep, const char *name, int64_t timeout_ns, void *user,
                            np_connection **out, np_error *error) {
    char address[NP_ADDRESS_MAX];
    *error = np_error_make(NP_OK, NP_DOING_CONNECT);
    *out = NULL;
    if (np_load32(&ep->forked))
        return NP_E_FORKED;
    np_code code = np_address(name, address, sizeof address, error);
    error->activity = NP_DOING_CONNECT;
    if (code != NP_OK)
        return code;
    np_connection *c = connection_new(ep, address, timeout_ns);
    if (!c)
        return NP_E_MEMORY;
    c->user = user;
    np_connection_retain(c);    /* the caller's */
    code = enlist(c);
    if (code != NP_OK) {
        np_connection_release(c);
        np_connection_release(c);
        return code;
    }
    *out = c;
    np_connection_post(c, NP_REQUEST_OPEN);
    return NP_OK;
}
