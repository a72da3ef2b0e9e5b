/* The life of a channel, and receiving. */
#include "channel.h"

#include <stdlib.h>
#include <string.h>

#define PAUSE_FIRST_NS INT64_C(1000000)
#define PAUSE_LAST_NS INT64_C(50000000)

_Static_assert((int)NP_HEADER_BYTES == (int)NP_HEADER_MAX, "np_incoming has room for a header");

const bool np_channel_tries = NP_WIRE_TRIES;

static np_code fail(np_error *error, np_activity activity, np_code code, int os) {
    *error = (np_error){.code = code, .activity = activity, .os = os};
    return code;
}

/* ---- life -------------------------------------------------------------- */

static void forked(np_fork_watch *watch) {
    np_channel *c = NP_ENTRY(watch, np_channel, fork);
    np_gate_forked(&c->gate);
    /* A thread that is not here was inside a message: what it had is lost to
     * this process. */
    if (np_turn_forked(&c->gate, &c->receiving))
        c->in = (np_incoming){0};
    np_turn_forked(&c->gate, &c->sending);
    if (c->gate.closed && c->gate.users == 0)
        np_wire_close(&c->wire);
}

np_code np_channel_new(const np_wire *wire, np_channel **out, np_error *error) {
    np_channel *c = calloc(1, sizeof *c);
    if (!c) {
        np_wire lost = *wire;
        np_wire_close(&lost);
        return fail(error, NP_DOING_CONNECT, NP_E_MEMORY, 0);
    }
    c->wire = *wire;
    np_store64(&c->max_message_size, 64 << 20);
    np_gate_init(&c->gate);
    np_fork_watch_add(&c->fork, forked);
    *out = c;
    return NP_OK;
}

np_code np_channel_pause(np_channel_dial *dial, const np_wait *wait) {
    int64_t left = np_wait_left(wait);
    if (left == 0)
        return NP_E_TIMEOUT;
    dial->pause_ns = !dial->pause_ns ? PAUSE_FIRST_NS : dial->pause_ns * 2;
    if (dial->pause_ns > PAUSE_LAST_NS)
        dial->pause_ns = PAUSE_LAST_NS;
    int64_t pause = left > 0 && left < dial->pause_ns ? left : dial->pause_ns;
    np_code code = np_wire_dial_pause(dial->address, dial->last, pause, wait);
    return code == NP_E_INTERRUPTED ? code : NP_OK;
}

np_code np_channel_connect(np_channel_dial *dial, const np_wait *wait, np_channel **out,
                           np_error *error) {
    for (;;) {
        np_wire wire;
        int os = 0;
        uint64_t owner = 0;
        np_code code = np_wire_dial(&wire, dial->address, dial->owner_only, &owner, &os);
        if (code == NP_OK)
            return np_channel_new(&wire, out, error);
        if (code == NP_E_OWNER) {
            fail(error, NP_DOING_CONNECT, code, 0);
            error->value = owner;
            return code;
        }
        if ((code != NP_E_NOT_FOUND && code != NP_E_BUSY) || wait->deadline == NP_AT_ONCE)
            return fail(error, NP_DOING_CONNECT, code, os);
        dial->last = code;
        code = np_channel_pause(dial, wait);
        if (code == NP_OK && wait->interrupt)
            code = NP_E_INTERRUPTED;    /* pauses are many, and a signal may come between two */
        if (code != NP_OK) {
            fail(error, NP_DOING_CONNECT, code, code == NP_E_TIMEOUT ? os : 0);
            error->value = code == NP_E_TIMEOUT ? dial->last : 0;
            return code;
        }
    }
}

np_code np_channel_pair(np_channel **a, np_channel **b, np_error *error) {
    np_wire x, y;
    int os = 0;
    np_code code = np_wire_pair(&x, &y, &os);
    if (code != NP_OK)
        return fail(error, NP_DOING_CONNECT, code, os);
    code = np_channel_new(&x, a, error);
    if (code != NP_OK) {
        np_wire_close(&y);
        return code;
    }
    code = np_channel_new(&y, b, error);
    if (code != NP_OK)
        np_channel_free(*a);
    return code;
}

np_code np_channel_adopt(intptr_t handle, np_channel **out, np_error *error) {
    np_wire wire;
    int os = 0;
    np_code code = np_wire_adopt(&wire, handle, &os);
    return code == NP_OK ? np_channel_new(&wire, out, error)
                         : fail(error, NP_DOING_CONNECT, code, os);
}

void np_channel_close(np_channel *c) {
    if (np_gate_close(&c->gate))
        np_wire_close(&c->wire);
}

void np_channel_free(np_channel *c) {
    np_channel_close(c);
    np_fork_watch_remove(&c->fork);
    np_gate_destroy(&c->gate);
    free(c->chunk);
    free(c->stage);
    free(c);
}

bool np_channel_is_closed(np_channel *c) { return np_gate_is_closed(&c->gate); }

