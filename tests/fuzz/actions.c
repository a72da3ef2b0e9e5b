/* What a host does: from inside events, and from other threads. */
#include <string.h>

#include "allocations.h"
#include "host.h"

static host *const h = &the_host;

enum { WRITTEN_MAX = 4 };

static size_t some_size(void) {
    switch (script_below(8)) {
    case 0: return script_byte();
    case 1: return 0;
    case 2: return script_byte() * 16u;
    case 3: return NP_HOLD_SIZE - 1 + script_below(3);
    case 4: return NP_HOLD_SIZE + script_byte() * 200u;
    default: return 1 + script_below(40);
    }
}

static np_connection *some_connection(conn *at, conn **out) {
    unsigned n = script_below(4);
    *out = at && n < 3 ? at : h->conn_count ? &h->conns[script_below(h->conn_count)] : NULL;
    return *out ? (*out)->connection : NULL;
}

/* A host that writes holds its own lock, and empties the trash under it. */
static void discard_trash(void) {
    if (h->busy)
        return;
    h->inside++;
    np_endpoint_discard(h->endpoint);
    h->inside--;
}

/* Where a write goes that is accepted.  One that was dialed can be written to
 * before the host has heard that it is connected. */
static fake_peer *peer_now(const conn *k) {
    if (k->dialed)
        return k->connection->client->has_link ? k->connection->link.peer : NULL;
    return k->peer;
}

static void settle(fake_peer *p, token *t, np_code code, unsigned count) {
    if (code == NP_OK) {
        FUZZ_CHECK(p && p->open);
        return;
    }
    FUZZ_CHECK(code == NP_E_CLOSED || code == NP_E_FULL
               || (code == NP_E_MEMORY && host_lacked_memory()));
    if (p)
        outgoing_undo(&p->out, count);
    if (t)
        t->due--;
}

static void writes(conn *at) {
    conn *k;
    np_connection *c = some_connection(at, &k);
    if (!c)
        return;
    np_message messages[WRITTEN_MAX];
    unsigned count = script_below(4) ? 1 : 1 + script_below(WRITTEN_MAX);
    token *t = script_below(2) ? host_token() : NULL;
    fake_peer *p = peer_now(k);
    if (t)
        t->due++;
    for (unsigned i = 0; i < count; i++) {
        size_t size = some_size();
        const uint8_t *data = script_pattern(size);
        np_buffer *hold = size && script_rarely(4) ? host_buffer(data, size) : NULL;
        messages[i] = (np_message){hold ? np_buffer_data(hold) : data, size, hold};
        if (p)
            outgoing_add(&p->out, data, size, i + 1 == count ? t : NULL);
    }
    np_error error = {0};
    const np_message *m = messages;
    np_code code = count == 1 ? np_connection_write(c, m->data, m->size, m->hold, t, &error)
                              : np_connection_write_many(c, m, count, t, &error);
    FUZZ_CHECK(code == NP_OK || (error.code == code && error.activity == NP_DOING_WRITE));
    settle(p, t, code, count);
    for (unsigned i = 0; i < count; i++)
        if (messages[i].hold)
            host_drop(messages[i].hold);
    discard_trash();
}

/* The same, then by the short way. */
static void appends(conn *at) {
    conn *k;
    np_connection *c = some_connection(at, &k);
    if (!c)
        return;
    size_t size = script_byte();
    const uint8_t *data = script_pattern(size);
    fake_peer *p = peer_now(k);
    if (p)
        outgoing_add(&p->out, data, size, NULL);
    if (!np_connection_append(c, data, size) && p)
        outgoing_undo(&p->out, 1);
}

static void reads(conn *at) {
    conn *k;
    np_connection *c = some_connection(at, &k);
    if (!c)
        return;
    token *t = script_below(2) ? host_token() : NULL;
    np_code code = np_connection_read(c, t);
    FUZZ_CHECK(code == NP_OK || code == NP_E_CLOSED || (code == NP_E_STATE && h->continuous)
               || (code == NP_E_MEMORY && host_lacked_memory()));
    if (t && code == NP_OK)
        t->due++;
}

static void closes(conn *at) {
    conn *k;
    np_connection *c = some_connection(at, &k);
    if (!c)
        return;
    k->closed = true;
    np_connection_close(c);
    FUZZ_CHECK(!np_connection_is_open(c));
}

static void take(void *cookie) { ((token *)cookie)->due++; }

static void drop(void *cookie) {
    token *t = cookie;
    FUZZ_CHECK(t->due);
    t->due--;
}

/* All bytes that were ever accepted, less those that an end has thrown away. */
static uint64_t accepted_bytes(const np_connection *c) {
    return c->out.bytes + c->link.peer->out.taken;
}

