/* Batches to the host.  Order of a batch's end: deliver, flush what the host
 * wrote, then pump every connection the batch touched, so that reading goes on
 * only after it is known how much waits to go out.  It is the model's `deliver`. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum {
    BACKLOG_COST = 64,              /* what an event counts beside its bytes */
    BACKLOG_CHUNK = 256             /* events delivered under one hold of the host's lock */
};

/* ---- trash ------------------------------------------------------------- */

void np_delivery_trash(np_endpoint *ep, np_buffer *buffer) {
    if (!buffer->owner) {
        np_buffer_free(buffer);
        return;
    }
    np_mutex_lock(&ep->trash_lock);
    buffer->next = ep->trash;
    ep->trash = buffer;
    np_store32(&ep->trashed, 1);
    np_mutex_unlock(&ep->trash_lock);
}

void np_endpoint_discard(np_endpoint *ep) {
    if (!np_load32(&ep->trashed) || np_load32(&ep->forked))
        return;
    np_mutex_lock(&ep->trash_lock);
    np_buffer *b = ep->trash;
    ep->trash = NULL;
    np_store32(&ep->trashed, 0);
    np_mutex_unlock(&ep->trash_lock);
    while (b) {
        np_buffer *next = b->next;
        ep->host.discard(ep->host.user, b);
        b = next;
    }
}

/* ---- what follows from delivery ---------------------------------------- */

static void release_event(np_endpoint *ep, np_event *e) {
    if (e->kind == NP_EVENT_MESSAGE && e->u.message.buffer) {
        if (np_buffer_drop(e->u.message.buffer))
            np_delivery_trash(ep, e->u.message.buffer);
    } else if (e->kind == NP_EVENT_DISCONNECTED) {
        if (e->connection->client)
            np_client_delivered(e->connection);
        np_connection_release(e->connection);
    } else if (e->kind == NP_EVENT_ENDED) {
        np_connection_release(e->connection);
    }
}

static void release_events(np_endpoint *ep, np_event *events, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (events[i].kind == NP_EVENT_MESSAGE || events[i].kind >= NP_EVENT_DISCONNECTED)
            release_event(ep, &events[i]);
}

static void flush_dirty(np_batch *batch) {
    np_connection *c = batch->dirty;
    batch->dirty = NULL;
    while (c) {
        np_connection *next = c->dirty_next;
        np_mutex_lock(&c->lock);
        c->dirty = false;
        np_outbound_flush_locked(c, batch->chunks);
        np_mutex_unlock(&c->lock);
        c = next;
    }
}

static void pump_touched(np_batch *batch) {
    np_connection *c = batch->touched;
    batch->touched = NULL;
    batch->touched_tail = &batch->touched;
    while (c) {
        np_connection *next = c->touched_next;
        c->touched = false;
        np_connection_pump(c, batch);
        c = next;
    }
    c = batch->doomed;
    batch->doomed = NULL;
    while (c) {
        np_connection *next = c->doomed_next;
        np_connection_release(c);
        c = next;
    }
}

/* ---- inside the host's lock -------------------------------------------- */

static void make_wanted(np_batch *batch) {
    np_endpoint *ep = batch->endpoint;
    np_connection *c = batch->wanted;
    batch->wanted = NULL;
    while (c) {
        np_connection *next = c->wanted_next;
        np_buffer *b = c->arriving ? np_buffer_resize(c->arriving, c->wanted_capacity)
                                   : ep->host.buffer_new(ep->host.user, c->wanted_capacity);
        if (!np_inbound_buffer_ready(c, b) && c->state == NP_STATE_OPEN) {
            np_error error = np_error_make(NP_E_MEMORY, NP_DOING_READ);
            error.value = c->expected;
            np_connection_record(c, batch, error);
            np_connection_abort(c, batch);
        }
        c = next;
    }
}

/* Makes this thread's batch current for as long as host code may run. */
static bool enter(np_batch *batch, void *thread) {
    np_batch_make_current(batch);
    return batch->endpoint->host.enter(batch->endpoint->host.user, thread);
}

static void leave(np_batch *batch, void *thread) {
    batch->endpoint->host.leave(batch->endpoint->host.user, thread);
    np_batch_end_current(batch);
}

static void deliver(np_batch *batch, void *thread, np_event *events, size_t count,
                    np_round *round) {
    const np_host *host = &batch->endpoint->host;
    if (!count)
        return;
    if (!host->deliver(host->user, thread, events, count))
        round->leave = true;
    round->delivered += count;
}

static void empty_trash(np_batch *batch, void *thread) {
    if (!np_load32(&batch->endpoint->trashed))
        return;
    enter(batch, thread);
    np_endpoint_discard(batch->endpoint);
    leave(batch, thread);
}

/* ---- the backlog of a marshalled endpoint ------------------------------ */

static void backlog_reserve_locked(np_backlog *b, size_t count) {
    if (b->first + b->count + count <= b->capacity)
        return;
    if (b->first) {
        memmove(b->events, b->events + b->first, b->count * sizeof *b->events);
        b->first = 0;
    }
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < b->count + count)
        capacity *= 2;
    if (capacity == b->capacity)
        return;
    b->events = np_events_grow(b->events, capacity);
    b->capacity = capacity;
}

/* The message becomes an error that says so, and its connection, which has a gap
 * now, ends.  One that is dialing again is another one already. */
