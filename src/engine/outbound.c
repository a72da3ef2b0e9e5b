/* Accepted writes on their way to the link: limits, order, what is held and
 * what is copied, and who hears of the end. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { SLICES = 64, SENT_KEPT = 64 };

/* Chained by next; each goes back to the host. */
static void trash_all(np_endpoint *endpoint, np_buffer *released) {
    while (released) {
        np_buffer *next = released->next;
        np_delivery_trash(endpoint, released);
        released = next;
    }
}

/* Reading pauses, and somebody may wait for DRAINED, from here on. */
static void note_high_locked(np_connection *c) {
    uint64_t high = c->endpoint->config.write_high_water;
    if (high && c->out.bytes > high)
        c->above_high = true;
}

/* Posts what follows from a change of the outbox; lock held. */
static void settle_locked(np_connection *c, np_tally whole) {
    const np_config *config = &c->endpoint->config;
    uint32_t requests = 0;
    np_store64(&c->pending, c->out.bytes);
    if (whole.messages) {
        np_add64_relaxed(&c->worker->messages_out, whole.messages);
        np_add64_relaxed(&c->worker->bytes_out, whole.bytes);
    }
    if (c->out.sent_count)
        requests |= NP_REQUEST_SENT;
    if (c->write_error.code)
        requests |= NP_REQUEST_WRITE_END;
    note_high_locked(c);
    if (c->above_high && c->out.bytes <= config->write_high_water / 4) {
        c->above_high = false;
        requests |= NP_REQUEST_DRAINED;
    }
    /* A connection that drains ends when its outbox is empty. */
    if (c->out.count == 0 && np_load32(&c->visible) == NP_STATE_DRAINING)
        requests |= NP_REQUEST_READ;
    if (requests)
        np_connection_post(c, requests);
}

static void write_failed_locked(np_connection *c, np_code code, int os) {
    c->write_error = np_error_make(code, NP_DOING_WRITE);
    c->write_error.os = os;
    c->write_error.value = c->out.bytes;
    c->write_closed = true;
}

void np_outbound_flush_locked(np_connection *c, np_chunk_pool *pool) {
    if (!c->linked || c->aborted || c->write_error.code)
        return;
    if (c->writing) {
        settle_locked(c, (np_tally){0});    /* more waits now */
        return;
    }
    bool one = !NP_LINK_FRAMED;
    np_tally whole = {0};
    np_buffer *released = NULL;
    while (c->out.count) {
        np_slice slices[SLICES];
        size_t n = np_outbox_gather(&c->out, slices, SLICES, one);
        size_t taken = 0;
        int os = 0;
        np_code code = np_link_write(&c->link, &c->write_op, slices, n, &taken, &os);
        if (taken || code == NP_OK)     /* an empty write of a byte stream takes nothing */
            np_outbox_advance(&c->out, pool, taken, false, &released, &whole);
        if (code == NP_PENDING) {
            c->writing = true;
            break;
        }
        if (code != NP_OK) {
            write_failed_locked(c, code, os);
            break;
        }
    }
    settle_locked(c, whole);
    trash_all(c->endpoint, released);
}

void np_outbound_completed(np_connection *c, const np_completion *done) {
    np_buffer *released = NULL;
    np_chunk_pool *pool = &c->worker->chunks;
    np_mutex_lock(&c->lock);
    c->writing = false;
    if (done->code != NP_OK) {
        if (done->code != NP_E_CANCELED && !c->write_error.code)
            write_failed_locked(c, done->code, done->os);
        settle_locked(c, (np_tally){0});
    } else {
        if (NP_LINK_HOLDS_WRITES && c->out.count) {
            np_tally whole = {0};
            np_outbox_advance(&c->out, pool, done->bytes, true, &released, &whole);
            settle_locked(c, whole);
        }
        np_outbound_flush_locked(c, pool);
    }
    np_mutex_unlock(&c->lock);
    trash_all(c->endpoint, released);
}

