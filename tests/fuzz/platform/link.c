/* One end of a connection, and the peer at the other one. */
#include <sanitizer/asan_interface.h>
#include <string.h>

#include "fake.h"

/* ---- life ---------------------------------------------------------------- */

void np_link_none(np_link *link) { *link = (np_link){0}; }

fake_peer *fake_peer_new(np_link *link) {
    fake_peer *p = calloc(1, sizeof *p);
    FUZZ_CHECK(p != NULL);
    bool framed = NP_LINK_FRAMED && !world.config.byte_mode;
    p->open = true;
    p->byte_mode = world.config.byte_mode;   /* limits are of messages */
    decoder_begin(&p->in, framed, p->byte_mode ? UINT64_MAX : world.config.max_message_size);
    outgoing_begin(&p->out, framed);
    p->next = world.peers;
    world.peers = p;
    world.clients--;
    world.links++;
    *link = (np_link){.peer = p, .open = true, .port = link->port};
    return p;
}

np_code np_link_attach(np_link *link, np_port *port, const np_config *config, np_error *error) {
    FUZZ_CHECK(link->open && !world.outside);
    FUZZ_CHECK(!NP_INSTANCE_BOUND || !link->port || link->port == port);
    link->port = port;
    link->read_size = config->message_buffer_size;
    if (!script_rarely(32))
        return NP_OK;
    error->os = 12;
    return NP_E_SYSTEM;
}

static void close_peer(fake_peer *p) {
    FUZZ_CHECK(p->open && !p->read && !p->write);
    p->open = false;
    world.links--;
}

void np_link_close(np_link *link) {
    if (!link->open)
        return;
    FUZZ_CHECK(world.locks > 0 && !world.outside);
    link->open = false;
    close_peer(link->peer);
}

/* Its system object is the next client's; the peer at the old one is gone. */
bool np_link_recycle(np_link *link, np_listener *listener, np_instance *instance, np_port *port) {
    FUZZ_CHECK(world.locks > 0 && !world.outside && listener->open);
    if (!NP_INSTANCE_BOUND || !link->open || script_rarely(4))
        return false;
    link->open = false;
    close_peer(link->peer);
    instance->operation.instance = instance;
    instance->link = (np_link){.port = port};
    fake_start(&instance->operation, &port->pending);
    return true;
}

void np_link_cancel(np_link *link) {
    FUZZ_CHECK(world.locks > 0 && !world.outside && link->open);
    if (link->peer->read)
        link->peer->read->canceled = true;
    if (link->peer->write)
        link->peer->write->canceled = true;
}

void np_link_end_writes(np_link *link) {
    FUZZ_CHECK(world.locks > 0 && link->open);
    link->peer->leaves = true;
}

void np_link_abandon(np_link *link) { (void)link; }

intptr_t np_link_handle(const np_link *link) { return link->open ? (intptr_t)link->peer : 0; }

/* ---- reading ------------------------------------------------------------- */

void np_link_read(np_link *link, np_operation *op, uint8_t *buffer, size_t capacity) {
    fake_peer *p = link->peer;
    FUZZ_CHECK(!world.outside && link->open && p->open && !p->read);
    if (buffer) {
        FUZZ_CHECK(capacity > 0);
        FUZZ_CHECK(!__asan_region_is_poisoned(buffer, capacity));
    }
    op->peer = p;
    op->buffer = buffer;
    op->capacity = buffer ? capacity : link->read_size;
    p->read = op;
    fake_start(op, &link->port->pending);
}

static size_t piece_of(size_t size) {
    switch (script_below(8)) {
    case 1: return 1;
    case 2: return 1 + script_byte();
    case 3: return size / 2;
    case 4: return size - 1;
    case 5: return 4096;
    default: return size;
    }
}

static bool read_failed(fake_peer *p, np_completion *out) {
    static const np_code codes[] = {NP_E_SYSTEM, NP_E_RESET, NP_E_MEMORY};
    if (world.quiet || !script_rarely(48))
        return false;
    out->code = codes[script_below(3)];
    out->os = 5;
    p->failed = true;
    return true;
}