intptr_t np_channel_handle(np_channel *c) {
    np_mutex_lock(&c->gate.lock);
    intptr_t handle = c->gate.closed ? NP_NO_HANDLE : np_wire_handle(&c->wire);
    np_mutex_unlock(&c->gate.lock);
    return handle;
}

np_code np_channel_peer(np_channel *c, np_peer *out, np_error *error) {
    np_mutex_lock(&c->gate.lock);
    bool closed = c->gate.closed;
    if (!closed)
        np_wire_peer(&c->wire, out);
    np_mutex_unlock(&c->gate.lock);
    if (closed)
        return fail(error, NP_DOING_NOTHING, NP_E_CLOSED, 0);
    np_peer_look_up(out);
    return NP_OK;
}

void np_channel_set_max_message_size(np_channel *c, uint64_t size) {
    np_store64(&c->max_message_size, size);
}

uint64_t np_channel_max_message_size(const np_channel *c) {
    return np_load64(&c->max_message_size);
}

/* ---- turns ------------------------------------------------------------- */

np_code np_channel_receive_begin(np_channel *c, const np_wait *wait, np_error *error) {
    np_code code = np_gate_enter(&c->gate, &c->receiving, wait);
    return code == NP_OK ? NP_OK : fail(error, NP_DOING_RECEIVE, code, 0);
}

void np_channel_receive_end(np_channel *c) {
    if (np_gate_leave(&c->gate, &c->receiving))
        np_wire_close(&c->wire);
}

/* ---- receiving --------------------------------------------------------- */

/* The peer left, or worse, with `got` of `all` bytes of something there. */
static np_code broken(np_channel *c, np_code code, int os, uint64_t got, uint64_t all,
                      np_error *error) {
    if (code == NP_E_TIMEOUT || code == NP_E_INTERRUPTED || code == NP_E_CLOSED)
        return fail(error, NP_DOING_RECEIVE, code, os);
    if (code == NP_E_EOF && (got || all))
        code = NP_E_RESET;
    fail(error, NP_DOING_RECEIVE, code, os);
    error->value = got;
    error->limit = all;
    if (code == NP_E_RESET)
        c->end = *error;
    return code;
}

static np_code receive_header(np_channel *c, const np_wait *wait, np_error *error) {
    np_incoming *in = &c->in;
    if (np_load32(&c->asked) && wait->deadline != NP_AT_ONCE) {
        int os = 0;
        np_code code = np_wire_poll(&c->wire, wait, &os);
        if (code != NP_OK)
            return broken(c, code, os, in->header_size, 0, error);
        np_store32(&c->asked, 0);
    }
    for (;;) {
        unsigned want = in->header_size < NP_HEADER_MIN ? NP_HEADER_MIN : NP_HEADER_MAX;
        size_t got;
        uint64_t left;
        int os = 0;
        np_code code = np_wire_receive(&c->wire, in->header + in->header_size,
                                       want - in->header_size, wait, &got, &left, &os);
        if (code != NP_OK)
            return broken(c, code, os, in->header_size, 0, error);
        in->header_size += (unsigned)got;
        unsigned size;
        switch (np_frame_decode(in->header, in->header_size, &size, &in->expected)) {
        case NP_FRAME_OK: in->known = true; return NP_OK;
        case NP_FRAME_BAD:
            fail(error, NP_DOING_RECEIVE, NP_E_PROTOCOL, 0);
            error->value = in->expected;
            c->end = *error;
            return NP_E_PROTOCOL;
        case NP_FRAME_SHORT: break;
        }
    }
}

/* Where the system keeps boundaries the first part tells the length. */
static np_code receive_first(np_channel *c, const np_wait *wait, np_error *error) {
    np_incoming *in = &c->in;
    size_t got;
    uint64_t left;
    int os = 0;
    np_code code = np_wire_receive(&c->wire, c->small, sizeof c->small, wait, &got, &left, &os);
    if (code != NP_OK)
        return broken(c, code, os, 0, 0, error);
    in->data = c->small;
    in->capacity = sizeof c->small;
    in->arrived = got;
    in->expected = got + left;
    in->known = true;
    return NP_OK;
}

static np_code receive_body(np_channel *c, const np_wait *wait, np_error *error) {
    np_incoming *in = &c->in;
    if (in->expected <= sizeof c->small && !in->data) {
        in->data = c->small;
        in->capacity = sizeof c->small;
    }
    while (in->arrived < in->expected) {
        if (in->arrived == in->capacity)
            return NP_WANTED;
        uint64_t rest = in->expected - in->arrived;
        size_t room = in->capacity - in->arrived, got;
        uint64_t left;
        int os = 0;
        np_code code = np_wire_receive(&c->wire, in->data + in->arrived,
                                       room < rest ? room : (size_t)rest, wait, &got, &left, &os);
        if (code != NP_OK)
            return broken(c, code, os, in->arrived, in->expected, error);
        in->arrived += got;
    }
    return NP_OK;
}

