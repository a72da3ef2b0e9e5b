/* Bytes to messages.  A message that came whole is passed on where it lies, in
 * the memory of its batch; one that came in part goes to a buffer of its own,
 * which the rest of it is received into. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static void hold(np_connection *c, np_buffer *b) {
    b->next = NULL;
    *c->held_tail = b;
    c->held_tail = &b->next;
}

static bool take_read(np_connection *c, void **cookie) {
    np_mutex_lock(&c->lock);
    np_read_request *r = c->reads;
    if (r) {
        c->reads = r->next;
        if (!c->reads)
            c->reads_tail = &c->reads;
    }
    np_mutex_unlock(&c->lock);
    if (!r)
        return false;
    *cookie = r->cookie;
    free(r);
    return true;
}

static void add_message(np_connection *c, np_batch *batch, const uint8_t *data, size_t size,
                        np_buffer *buffer, void *cookie) {
    np_event *e = np_batch_add(batch, NP_EVENT_MESSAGE, c);
    e->cookie = cookie;
    e->u.message.data = data;
    e->u.message.size = size;
    e->u.message.buffer = buffer;
    batch->owns |= buffer != NULL;
}

/* One complete message: an event, or kept until somebody reads it. */
static np_code emit(np_connection *c, np_batch *batch, const uint8_t *data, size_t size,
                    np_buffer *buffer) {
    void *cookie = NULL;
    if (c->endpoint->config.continuous_read || (!c->held && take_read(c, &cookie))) {
        add_message(c, batch, data, size, buffer, cookie);
        return NP_OK;
    }
    if (!buffer) {
        buffer = np_buffer_new(size);
        if (!buffer)
            return NP_E_MEMORY;
        memcpy(buffer->data, data, size);
        buffer->size = size;
    }
    hold(c, buffer);
    return NP_OK;
}

void np_inbound_serve_reads(np_connection *c, np_batch *batch) {
    void *cookie;
    while (c->held && take_read(c, &cookie)) {
        np_buffer *b = c->held;
        c->held = b->next;
        if (!c->held)
            c->held_tail = &c->held;
        add_message(c, batch, b->data, b->size, b, cookie);
    }
}

static np_code emit_arrived(np_connection *c, np_batch *batch, np_tally *came) {
    np_buffer *b = c->arriving;
    c->arriving = NULL;
    b->size = c->arrived;
    came->messages++;
    came->bytes += b->size;
    return emit(c, batch, b->data, b->size, b);
}

/* Asks the host for memory before the next read: a new buffer that begins with
 * n bytes at p, or a larger one for the message that is arriving. */
static void want(np_connection *c, np_batch *batch, size_t capacity, const uint8_t *p, size_t n) {
    c->wanted_capacity = capacity;
    c->wanted_data = p;
    c->wanted_size = n;
    c->wanted_next = batch->wanted;
    batch->wanted = c;
}

static bool too_large(const np_connection *c, uint64_t size, np_error *error) {
    uint64_t limit = c->endpoint->config.max_message_size;
    if (size <= limit && size <= SIZE_MAX - 64)
        return false;
    error->value = size;
    error->limit = limit;
    return true;
}

static size_t reserve(uint64_t expected, size_t so_far) {
    uint64_t believed = so_far ? (uint64_t)so_far * NP_RESERVE_FACTOR : NP_RESERVE_FIRST;
    return (size_t)(expected < believed ? expected : believed);
}

/* What the arriving message's buffer may still take.  The host may have made
 * more room than it was asked for; what follows on the stream is another
 * message's. */
static size_t room_left(const np_connection *c) {
    size_t end = c->arriving->capacity;
    if (NP_LINK_FRAMED && end > c->expected)
        end = (size_t)c->expected;
    return end - c->arrived;
}

/* Puts what came for the arriving message into it; the bytes it took of n. */
static size_t append(np_connection *c, const uint8_t *p, size_t n) {
    np_buffer *b = c->arriving;
    size_t room = room_left(c);
    size_t take = n < room ? n : room;
    if (p != b->data + c->arrived)
        memcpy(b->data + c->arrived, p, take);
    c->arrived += take;
    b->size = c->arrived;
    return take;
}