static np_code refuse(np_code code, np_error *error, uint64_t value, uint64_t limit) {
    *error = np_error_make(code, NP_DOING_WRITE);
    error->value = value;
    error->limit = limit;
    return code;
}

/* Whether so many bytes may wait: always, if one message finds nothing waiting. */
static np_code check_locked(np_connection *c, uint64_t size, np_error *error) {
    const np_config *config = &c->endpoint->config;
    if (c->write_closed)
        return refuse(NP_E_CLOSED, error, size, 0);
    uint64_t limit = config->max_pending_bytes;
    if (c->out.count == 0 && limit < config->max_message_size)
        limit = config->max_message_size;
    if (c->out.bytes + size > limit && (c->out.count || size > limit))
        return refuse(NP_E_FULL, error, size, limit);
    return NP_OK;
}

/* A buffer that holds the message's bytes, or NULL: they are copied to where
 * all small ones are. */
static bool hold(const np_message *m, np_buffer **held) {
    *held = m->hold;
    if (*held) {
        np_buffer_retain(*held);
    } else if (m->size >= NP_HOLD_SIZE) {
        *held = np_buffer_new(m->size);
        if (!*held)
            return false;
        memcpy((*held)->data, m->data, m->size);
        (*held)->size = m->size;
    }
    return true;
}

static np_code add_locked(np_connection *c, np_chunk_pool *pool, const np_message *m, void *cookie,
                          bool report, np_error *error) {
    bool framed = NP_LINK_FRAMED && !c->endpoint->config.byte_mode;
    size_t size = m->size;
    if (!report && !m->hold && size < NP_HOLD_SIZE
        && np_outbox_extend(&c->out, m->data, (uint32_t)size))
        return NP_OK;
    np_buffer *held;
    if (!hold(m, &held))
        return refuse(NP_E_MEMORY, error, size, 0);
    uint8_t header[NP_HEADER_MAX] = {0};
    unsigned header_size = framed ? np_frame_encode(header, size) : 0;
    np_record record = {.cookie = cookie, .held = held, .report = report};
    if (np_outbox_add(&c->out, pool, &record, header, header_size, m->data, size, NP_LINK_FRAMED))
        return NP_OK;
    if (held && np_buffer_drop(held))
        np_delivery_trash(c->endpoint, held);
    return refuse(NP_E_MEMORY, error, size, 0);
}

static void release_held(np_connection *c, np_message *messages, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (messages[i].hold && np_buffer_drop(messages[i].hold))
            np_delivery_trash(c->endpoint, messages[i].hold);
    free(messages);
}

/* The messages with the large ones held: a copy of the list, or NULL. */
static np_message *hold_large(np_connection *c, const np_message *messages, size_t count) {
    np_message *held = malloc(count * sizeof *held);
    bool done = held != NULL;
    size_t n = 0;
    for (; n < count && done; n++) {
        held[n] = messages[n];
        done = hold(&messages[n], &held[n].hold);
    }
    if (done)
        return held;
    release_held(c, held, held ? n : 0);
    return NULL;
}

/* Everything that may fail is done before the first of them is added. */
static np_code add_many_locked(np_connection *c, np_chunk_pool *pool, const np_message *messages,
                               size_t count, void *cookie, bool report, np_error *error) {
    size_t bytes = 0;
    bool large = false;
    for (size_t i = 0; i < count; i++) {
        bool here = messages[i].size >= NP_HOLD_SIZE;
        large |= here;
        bytes += NP_HEADER_MAX + (here ? 0 : messages[i].size);
    }
    np_message *held = large ? hold_large(c, messages, count) : NULL;
    np_code code = NP_OK;
    if (bytes > NP_MERGED_MAX || (large && !held)
        || !np_outbox_reserve(&c->out, pool, (uint32_t)count, bytes, report))
        code = refuse(NP_E_MEMORY, error, bytes, 0);
    for (size_t i = 0; i < count && code == NP_OK; i++) {
        bool last = i + 1 == count;
        code = add_locked(c, pool, held ? &held[i] : &messages[i], last ? cookie : NULL,
                          last && report, error);
    }
    release_held(c, held, held ? count : 0);
    return code;
}