np_code np_channel_receive(np_channel *c, np_wait *wait, uint64_t limit, np_error *error) {
    if (c->end.code != NP_OK) {
        *error = c->end;
        return error->code;
    }
    np_code code = NP_OK;
    if (wait->deadline != NP_AT_ONCE)
        code = np_gate_arm(&c->gate, wait, error);
    if (code != NP_OK)
        return fail(error, NP_DOING_RECEIVE, code, error->os);
    np_incoming *in = &c->in;
    if (!in->known) {
        code = NP_LINK_FRAMED ? receive_header(c, wait, error) : receive_first(c, wait, error);
        if (code != NP_OK)
            return code;
    }
    uint64_t most = np_load64(&c->max_message_size);
    if (limit > most)
        limit = most;
    if (in->expected > limit) {
        fail(error, NP_DOING_RECEIVE, NP_E_TOO_LARGE, 0);
        error->value = in->expected;
        error->limit = limit;
        return NP_E_TOO_LARGE;
    }
    return receive_body(c, wait, error);
}

bool np_channel_expects_wait(const np_channel *c) { return np_load32(&c->asked) && !c->in.known; }

size_t np_channel_wanted(const np_channel *c) {
    const np_incoming *in = &c->in;
    uint64_t size = 4 * (uint64_t)in->arrived;
    if (size < NP_CHANNEL_FIRST)
        size = NP_CHANNEL_FIRST;
    return (size_t)(size < in->expected ? size : in->expected);
}

void np_channel_room(np_channel *c, void *owner, uint8_t *data, size_t capacity) {
    np_incoming *in = &c->in;
    if (!in->owner && in->arrived)
        memcpy(data, in->data, in->arrived);
    in->owner = owner;
    in->data = data;
    in->capacity = capacity;
}

const np_incoming *np_channel_incoming(const np_channel *c) { return &c->in; }

void np_channel_received(np_channel *c) { c->in = (np_incoming){0}; }

void np_channel_lost(np_channel *c) {
    c->end = (np_error){.code = NP_E_MEMORY, .activity = NP_DOING_RECEIVE, .value = c->in.expected};
    c->in = (np_incoming){0};
}

np_code np_channel_take(np_channel *c, np_slice *out, size_t max, size_t *count, bool *more,
                        np_error *error) {
    *count = 0;
    *more = false;
    if (c->end.code != NP_OK || c->in.known || c->in.header_size)
        return NP_OK;
    if (!c->chunk && !(c->chunk = malloc(NP_CHANNEL_CHUNK)))
        return fail(error, NP_DOING_RECEIVE, NP_E_MEMORY, 0);
    int os = 0;
    np_code code = np_wire_take(&c->wire, c->chunk, NP_CHANNEL_CHUNK,
                                np_load64(&c->max_message_size), out, max, count, &os);
    if (code != NP_OK)
        return broken(c, code, os, 0, 0, error);
    if (*count) {
        const np_slice *last = &out[*count - 1];
        *more = *count == max || last->data + last->size - c->chunk > NP_CHANNEL_CHUNK / 2;
    }
    return NP_OK;
}

/* ---- looking without the turn ------------------------------------------ */

/* What belongs to the receiving turn may be looked at: this thread has it, or
 * nobody does, nor gets it while the gate's lock is held. */
static bool may_look_locked(const np_channel *c) {
    return c->receiving.taken ? c->receiving.owner == np_thread_id() : !c->gate.closed;
}

static bool holds(const np_channel *c) {
    const np_incoming *in = &c->in;
    return c->end.code != NP_OK || np_wire_holds(&c->wire)
           || (in->known && (!NP_LINK_FRAMED || in->arrived == in->expected));
}

bool np_channel_holds(np_channel *c) {
    np_mutex_lock(&c->gate.lock);
    bool held = may_look_locked(c) && holds(c);
    np_mutex_unlock(&c->gate.lock);
    return held;
}

bool np_channel_is_partial(np_channel *c) {
    np_mutex_lock(&c->gate.lock);
    bool partial = may_look_locked(c) && (c->in.known || c->in.header_size);
    np_mutex_unlock(&c->gate.lock);
    return partial;
}

bool np_channel_took_empty(np_channel *c) {
    np_mutex_lock(&c->gate.lock);
    bool took = may_look_locked(c) && np_wire_holds(&c->wire);
    np_mutex_unlock(&c->gate.lock);
    return took;
}

void np_channel_set_took_empty(np_channel *c, bool took) {
    np_mutex_lock(&c->gate.lock);
    if (may_look_locked(c))
        np_wire_set_holds(&c->wire, took);
    np_mutex_unlock(&c->gate.lock);
}

/* ---- polling ------------------------------------------------------------ */

np_code np_channel_poll(np_channel *c, np_wait *wait, np_error *error) {
    if (holds(c))
        return NP_OK;
    np_code code = np_gate_arm(&c->gate, wait, error);
    int os = 0;
    if (code == NP_OK)
        code = np_wire_poll(&c->wire, wait, &os);
    if (code != NP_OK)
        return fail(error, NP_DOING_RECEIVE, code, os);
    np_store32(&c->asked, 0);
    return NP_OK;
}