void fake_read_completed(np_operation *op, np_port *port, np_completion *out) {
    fake_peer *p = op->peer;
    p->read = NULL;
    if (read_failed(p, out))
        return;
    if (world.quiet) {
        p->at = p->size;
        p->leaves = true;
    }
    if (p->at == p->size && !p->leaves)
        fake_peer_sends(p);
    if (p->at == p->size) {
        if (p->leaves || NP_LINK_FRAMED || p->byte_mode) {
            out->code = NP_E_EOF;
            p->has_left = p->leaves = true;
            return;
        }
    }
    size_t rest = p->size - p->at;
    bool stream = NP_LINK_FRAMED || p->byte_mode;
    size_t n = stream ? piece_of(rest) : rest;
    if (n > rest)
        n = rest;
    if (stream && n == 0)
        n = 1;
    if (n > op->capacity)
        n = op->capacity;
    uint8_t *to = op->buffer ? op->buffer : fake_block(port, n);
    if (n)
        memcpy(to, p->bytes + p->at, n);
    p->at += n;
    out->bytes = n;
    out->data = to;
    if (p->in.framed) {
        decoder_feed(&p->in, to, n);
    } else if (p->byte_mode) {
        decoder_part(&p->in, to, n, 0);
    } else {
        /* The system may not know how much is left, only that there is. */
        out->left = p->size - p->at;
        if (out->left && script_rarely(8))
            out->left = 1;
        decoder_part(&p->in, to, n, out->left);
    }
}

/* ---- writing ------------------------------------------------------------- */

static np_code write_failed(fake_peer *p, int *os) {
    static const np_code codes[] = {NP_E_BROKEN, NP_E_RESET, NP_E_SYSTEM};
    if (world.quiet || !script_rarely(48))
        return NP_OK;
    *os = 32;
    p->failed = true;
    return codes[script_below(3)];
}

static np_code write_stream(fake_peer *p, np_operation *op, np_port *port, const np_slice *slices,
                            size_t count, size_t *taken) {
    size_t total = 0, room;
    for (size_t i = 0; i < count; i++)
        total += slices[i].size;
    room = world.quiet || script_below(4) < 3 ? total : script_below(2) ? script_byte() : total / 2;
    if (room > total)
        room = total;
    *taken = room;
    if (!total)                     /* an empty message of a stream without frames */
        outgoing_taken(&p->out, NULL, 0);
    for (size_t i = 0; i < count && room; i++) {
        size_t n = slices[i].size < room ? slices[i].size : room;
        outgoing_taken(&p->out, slices[i].data, n);
        room -= n;
    }
    if (*taken == total)
        return NP_OK;
    p->write = op;
    op->peer = p;
    fake_start(op, &port->pending);
    return NP_PENDING;
}

np_code np_link_write(np_link *link, np_operation *op, const np_slice *slices, size_t count,
                      size_t *taken, int *os) {
    fake_peer *p = link->peer;
    FUZZ_CHECK(world.locks > 0 && link->open && p->open && !p->write);
    *taken = 0;
    np_code code = write_failed(p, os);
    if (code != NP_OK)
        return code;
    if (!NP_LINK_HOLDS_WRITES)
        return write_stream(p, op, link->port, slices, count, taken);
    FUZZ_CHECK(count == 1);
    p->write = op;
    op->peer = p;
    op->data = slices[0].data;
    op->size = slices[0].size;
    fake_start(op, &link->port->pending);
    return NP_PENDING;
}

void fake_write_completed(np_operation *op, np_completion *out) {
    fake_peer *p = op->peer;
    p->write = NULL;
    out->code = write_failed(p, &out->os);
    if (out->code != NP_OK || !NP_LINK_HOLDS_WRITES)
        return;
    outgoing_taken_one(&p->out, op->data, op->size);
    out->bytes = op->size;
}