/* Of one that can't take it the host is told by an event; the others show that
 * they took it by what was accepted. */
static void broadcasts(void) {
    size_t size = 1 + script_byte() * (script_below(4) ? 1u : 300u);
    const uint8_t *data = script_pattern(size);
    np_buffer *b = host_buffer(data, size);
    if (!b)
        return;
    token *t = script_below(2) ? host_token() : NULL;
    size_t candidates = 0, grown = 0;
    fake_peer *peers[CONNS_MAX];
    uint64_t before[CONNS_MAX];
    np_list *all = &h->endpoint->connections;
    for (np_node *n = all->next; n != all; n = n->next) {
        np_connection *c = NP_ENTRY(n, np_connection, registry);
        if (np_load32(&c->visible) != NP_STATE_OPEN)
            continue;
        FUZZ_CHECK(candidates < CONNS_MAX);
        before[candidates] = accepted_bytes(c);
        peers[candidates] = c->link.peer;
        outgoing_add(&peers[candidates++]->out, data, size, t);
    }
    int64_t accepted = np_endpoint_broadcast(h->endpoint, b, t, t ? take : NULL, t ? drop : NULL);
    size_t i = 0;
    for (np_node *n = all->next; n != all && i < candidates; n = n->next) {
        np_connection *c = NP_ENTRY(n, np_connection, registry);
        if (c->link.peer != peers[i])
            continue;
        if (accepted_bytes(c) > before[i])
            grown++;
        else
            outgoing_undo(&peers[i]->out, 1);
        i++;
    }
    FUZZ_CHECK(i == candidates);
    FUZZ_CHECK(accepted == (int64_t)grown || (accepted < 0 && !grown));
    host_drop(b);
    discard_trash();
}

static void asks(conn *at) {
    conn *k;
    np_connection *c = some_connection(at, &k);
    np_stats stats;
    np_endpoint_stats(h->endpoint, &stats);
    if (!c)
        return;
    np_peer peer;
    if (np_connection_peer(c, &peer) == NP_OK)
        FUZZ_CHECK(peer.pid == 1 && np_connection_handle(c));
    FUZZ_CHECK(!np_connection_is_open(c) || !np_connection_is_opening(c));
    FUZZ_CHECK(np_connection_address(c)[0]);
}

static void dials(void) {
    if (!h->manager || h->conn_count == CONNS_MAX)
        return;
    static const int64_t timeouts[] = {0, -1, 1, 5000000000, INT64_MAX};
    np_error error;
    conn *k = host_conn(NULL, true);
    const char *name = script_rarely(16) ? "" : "name";
    np_code code = np_endpoint_connect(h->endpoint, name, timeouts[script_below(5)], k,
                                       &k->connection, &error);
    k->closed = h->stopped;
    if (code == NP_OK)
        return;
    FUZZ_CHECK(!k->connection);
    FUZZ_CHECK((code == NP_E_STATE && h->stopped) || (code == NP_E_NAME_EMPTY && !name[0])
               || (code == NP_E_MEMORY && host_lacked_memory()));
    h->conn_count--;
}

static void stops(void) {
    if (!script_rarely(8))
        return;
    h->stopped = true;
    for (unsigned i = 0; i < h->conn_count; i++)
        h->conns[i].closed = true;
    np_endpoint_stop_begin(h->endpoint);
    FUZZ_CHECK(!np_endpoint_is_running(h->endpoint));
}

void host_acts(conn *at) {
    if (h->depth)
        return;
    h->depth++;
    FUZZ_CHECK(world.locks == 0);
    switch (script_below(16)) {
    case 0:
    case 1:
    case 2:
    case 3: writes(at); break;
    case 4:
    case 5: appends(at); break;
    case 6:
    case 7: reads(at); break;
    case 8: closes(at); break;
    case 9: broadcasts(); break;
    case 10: asks(at); break;
    case 11: stops(); break;
    case 12: np_endpoint_quit(h->endpoint); break;
    case 13: np_endpoint_interrupt(h->endpoint); break;
    case 14: dials(); break;
    default:
        if (script_below(2))
            allocations_fail(1 + script_below(8), 1);
        else
            world.inject = 1 + script_below(32);
    }
    FUZZ_CHECK(world.locks == 0);
    h->depth--;
}

void host_check_pending(void) {
    h->depth++;
    for (unsigned i = 0; i < h->conn_count; i++) {
        const conn *k = &h->conns[i];
        fake_peer *p = peer_now(k);
        if (p && p->open && np_load32(&k->connection->visible) == NP_STATE_OPEN)
            FUZZ_CHECK(np_connection_pending(k->connection) == p->out.pending);
    }
    h->depth--;
}
