/* Connections that have a link and have yet to prove the key: state GREETING.
 * What is said is handshake.c's; here are the bytes, on the connection's poller
 * and past inbound and outbound, so that nothing of them is the application's.
 * Reads take no more than the message that is due, so what a peer sends right
 * after the handshake is there for inbound.
 *
 * A step of the handshake is the host's, under its lock: delivery takes those of
 * a batch together.  Then the pump sends what came of it, and goes on.
 *
 * Clients of a server are counted: see crowding. */
#include <stdlib.h>

#include "internal.h"

enum { HOST_FAILURES = 100 };       /* so often the host is asked again */

/* Accepted but not open, or refused, it is no connection towards the host. */
static void report(np_connection *c, np_batch *batch, np_error error) {
    error.activity = c->client ? NP_DOING_CONNECT : NP_DOING_ACCEPT;
    if (c->client) {
        np_client_refused(c, batch, error);
        return;
    }
    np_batch_error(batch, NULL, error, NULL);
    np_connection_abort(c, batch);
}

static void fail(np_connection *c, np_batch *batch, np_auth_reason reason, uint64_t limit) {
    np_error error = {.code = NP_E_AUTH, .value = reason, .limit = limit};
    /* To a client that is as if the server had no room yet. */
    if (c->client && reason == NP_AUTH_LEFT)
        error = (np_error){.code = NP_E_BROKEN};
    report(c, batch, error);
}

/* ---- life -------------------------------------------------------------- */

bool np_greeting_new_locked(np_connection *c) {
    np_greeting *g = calloc(1, sizeof *g);
    if (!g)
        return false;
    g->connection = c;
    g->begun = np_worker_now(c->worker);
    g->deadline = g->begun + NP_HANDSHAKE_NS;
    np_handshake_init(&g->shake, !c->client);
    np_list_init(&g->node);
    if (!c->client) {
        np_list_append(&c->endpoint->unproved, &g->node);
        c->endpoint->unproved_count++;
    }
    c->endpoint->greeting_count++;
    c->greeting = g;
    return true;
}

static bool is_unproved_locked(const np_greeting *g) { return !np_list_empty(&g->node); }

static void proved_locked(np_connection *c) {
    if (!is_unproved_locked(c->greeting))
        return;
    np_list_remove(&c->greeting->node);
    c->endpoint->unproved_count--;
}

void np_greeting_end_locked(np_connection *c) {
    if (!c->greeting)
        return;
    proved_locked(c);
    c->endpoint->greeting_count--;
    free(c->greeting);
    c->greeting = NULL;
}

/* ---- crowding ---------------------------------------------------------- */

/* One more than max_handshakes may come: it tells that another waits.  Of those
 * that have not proved the key the oldest then makes room, unless it has had no
 * time yet: clients that come in a crowd, and mean it, are soon through. */

bool np_greeting_is_crowded_locked(const np_endpoint *ep) {
    return ep->unproved_count > ep->config.max_handshakes;
}

/* A client has come.  Endpoint's lock held. */
void np_greeting_make_room_locked(np_endpoint *ep) {
    if (!np_greeting_is_crowded_locked(ep))
        return;
    np_greeting *oldest = NP_ENTRY(ep->unproved.next, np_greeting, node);
    np_connection *c = oldest->connection;
    if (np_worker_now(c->worker) - oldest->begun >= NP_HANDSHAKE_GRACE_NS)
        np_connection_post(c, NP_REQUEST_CROWDED);
}

static bool makes_room(np_connection *c) {
    np_endpoint *ep = c->endpoint;
    np_mutex_lock(&ep->lock);
    bool makes = np_greeting_is_crowded_locked(ep) && ep->unproved.next == &c->greeting->node;
    np_mutex_unlock(&ep->lock);
    return makes;
}

void np_greeting_crowded(np_connection *c, np_batch *batch) {
    if (c->state == NP_STATE_GREETING && makes_room(c))
        fail(c, batch, NP_AUTH_CROWDED, c->endpoint->config.max_handshakes);
}

static void tick(np_timer *timer, np_batch *batch);

static void set_timer(np_connection *c) {
    int64_t left = c->greeting->deadline - np_worker_now(c->worker);
    if ((!c->client && left > NP_HANDSHAKE_GRACE_NS) || left <= 0)
        left = NP_HANDSHAKE_GRACE_NS;
    c->timer.fire = tick;
    np_timer_set(c->worker, &c->timer, left);
}

static void tick(np_timer *timer, np_batch *batch) {
    np_connection *c = NP_ENTRY(timer, np_connection, timer);
    if (np_worker_now(c->worker) >= c->greeting->deadline && !c->greeting->shake.due)
        fail(c, batch, NP_AUTH_SLOW, NP_HANDSHAKE_NS / 1000000000);
    else if (makes_room(c))
        np_greeting_crowded(c, batch);
    else
        set_timer(c);
}