static void lose_message(np_batch *batch, np_event *e) {
    np_connection *c = e->connection;
    np_error error = np_error_make(NP_E_MEMORY, NP_DOING_READ);
    error.value = e->u.message.size;
    e->kind = NP_EVENT_ERROR;
    e->u.error = error;
    np_add64_relaxed(&batch->worker->errors, 1);
    if (!c->connected)
        return;
    np_connection_note(c, error);
    np_connection_abort(c, batch);
}

/* The bytes of a message outlive the batch in a buffer of their own. */
static void own_message(np_batch *batch, np_event *e) {
    if (e->kind != NP_EVENT_MESSAGE || e->u.message.buffer)
        return;
    np_buffer *b = np_buffer_new(e->u.message.size);
    if (!b) {
        lose_message(batch, e);
        return;
    }
    memcpy(b->data, e->u.message.data, e->u.message.size);
    b->size = e->u.message.size;
    e->u.message.buffer = b;
    e->u.message.data = b->data;
}

static uint64_t backlog_cost(const np_event *e) {
    return BACKLOG_COST + (e->kind == NP_EVENT_MESSAGE ? e->u.message.size : 0);
}

static void queue_events(np_batch *batch, void *thread) {
    const np_host *host = &batch->endpoint->host;
    np_backlog *b = &batch->endpoint->backlog;
    if (!batch->count)
        return;
    for (size_t i = 0; i < batch->count; i++) {
        np_event *e = &batch->events[i];
        own_message(batch, e);
        if (e->connection)
            np_add64(&e->connection->backlog, backlog_cost(e));
    }
    np_mutex_lock(&b->lock);
    backlog_reserve_locked(b, batch->count);
    memcpy(b->events + b->first + b->count, batch->events, batch->count * sizeof *batch->events);
    bool first = b->count == 0;
    b->count += batch->count;
    np_store32(&b->any, 1);
    if (!host->waiting)
        np_signal_set(&b->signal);
    np_mutex_unlock(&b->lock);
    if (first && host->waiting) {
        np_batch_make_current(batch);
        host->waiting(host->user, thread);
        np_batch_end_current(batch);
    }
}

size_t np_delivery_backlog_count(np_endpoint *ep) {
    if (!np_load32(&ep->backlog.any))
        return 0;
    np_mutex_lock(&ep->backlog.lock);
    size_t count = ep->backlog.count;
    np_mutex_unlock(&ep->backlog.lock);
    return count;
}

static size_t take_backlog(np_endpoint *ep, np_event *out, size_t max) {
    np_backlog *b = &ep->backlog;
    np_mutex_lock(&b->lock);
    size_t n = b->count < max ? b->count : max;
    if (n) {
        memcpy(out, b->events + b->first, n * sizeof *out);
        b->first += n;
        b->count -= n;
        if (b->count == 0) {
            b->first = 0;
            np_store32(&b->any, 0);
            if (!ep->host.waiting)
                np_signal_clear(&b->signal);
        }
    }
    np_mutex_unlock(&b->lock);
    return n;
}

/* Reading of a connection goes on when there is room again, and one that
 * drains may end when the host has seen all of it. */
static void give_back(np_event *e) {
    uint64_t cost = backlog_cost(e);
    uint64_t before = np_add64(&e->connection->backlog, -cost);
    bool room = before > NP_BACKLOG_LIMIT && before - cost <= NP_BACKLOG_LIMIT;
    if ((room || before == cost) && e->kind != NP_EVENT_DISCONNECTED)
        np_connection_post(e->connection, NP_REQUEST_READ);
}

bool np_delivery_backlog(np_endpoint *ep, void *thread, np_round *round) {
    np_event events[BACKLOG_CHUNK];
    size_t n = take_backlog(ep, events, BACKLOG_CHUNK);
    if (!n)
        return false;
    np_batch batch = {.worker = &ep->workers[0], .endpoint = ep};
    enter(&batch, thread);
    np_endpoint_discard(ep);
    deliver(&batch, thread, events, n, round);
    leave(&batch, thread);
    if (np_load32(&ep->forked))
        return true;
    flush_dirty(&batch);
    for (size_t i = 0; i < n; i++) {
        if (events[i].connection)
            give_back(&events[i]);
        release_event(ep, &events[i]);
    }
    empty_trash(&batch, thread);
    return true;
}

/* ---- a batch ----------------------------------------------------------- */

/* Getting the host's lock took long: whatever came meanwhile joins the batch. */
static void poll_again(np_batch *batch) {
    np_worker *worker = batch->worker;
    size_t count = 0;
    np_port_wait(&worker->port, &batch->arena, worker->completions, NP_COMPLETIONS, 0, &count);
    np_worker_process(worker, batch, count);
}

void np_delivery_run(np_batch *batch, void *thread, bool queue, np_round *round) {
    np_endpoint *ep = batch->endpoint;
    bool must_enter = batch->wanted || batch->due || np_load32(&ep->trashed)
                      || (batch->count && !queue);
    size_t count = batch->count;
    if (must_enter) {
        bool contended = enter(batch, thread);
        if (contended && !queue)
            poll_again(batch);
        np_endpoint_discard(ep);
        make_wanted(batch);
        np_greeting_steps(batch);
        count = batch->count;
        if (!queue)
            deliver(batch, thread, batch->events, count, round);
        if (np_load32(&ep->forked)) {
            leave(batch, thread);
            return;
        }
        if (contended)
            flush_dirty(batch);
        leave(batch, thread);
    }
    if (queue)
        queue_events(batch, thread);
    else if (batch->owns)
        release_events(ep, batch->events, count);
    flush_dirty(batch);
    empty_trash(batch, thread);
    np_batch_reset(batch);
    pump_touched(batch);
}
