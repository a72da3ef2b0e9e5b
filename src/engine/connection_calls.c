/* What any thread may do with a connection: post requests to its poller, and
 * the functions of npipes.h.  In the model such a thread is the process User. */
#include <stdlib.h>

#include "internal.h"

void np_connection_post(np_connection *c, uint32_t requests) {
    uint32_t old = np_or32(&c->requests, requests | NP_REQUEST_QUEUED);
    if (old & NP_REQUEST_QUEUED)
        return;
    np_worker *w = c->worker;
    np_mutex_lock(&w->post_lock);
    bool closed = w->closed;
    if (!closed) {
        np_connection_retain(c);    /* the posted list's */
        c->posted_next = NULL;
        *w->posted_tail = c;
        w->posted_tail = &c->posted_next;
        np_store32(&w->any_posted, 1);
    }
    np_mutex_unlock(&w->post_lock);
    if (!closed)
        np_worker_wake(w);
}

bool np_connection_refused(np_connection *c, np_error error, void *cookie) {
    np_refusal *r = malloc(sizeof *r);
    if (r)
        *r = (np_refusal){.error = error, .cookie = cookie};
    np_mutex_lock(&c->lock);
    bool open = c->linked && !c->aborted;
    if (open && r) {
        r->next = c->refusals;
        c->refusals = r;
    } else if (open) {
        c->refusal_lost = true;
    }
    np_mutex_unlock(&c->lock);
    if (open)
        np_connection_post(c, NP_REQUEST_REFUSED);
    else
        free(r);
    return open && r;
}

void np_connection_retain(np_connection *c) { np_add32(&c->refs, 1); }

void np_connection_release(np_connection *c) {
    if (np_add32(&c->refs, (uint32_t)-1) != 1)
        return;
    np_endpoint *ep = c->endpoint;
    if (!np_load32(&ep->forked)) {
        np_outbox_clear(&c->out);
        np_mutex_destroy(&c->lock);
        np_client_free(c->client);
        free(c->greeting);
        free(c);
    }
    np_endpoint_release(ep);
}

void np_connection_set_user(np_connection *c, void *user) { c->user = user; }

void *np_connection_user(const np_connection *c) { return c->user; }

np_endpoint *np_connection_endpoint(const np_connection *c) { return c->endpoint; }

const char *np_connection_address(const np_connection *c) {
    return c->client ? c->client->address : c->endpoint->address;
}

np_code np_connection_write(np_connection *c, const void *data, size_t size, np_buffer *hold,
                            void *cookie, np_error *error) {
    if (np_load32(&c->endpoint->forked)) {
        *error = np_error_make(NP_E_FORKED, NP_DOING_WRITE);
        return NP_E_FORKED;
    }
    np_message message = {data, size, hold};
    return np_outbound_write(c, &message, 1, cookie, error);
}

np_code np_connection_write_many(np_connection *c, const np_message *messages, size_t count,
                                 void *cookie, np_error *error) {
    if (np_load32(&c->endpoint->forked)) {
        *error = np_error_make(NP_E_FORKED, NP_DOING_WRITE);
        return NP_E_FORKED;
    }
    return np_outbound_write(c, messages, count, cookie, error);
}

np_code np_connection_read(np_connection *c, void *cookie) {
    if (np_load32(&c->endpoint->forked))
        return NP_E_FORKED;
    if (c->endpoint->config.continuous_read)
        return NP_E_STATE;
    np_read_request *r = malloc(sizeof *r);
    if (!r)
        return NP_E_MEMORY;
    *r = (np_read_request){.cookie = cookie};
    np_mutex_lock(&c->lock);
    bool ended = !c->linked || (c->write_closed && !c->write_error.code);
    if (!ended) {
        *c->reads_tail = r;
        c->reads_tail = &r->next;
    }
    np_mutex_unlock(&c->lock);
    if (ended) {
        free(r);
        return NP_E_CLOSED;
    }
    np_connection_post(c, NP_REQUEST_READ);
    return NP_OK;
}

void np_connection_close(np_connection *c) {
    if (np_load32(&c->endpoint->forked))
        return;
    np_mutex_lock(&c->lock);
    bool first = !c->close_asked;
    c->close_asked = c->write_closed = true;
    np_cas32(&c->visible, NP_STATE_DIALING, NP_STATE_ABORTING);
    np_cas32(&c->visible, NP_STATE_GREETING, NP_STATE_ABORTING);
    np_mutex_unlock(&c->lock);
    np_cas32(&c->visible, NP_STATE_OPEN, NP_STATE_DRAINING);
    if (first || np_load32(&c->visible) < NP_STATE_ABORTING)
        np_connection_post(c, NP_REQUEST_CLOSE);
}

void np_connection_pause(np_connection *c, bool paused) {
    if (np_swap32(&c->paused, paused) && !paused && !np_load32(&c->endpoint->forked))
        np_connection_post(c, NP_REQUEST_READ);
}

void np_connection_flush(np_connection *c) {
    np_batch *batch = np_current_batch;
    if (np_load32(&c->endpoint->forked) || !batch || batch->worker != c->worker)
        return;
    np_mutex_lock(&c->lock);
    np_outbound_flush_locked(c, batch->chunks);
    np_mutex_unlock(&c->lock);
}

bool np_connection_is_full(const np_connection *c) {
    uint64_t high = c->endpoint->config.write_high_water;
    return high && np_load64(&c->pending) > high && !np_load32(&c->endpoint->forked);
}

np_error np_connection_failure(const np_connection *connection) {
    np_connection *c = (np_connection *)(uintptr_t)connection;
    if (np_load32(&c->endpoint->forked))
        return (np_error){0};
    np_mutex_lock(&c->lock);
    np_error error = c->error;
    np_mutex_unlock(&c->lock);
    return error;
}

bool np_connection_is_open(const np_connection *c) {
    return np_load32(&c->visible) == NP_STATE_OPEN && !np_load32(&c->endpoint->forked);
}

bool np_connection_is_opening(const np_connection *c) {
    return np_load32(&c->visible) < NP_STATE_OPEN && !np_load32(&c->endpoint->forked);
}

uint64_t np_connection_pending(const np_connection *connection) {
    np_connection *c = (np_connection *)(uintptr_t)connection;
    if (np_load32(&c->endpoint->forked))
        return 0;
    np_mutex_lock(&c->lock);
    uint64_t bytes = c->out.bytes;
    np_mutex_unlock(&c->lock);
    return bytes;
}

intptr_t np_connection_handle(const np_connection *connection) {
    np_connection *c = (np_connection *)(uintptr_t)connection;
    if (np_load32(&c->endpoint->forked))
        return 0;
    np_mutex_lock(&c->lock);
    intptr_t handle = c->linked ? np_link_handle(&c->link) : 0;
    np_mutex_unlock(&c->lock);
    return handle;
}

np_code np_connection_peer(np_connection *c, np_peer *out) {
    if (np_load32(&c->endpoint->forked))
        return NP_E_FORKED;
    np_mutex_lock(&c->lock);
    bool linked = c->linked;
    if (linked)
        np_link_peer(&c->link, out);
    np_mutex_unlock(&c->lock);
    if (linked)
        np_peer_look_up(out);
    return linked ? NP_OK : NP_E_CLOSED;
}