/* A message of which only the first n bytes came. */
static np_code begin(np_connection *c, np_batch *batch, uint64_t expected, const uint8_t *p,
                     size_t n) {
    c->expected = expected;
    c->arrived = 0;
    if (expected >= NP_HOLD_SIZE) {
        want(c, batch, reserve(expected, 0), p, n);
        return NP_OK;
    }
    c->arriving = np_buffer_new((size_t)expected);
    if (!c->arriving)
        return NP_E_MEMORY;
    append(c, p, n);
    return NP_OK;
}

/* The header at p, joined with what an earlier read left of it.  *used: bytes
 * of p that belong to it. */
static np_frame_result next_header(np_connection *c, const uint8_t *p, size_t n, size_t *used,
                                   uint64_t *length) {
    unsigned size = 0;
    np_frame_result r;
    if (c->header_size == 0) {
        r = np_frame_decode(p, n, &size, length);
        *used = size;
        if (r == NP_FRAME_SHORT) {
            memcpy(c->header, p, n);
            c->header_size = (unsigned)n;
        }
        return r;
    }
    *used = 0;
    do {
        c->header[c->header_size++] = p[(*used)++];
        r = np_frame_decode(c->header, c->header_size, &size, length);
    } while (r == NP_FRAME_SHORT && *used < n);
    if (r != NP_FRAME_SHORT)
        c->header_size = 0;
    return r;
}

static np_code feed_frames(np_connection *c, np_batch *batch, const uint8_t *p, size_t n,
                           np_tally *came, np_error *error) {
    np_code code = NP_OK;
    bool continuous = c->endpoint->config.continuous_read;
    while (n && code == NP_OK) {
        if (c->arriving) {
            size_t taken = append(c, p, n);
            p += taken;
            n -= taken;
            if (c->arrived == c->expected) {
                code = emit_arrived(c, batch, came);
            } else if (c->arrived == c->arriving->capacity) {
                want(c, batch, reserve(c->expected, c->arrived), NULL, 0);
            }
            continue;
        }
        size_t used;
        uint64_t length;
        np_frame_result r = next_header(c, p, n, &used, &length);
        if (r == NP_FRAME_SHORT)
            break;
        if (r == NP_FRAME_BAD) {
            error->value = length;
            return NP_E_PROTOCOL;
        }
        p += used;
        n -= used;
        if (too_large(c, length, error))
            return NP_E_TOO_LARGE;
        if (n < length) {
            code = begin(c, batch, length, p, n);
            break;
        }
        if (continuous)
            add_message(c, batch, p, (size_t)length, NULL, NULL);
        else
            code = emit(c, batch, p, (size_t)length, NULL);
        came->messages++;
        came->bytes += length;
        p += length;
        n -= (size_t)length;
    }
    return code;
}

/* The system keeps the boundaries: the read is one message, or a part of one
 * with `left` more to come. */
static np_code feed_message(np_connection *c, np_batch *batch, const np_completion *done,
                            np_tally *came, np_error *error) {
    size_t n = done->bytes;
    uint64_t so_far = c->arriving ? c->arrived : 0;
    if (too_large(c, so_far + n + done->left, error))
        return NP_E_TOO_LARGE;
    if (!c->arriving && done->left == 0) {
        came->messages++;
        came->bytes += n;
        return emit(c, batch, done->data, n, NULL);
    }
    if (!c->arriving)
        return begin(c, batch, n + done->left, done->data, n);
    append(c, done->data, n);
    if (done->left == 0)
        return emit_arrived(c, batch, came);
    c->expected = c->arrived + done->left;
    if (c->arrived == c->arriving->capacity)
        want(c, batch, (size_t)c->expected, NULL, 0);
    return NP_OK;
}

