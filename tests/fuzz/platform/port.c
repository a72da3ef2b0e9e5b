/* The port: which of the outstanding operations complete, and in what order. */
#include <string.h>

#include "fake.h"

/* What a round takes, so that peers who never pause can't hold a guest. */
#define ROUND_NS 50000

fake_world world;

void world_begin(void) { world = (fake_world){.now = 1000000000, .clients = 24, .large = 6 << 20}; }

void world_end(void) {
    FUZZ_CHECK(world.locks == 0);
    FUZZ_CHECK(world.operations == 0);
    FUZZ_CHECK(world.links == 0);
    FUZZ_CHECK(world.ports == 0);
    FUZZ_CHECK(world.listeners == 0);
    FUZZ_CHECK(world.signals == 0);
    while (world.peers) {
        fake_peer *p = world.peers;
        world.peers = p->next;
        decoder_end(&p->in);
        outgoing_end(&p->out);
        free(p->bytes);
        free(p);
    }
}

np_code np_port_open(np_port *port, np_error *error) {
    if (script_rarely(64)) {
        error->os = 24;
        return NP_E_SYSTEM;
    }
    *port = (np_port){0};
    np_list_init(&port->pending);
    world.ports++;
    return NP_OK;
}

static void free_blocks(np_port *port) {
    while (port->block_count)
        free(port->blocks[--port->block_count]);
}

void np_port_close(np_port *port) {
    FUZZ_CHECK(np_list_empty(&port->pending));
    free_blocks(port);
    free(port->blocks);
    world.ports--;
}

void np_port_wake(np_port *port) { port->woken = true; }

intptr_t np_port_waitable(const np_port *port) {
    (void)port;
    return -1;
}

/* Exactly as large as what it holds, so that a sanitizer sees more. */
uint8_t *fake_block(np_port *port, size_t size) {
    if (port->block_count == port->block_capacity) {
        port->block_capacity = port->block_capacity * 2 + 16;
        port->blocks = realloc(port->blocks, port->block_capacity * sizeof *port->blocks);
        FUZZ_CHECK(port->blocks != NULL);
    }
    uint8_t *block = malloc(size ? size : 1);
    FUZZ_CHECK(block != NULL);
    port->blocks[port->block_count++] = block;
    return block;
}

void fake_start(np_operation *op, np_list *list) {
    FUZZ_CHECK(!op->outstanding);
    op->outstanding = true;
    op->canceled = false;
    np_list_init(&op->node);
    np_list_append(list, &op->node);
    world.operations++;
}

static void accepted(np_operation *op, np_completion *out) {
    if (script_rarely(16)) {
        out->code = NP_E_SYSTEM;
        out->os = 24;
        return;
    }
    fake_peer_new(&op->instance->link);
}

static void dialed(np_operation *op, np_completion *out) {
    static const np_code codes[] = {NP_OK,          NP_OK,          NP_OK,      NP_OK,
                                    NP_E_NOT_FOUND, NP_E_NOT_FOUND, NP_E_BUSY,  NP_E_BROKEN,
                                    NP_E_ACCESS,    NP_E_OWNER,     NP_E_SYSTEM};
    out->code = codes[script_below(sizeof codes / sizeof *codes)];
    if (world.quiet || (out->code == NP_OK && !world.clients))
        out->code = NP_E_NOT_FOUND;
    if (out->code == NP_OK)
        fake_peer_new(&op->dial->link);
    op->dial->value = out->code == NP_E_OWNER ? 1000 : 0;
}

/* A client is there only while some are to come. */
static bool may_complete(const np_operation *op) {
    if (op->canceled)
        return true;
    if (op->kind == NP_OP_ACCEPT)
        return world.clients && !world.quiet;
    /* A peer that takes nothing lets a write wait. */
    return op->kind != NP_OP_WRITE || world.quiet || !script_rarely(2);
}

static void complete(np_port *port, np_operation *op, np_completion *out) {
    *out = (np_completion){.operation = op};
    op->outstanding = false;
    np_list_remove(&op->node);
    world.operations--;
    /* What was under way may be faster than the cancel. */
    bool canceled = op->canceled && (op->kind == NP_OP_ACCEPT || world.quiet || !script_rarely(4));
    if (canceled) {
        out->code = NP_E_CANCELED;
        if (op->kind == NP_OP_READ)
            op->peer->read = NULL;
        if (op->kind == NP_OP_WRITE)
            op->peer->write = NULL;
        return;
    }
    switch (op->kind) {
    case NP_OP_ACCEPT: accepted(op, out); break;
    case NP_OP_CONNECT: dialed(op, out); break;
    case NP_OP_READ: fake_read_completed(op, port, out); break;
    case NP_OP_WRITE: fake_write_completed(op, out); break;
    }
}

static size_t complete_some(np_port *port, np_list *list, np_completion *out, size_t max) {
    unsigned skip = world.quiet ? 0 : script_below(8);
    size_t n = 0;
    np_node *node = list->next;
    while (node != list && n < max) {
        np_operation *op = NP_ENTRY(node, np_operation, node);
        node = node->next;
        if (skip & 1 ? false : may_complete(op))
            complete(port, op, &out[n++]);
        skip >>= 1;
    }
    return n;
}

void np_port_wait(np_port *port, np_arena *arena, np_completion *out, size_t max,
                  int64_t timeout_ns, size_t *count) {
    FUZZ_CHECK(world.locks == 0);
    if (arena->used == 0)           /* the batch before has ended */
        free_blocks(port);
    arena->used = 1;
    world.others(port, timeout_ns);
    size_t n = complete_some(port, &port->pending, out, max);
    np_listener *l = port->listener;
    if (l && !l->paused && l->open)
        n += complete_some(port, &l->armed, out + n, max - n);
    world.now += !n && timeout_ns > 0 && !port->woken ? timeout_ns : ROUND_NS;
    port->woken = false;
    *count = n;
}
