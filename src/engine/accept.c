/* Instances that wait for clients: how many, on which worker, and what becomes
 * of one when its client leaves. */
#include <stdlib.h>

#include "internal.h"

/* A failed accept (no descriptors left, say) is tried again after this. */
#define RETRY_NS INT64_C(100000000)

static size_t armed_count(const np_endpoint *ep) {
    size_t n = 0;
    for (unsigned i = 0; i < ep->worker_count; i++)
        n += ep->workers[i].armed;
    return n;
}

static bool room_locked(np_endpoint *ep) {
    size_t armed = armed_count(ep);
    const np_config *config = &ep->config;
    return ep->listening && armed < config->listeners
           && (config->max_instances == 0 || ep->connection_count + armed < config->max_instances)
           && (!np_endpoint_greets(ep) || ep->unproved_count + armed <= config->max_handshakes);
}

/* One that is spare, or a new one; NULL: no memory. */
static np_slot *take_slot(np_endpoint *ep, np_worker *worker) {
    np_slot *slot;
    if (np_list_empty(&ep->spare_slots)) {
        slot = malloc(sizeof *slot);
        if (!slot)
            return NULL;
    } else {
        slot = NP_ENTRY(ep->spare_slots.next, np_slot, node);
        np_list_remove(&slot->node);
    }
    *slot = (np_slot){.worker = worker};
    slot->instance.operation = (np_operation){.kind = NP_OP_ACCEPT, .owner = slot};
    return slot;
}

static void spare_slot(np_endpoint *ep, np_slot *slot) {
    np_list_append(&ep->spare_slots, &slot->node);
}

void np_accept_free(np_endpoint *ep) {
    while (!np_list_empty(&ep->spare_slots)) {
        np_slot *slot = NP_ENTRY(ep->spare_slots.next, np_slot, node);
        np_list_remove(&slot->node);
        free(slot);
    }
}

static void slot_armed(np_endpoint *ep, np_slot *slot) {
    np_list_append(&ep->slots, &slot->node);
    slot->worker->armed++;
}

np_code np_accept_arm_locked(np_endpoint *ep, np_batch *batch, np_error *error) {
    np_code code = NP_OK;
    while (code == NP_OK && room_locked(ep)) {
        np_worker *worker = NP_INSTANCE_BOUND ? np_endpoint_pick_locked(ep) : &ep->workers[0];
        np_slot *slot = take_slot(ep, worker);
        *error = np_error_make(NP_E_MEMORY, NP_DOING_ACCEPT);
        code = slot ? np_listener_arm(&ep->listener, &slot->instance, &worker->port, error)
                    : NP_E_MEMORY;
        if (code == NP_OK)
            slot_armed(ep, slot);
        else if (slot)
            spare_slot(ep, slot);
    }
    if (code != NP_OK && batch) {
        error->code = code;
        error->activity = NP_DOING_ACCEPT;
        np_batch_error(batch, NULL, *error, NULL);
    }
    return code;
}

/* Leaves the listener alone for a while; the endpoint's lock is held. */
static void pause_locked(np_endpoint *ep, np_worker *worker);

static void retry(np_timer *timer, np_batch *batch) {
    np_endpoint *ep = NP_ENTRY(timer, np_endpoint, accept_timer);
    np_error error;
    np_mutex_lock(&ep->lock);
    ep->accept_paused = false;
    if (ep->listening) {
        np_listener_resume(&ep->listener);
        if (np_accept_arm_locked(ep, batch, &error) != NP_OK)
            pause_locked(ep, batch->worker);
    }
    np_mutex_unlock(&ep->lock);
}

static void pause_locked(np_endpoint *ep, np_worker *worker) {
    if (ep->accept_paused || !ep->listening)
        return;
    ep->accept_paused = true;
    np_listener_pause(&ep->listener);
    ep->accept_timer.fire = retry;
    np_timer_set(worker, &ep->accept_timer, RETRY_NS);
}

void np_accept_again_locked(np_endpoint *ep, np_batch *batch) {
    np_error error;
    if (np_accept_arm_locked(ep, batch, &error) != NP_OK)
        pause_locked(ep, batch->worker);
}