np_code np_inbound_feed(np_connection *c, np_batch *batch, const np_completion *done,
                        np_error *error) {
    np_tally came = {0};
    np_code code;
    c->progress += done->bytes;
    if (c->endpoint->config.byte_mode) {
        if (done->bytes == 0)
            return NP_OK;
        came = (np_tally){1, done->bytes};
        code = emit(c, batch, done->data, done->bytes, NULL);
    } else if (NP_LINK_FRAMED) {
        code = feed_frames(c, batch, done->data, done->bytes, &came, error);
    } else {
        code = feed_message(c, batch, done, &came, error);
    }
    if (came.messages)
        c->progress = NP_PROGRESS;      /* what follows is another message, with its own time */
    np_add64_relaxed(&c->worker->messages_in, came.messages);
    np_add64_relaxed(&c->worker->bytes_in, came.bytes);
    return code;
}

uint8_t *np_inbound_target(np_connection *c, size_t *capacity) {
    np_buffer *b = c->arriving;
    if (!b)
        return NULL;
    *capacity = room_left(c);
    /* The end of a message may be read together with what follows it. */
    if (NP_LINK_FRAMED && b->capacity >= c->expected && *capacity < NP_DIRECT_SIZE)
        return NULL;
    return b->data + c->arrived;
}

bool np_inbound_buffer_ready(np_connection *c, np_buffer *buffer) {
    c->wanted_capacity = 0;
    if (!buffer)
        return false;
    bool fresh = !c->arriving;
    c->arriving = buffer;
    if (fresh) {
        buffer->size = 0;
        append(c, c->wanted_data, c->wanted_size);
    }
    c->wanted_data = NULL;
    return true;
}

bool np_inbound_is_partial(const np_connection *c) {
    return c->arriving || c->header_size || c->wanted_capacity;
}

uint64_t np_inbound_partial_size(const np_connection *c) {
    return c->header_size ? c->header_size : c->arriving ? c->arrived : c->wanted_size;
}

void np_inbound_clear(np_connection *c) {
    np_buffer *b = c->arriving;
    c->arriving = NULL;
    if (b && np_buffer_drop(b))
        np_delivery_trash(c->endpoint, b);
    while ((b = c->held)) {
        c->held = b->next;
        if (np_buffer_drop(b))
            np_delivery_trash(c->endpoint, b);
    }
    c->held_tail = &c->held;
}

/* ---- the time a message may take ---------------------------------------- */

static void set_message_timer(np_connection *c, np_timer_fire *fire) {
    c->timer.fire = fire;
    np_timer_append(c->worker, &c->timer, c->endpoint->config.message_timeout_ns / 2);
}

/* The read that was processed just before may have brought what was missing. */
static bool is_late(const np_connection *c) {
    return c->state == NP_STATE_OPEN && np_inbound_is_partial(c) && c->progress < NP_PROGRESS;
}

static void message_late(np_timer *timer, np_batch *batch) {
    np_connection *c = NP_ENTRY(timer, np_connection, timer);
    np_error error = np_error_make(NP_E_TIMEOUT, NP_DOING_READ);
    error.value = np_inbound_partial_size(c);
    error.limit = (uint64_t)c->endpoint->config.message_timeout_ns;
    if (!is_late(c))
        return;
    np_connection_record(c, batch, error);
    np_connection_abort(c, batch);
}

/* Half of the time is over.  When the host has kept its poller busy for all of
 * it, the other half lets the bytes in that wait in the system. */
static void message_slow(np_timer *timer, np_batch *batch) {
    np_connection *c = NP_ENTRY(timer, np_connection, timer);
    (void)batch;
    if (is_late(c))
        set_message_timer(c, message_late);
}

/* Inside a message the peer is waited for only so long, unless it is the host
 * that keeps it waiting.  Most messages come whole and need no timer. */
void np_inbound_watch(np_connection *c) {
    bool waits = c->reading && np_inbound_is_partial(c);
    bool watched = !np_list_empty(&c->timer.node);
    if (watched && (!waits || c->progress >= NP_PROGRESS)) {
        np_timer_clear(&c->timer);
        watched = false;
    }
    if (!waits || watched)
        return;
    c->progress = 0;
    set_message_timer(c, message_slow);
}