/* The last of several carries the cookie, and is the one that is reported. */
static np_code add_all_locked(np_connection *c, np_chunk_pool *pool, const np_message *messages,
                              size_t count, void *cookie, np_error *error) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += messages[i].size;
    np_code code = check_locked(c, total, error);
    if (code != NP_OK)
        return code;
    bool report = cookie || np_load32(&c->endpoint->want_sent);
    return count == 1 ? add_locked(c, pool, messages, cookie, report, error)
                      : add_many_locked(c, pool, messages, count, cookie, report, error);
}

/* The batch that this thread delivers has written to the connection. */
static void soil_locked(np_connection *c, np_batch *batch) {
    if (c->dirty)
        return;
    c->dirty = true;
    c->dirty_next = batch->dirty;
    batch->dirty = c;
}

np_code np_outbound_write(np_connection *c, const np_message *messages, size_t count, void *cookie,
                          np_error *error) {
    np_batch *batch = np_current_batch;
    bool in_batch = batch && batch->worker == c->worker;
    np_chunk_pool *pool = in_batch ? batch->chunks : NULL;
    np_mutex_lock(&c->lock);
    np_code code = add_all_locked(c, pool, messages, count, cookie, error);
    if (code == NP_OK) {
        if (in_batch) {
            np_store64(&c->pending, c->out.bytes);
            note_high_locked(c);
            soil_locked(c, batch);
        } else {
            np_outbound_flush_locked(c, pool);
        }
    }
    np_mutex_unlock(&c->lock);
    return code;
}

bool np_connection_append(np_connection *c, const void *data, size_t size) {
    const np_endpoint *ep = c->endpoint;
    np_batch *batch = np_current_batch;
    if (!batch || batch->worker != c->worker || size >= NP_HOLD_SIZE || np_load32(&ep->want_sent)
        || np_load32(&ep->forked))
        return false;
    np_mutex_lock(&c->lock);
    np_outbox *out = &c->out;
    bool done = !c->write_closed && out->bytes + size < ep->append_limit
                && (out->count || np_outbox_begin(out, batch->chunks, size))
                && np_outbox_extend(out, data, (uint32_t)size);
    if (done) {
        np_store64(&c->pending, out->bytes);
        soil_locked(c, batch);
    }
    np_mutex_unlock(&c->lock);
    return done;
}

void np_outbound_report(np_connection *c, np_batch *batch) {
    np_mutex_lock(&c->lock);
    np_outbox *out = &c->out;
    for (size_t i = 0; i < out->sent_count; i++)
        np_batch_add(batch, NP_EVENT_SENT, c)->cookie = out->sent[i];
    out->sent_count = 0;
    /* Records that are still queued rely on their place in the list. */
    if (out->count == 0 && out->sent_capacity > SENT_KEPT) {
        free(out->sent);
        out->sent = NULL;
        out->sent_capacity = 0;
    }
    np_mutex_unlock(&c->lock);
}

void np_outbound_fail_all(np_connection *c, np_batch *batch, np_error error) {
    for (;;) {
        np_mutex_lock(&c->lock);
        if (c->out.count == 0) {
            np_store64(&c->pending, 0);
            np_mutex_unlock(&c->lock);
            return;
        }
        np_record r = np_outbox_pop(&c->out, &c->worker->chunks);
        np_mutex_unlock(&c->lock);
        if (r.held && np_buffer_drop(r.held))
            np_delivery_trash(c->endpoint, r.held);
        if (r.cookie) {
            error.value = r.size;
            np_batch_error(batch, c, error, r.cookie);
        }
    }
}