/* ---- bytes ------------------------------------------------------------- */

static void want_step(np_greeting *g, np_batch *batch) {
    if (g->listed)
        return;
    g->listed = true;
    g->due_next = batch->due;
    batch->due = g;
}

void np_greeting_begin(np_connection *c, np_batch *batch) {
    np_batch_touch(batch, c);
    set_timer(c);
}

void np_greeting_on_read(np_connection *c, np_batch *batch, const np_completion *done) {
    np_error error = {0};
    if (done->code == NP_E_CANCELED)
        return;
    if (done->code != NP_OK) {
        c->peer_gone = true;
        fail(c, batch, NP_AUTH_LEFT, 0);
    } else if (np_handshake_received(&c->greeting->shake, done->bytes, done->left, &error)
               != NP_OK) {
        report(c, batch, error);
    } else if (c->greeting->shake.due && !c->writing) {
        want_step(c->greeting, batch);
    }
}

void np_greeting_on_write(np_connection *c, np_batch *batch, const np_completion *done) {
    np_mutex_lock(&c->lock);
    c->writing = false;
    np_mutex_unlock(&c->lock);
    if (c->state != NP_STATE_GREETING)
        return;
    if (done->code != NP_OK && done->code != NP_E_CANCELED)
        fail(c, batch, NP_AUTH_LEFT, 0);
    else if (NP_LINK_HOLDS_WRITES)
        np_handshake_sent(&c->greeting->shake, done->bytes);
}

/* NP_OK: all went out; NP_PENDING: a write is outstanding. */
static np_code send_rest(np_connection *c) {
    np_handshake *shake = &c->greeting->shake;
    np_code code = NP_OK;
    np_mutex_lock(&c->lock);
    for (;;) {
        np_slice slice;
        slice.data = np_handshake_unsent(shake, &slice.size);
        if (c->writing)
            code = NP_PENDING;
        if (!slice.data || code != NP_OK)
            break;
        size_t taken = 0;
        int os = 0;
        code = np_link_write(&c->link, &c->write_op, &slice, 1, &taken, &os);
        np_handshake_sent(shake, taken);
        c->writing = code == NP_PENDING;
    }
    np_mutex_unlock(&c->lock);
    return code;
}

/* ---- steps ------------------------------------------------------------- */

static void step_taken(np_greeting *g, np_code code, np_error error) {
    int64_t least = np_worker_now(g->connection->worker) + NP_HANDSHAKE_STEP_NS;
    g->failures = code == NP_E_INTERRUPTED ? g->failures + 1 : 0;
    if (code == NP_E_AUTH)
        g->error = error;
    else if (g->failures == HOST_FAILURES)
        g->error.code = NP_E_MEMORY;
    else if (code == NP_OK && g->deadline < least)
        g->deadline = least;
}

void np_greeting_steps(np_batch *batch) {
    np_greeting *g = batch->due;
    batch->due = NULL;
    while (g) {
        np_greeting *next = g->due_next;
        np_connection *c = g->connection;
        g->listed = false;
        if (c->state == NP_STATE_GREETING) {
            np_error error = {0};
            step_taken(g, np_handshake_step(&g->shake, &c->endpoint->host.secrets, &error), error);
            np_batch_touch(batch, c);
        }
        g = next;
    }
}

/* The client has done its part, and counts no more. */
static void note_proof(np_connection *c, np_batch *batch) {
    np_endpoint *ep = c->endpoint;
    np_mutex_lock(&ep->lock);
    if (is_unproved_locked(c->greeting)) {
        proved_locked(c);
        np_accept_again_locked(ep, batch);
    }
    np_mutex_unlock(&ep->lock);
}

static void succeed(np_connection *c, np_batch *batch) {
    np_timer_clear(&c->timer);
    np_mutex_lock(&c->endpoint->lock);
    np_greeting_end_locked(c);
    np_mutex_unlock(&c->endpoint->lock);
    np_connection_established(c, batch);
}

void np_greeting_pump(np_connection *c, np_batch *batch) {
    np_greeting *g = c->greeting;
    np_code code = send_rest(c);
    if (!c->client && np_handshake_is_proved(&g->shake))
        note_proof(c, batch);
    if (g->error.code) {
        report(c, batch, g->error);
    } else if (code != NP_OK) {
        if (code != NP_PENDING)
            fail(c, batch, NP_AUTH_LEFT, 0);
    } else if (np_handshake_is_done(&g->shake)) {
        succeed(c, batch);
    } else if (g->shake.due) {
        want_step(g, batch);
    } else if (!c->reading) {
        size_t size;
        uint8_t *to = np_handshake_room(&g->shake, &size);
        c->reading = true;
        np_link_read(&c->link, &c->read_op, to, size);
    }
}