np_code np_accept_start(np_endpoint *ep, np_error *error) {
    np_code code = np_listener_open(&ep->listener, &ep->config, ep->address, error);
    if (code != NP_OK)
        return code;
    for (unsigned i = 0; i < ep->worker_count && code == NP_OK; i++)
        code = np_listener_attach(&ep->listener, &ep->workers[i].port, error);
    np_mutex_lock(&ep->lock);
    ep->listening = true;
    if (code == NP_OK)
        code = np_accept_arm_locked(ep, NULL, error);
    np_mutex_unlock(&ep->lock);
    if (code != NP_OK)
        np_accept_stop(ep);
    return code;
}

/* A client is there.  The endpoint's lock is held. */
static np_connection *admit_locked(np_endpoint *ep, np_slot *slot) {
    np_worker *target = NP_INSTANCE_BOUND ? slot->worker : np_endpoint_pick_locked(ep);
    np_connection *c = np_connection_new(ep, target, &slot->instance.link);
    if (!c)
        return NULL;
    if (np_endpoint_greets(ep) && !np_greeting_new_locked(c)) {
        np_connection_release(c);
        return NULL;
    }
    np_list_append(&ep->connections, &c->registry);
    ep->connection_count++;
    target->live++;
    np_greeting_make_room_locked(ep);
    return c;
}

void np_accept_completed(np_worker *worker, np_batch *batch, const np_completion *done) {
    np_slot *slot = done->operation->owner;
    np_worker *bound = slot->worker;
    np_endpoint *ep = worker->endpoint;
    np_connection *c = NULL;
    np_error error = np_error_make(done->code, NP_DOING_ACCEPT);
    error.os = done->os;
    np_mutex_lock(&ep->lock);
    np_list_remove(&slot->node);
    bound->armed--;
    bool listening = ep->listening;
    if (done->code == NP_OK && listening) {
        c = admit_locked(ep, slot);
        error.code = c ? NP_OK : NP_E_MEMORY;
    }
    bool elsewhere = c && c->worker != worker;
    if (elsewhere)      /* its worker may stop and end it before it is posted */
        np_connection_retain(c);
    if (done->code == NP_OK && !c)
        np_link_close(&slot->instance.link);
    spare_slot(ep, slot);
    if (error.code != NP_OK && listening)
        np_batch_error(batch, NULL, error, NULL);
    /* A client that there was no memory for is gone, and the next one may find some. */
    if (done->code != NP_OK && listening)
        pause_locked(ep, worker);
    else
        np_accept_again_locked(ep, batch);
    np_mutex_unlock(&ep->lock);
    if (!listening && bound != worker)
        np_worker_wake(bound);      /* it may have waited for this instance only */
    if (elsewhere) {
        np_connection_post(c, NP_REQUEST_OPEN);
        np_connection_release(c);
    } else if (c) {
        np_connection_open(c, batch);
    }
}

static bool recycle_locked(np_endpoint *ep, np_connection *c) {
    if (!c->peer_gone || !room_locked(ep))
        return false;
    np_slot *slot = take_slot(ep, c->worker);
    if (!slot)
        return false;
    if (!np_link_recycle(&c->link, &ep->listener, &slot->instance, &c->worker->port)) {
        spare_slot(ep, slot);
        return false;
    }
    slot_armed(ep, slot);
    return true;
}

void np_accept_reuse(np_connection *c, np_batch *batch) {
    np_endpoint *ep = c->endpoint;
    np_mutex_lock(&ep->lock);
    np_list_remove(&c->registry);
    np_greeting_end_locked(c);
    ep->connection_count--;
    c->worker->live--;
    bool recycled = recycle_locked(ep, c);
    /* The next instance exists before this one goes: the name stays ours. */
    np_accept_again_locked(ep, batch);
    if (!recycled)
        np_link_close(&c->link);
    np_mutex_unlock(&ep->lock);
}

void np_accept_stop(np_endpoint *ep) {
    np_mutex_lock(&ep->lock);
    if (ep->listening) {
        ep->listening = false;
        np_listener_cancel(&ep->listener, &ep->workers[0].port);
        np_listener_close(&ep->listener);
    }
    np_mutex_unlock(&ep->lock);
}
