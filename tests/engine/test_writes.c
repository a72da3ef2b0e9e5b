/* What the host writes: cookies, held buffers, limits and broadcast. */
#include <stdlib.h>
#include <string.h>

#include "server.h"
#include "suites.h"
#include "system.h"

enum { KIB = 1 << 10, MIB = 1 << 20 };

/* Receives count messages of a pattern, numbered from `first`. */
static void receive_numbered(client *c, size_t size, unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        client_expect_pattern(c, size, first + i);
}

static np_code write_numbered(peer *p, size_t size, unsigned number, cookie *c) {
    uint8_t *data = pattern_new(size, number);
    np_code code = peer_write(p, data, size, c);
    free(data);
    return code;
}

/* ---- cookies ----------------------------------------------------------- */

static cookie *expected_cookies[200];

static void check_cookie_order(peer *p, np_event *e) {
    if (e->kind == NP_EVENT_SENT)
        CHECK(e->cookie == expected_cookies[np_add64(&p->user, 1)]);
}

static void every_cookie_comes_back_once_and_in_order(void) {
    enum { COUNT = 200 };
    server *s = server_new();
    s->on_event = check_cookie_order;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        expected_cookies[i] = server_cookie(s);
        CHECK_EQUAL(write_numbered(p, 10 * KIB, i, expected_cookies[i]), NP_OK);
    }
    receive_numbered(c, 10 * KIB, 0, COUNT);
    UNTIL_EQUAL(np_load64(&p->sent), COUNT);
    CHECK_EQUAL(np_connection_pending(p->connection), 0);
    client_close(c);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    server_end(s);
}

static void writes_without_a_cookie_are_reported_when_wanted(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    CHECK_EQUAL(write_numbered(p, 100, 0, NULL), NP_OK);
    receive_numbered(c, 100, 0, 1);
    np_endpoint_want_sent(s->endpoint, true);
    for (unsigned i = 1; i <= 10; i++)
        CHECK_EQUAL(write_numbered(p, 100, i, NULL), NP_OK);
    receive_numbered(c, 100, 1, 10);
    UNTIL_EQUAL(np_load64(&p->sent), 10);
    np_endpoint_want_sent(s->endpoint, false);
    cookie *last = server_cookie(s);
    CHECK_EQUAL(write_numbered(p, 100, 11, NULL), NP_OK);
    CHECK_EQUAL(write_numbered(p, 100, 12, last), NP_OK);
    UNTIL_EQUAL(np_load32(&last->sent), 1);
    CHECK_EQUAL(np_load64(&p->sent), 11);
    client_close(c);
    server_end(s);
}

static void nothing_may_be_written_from_nowhere(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    CHECK_EQUAL(peer_write(p, NULL, 0, NULL), NP_OK);
    np_message messages[] = {{.data = "a", .size = 1}, {.data = NULL, .size = 0}};
    CHECK_EQUAL(peer_write_many(p, messages, 2, NULL), NP_OK);
    client_expect(c, "");
    client_expect(c, "a");
    client_expect(c, "");
    client_close(c);
    server_end(s);
}

static void several_messages_are_one_write(void) {
    enum { COUNT = 50 };
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    for (unsigned round = 0; round < 10; round++) {
        np_message messages[COUNT];
        for (unsigned i = 0; i < COUNT; i++) {
            size_t size = i * i * (round + 1);
            np_buffer *b = server_buffer(s, size, i);
            messages[i] = (np_message){np_buffer_data(b), size, i % 3 ? NULL : b};
            if (i % 3)
                messages[i].data = pattern_new(size, i), server_drop(s, b);
        }
        cookie *one = server_cookie(s);
        CHECK_EQUAL(peer_write_many(p, messages, COUNT, round % 2 ? one : NULL), NP_OK);
        for (unsigned i = 0; i < COUNT; i++) {
            if (i % 3)
                free((void *)(uintptr_t)messages[i].data);
            else
                server_drop(s, messages[i].hold);
            client_expect_pattern(c, i * i * (round + 1), i);
        }
        if (round % 2)
            UNTIL_EQUAL(np_load32(&one->sent), 1);
    }
    UNTIL_EQUAL(np_load64(&p->sent), 5);
    np_stats stats;
    UNTIL((np_endpoint_stats(s->endpoint, &stats), stats.messages_out == 10 * COUNT));
    client_close(c);
    server_end(s);
}

static void several_messages_are_accepted_together_or_not(void) {
    server *s = server_new();
    s->config.max_pending_bytes = 4 * MIB;
    s->config.max_message_size = MIB;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    np_message messages[3];
    for (unsigned i = 0; i < 3; i++) {
        np_buffer *b = server_buffer(s, MIB, i);
        messages[i] = (np_message){np_buffer_data(b), MIB, b};
    }
    cookie *first = server_cookie(s), *second = server_cookie(s);
    CHECK_EQUAL(peer_write_many(p, messages, 3, first), NP_OK);
    uint64_t pending = np_connection_pending(p->connection);
    CHECK_EQUAL(peer_write_many(p, messages, 3, second), NP_E_FULL);
    CHECK(np_connection_pending(p->connection) <= pending);
    for (unsigned i = 0; i < 3; i++) {
        server_drop(s, messages[i].hold);
        client_expect_pattern(c, MIB, i);
    }
    CHECK_EQUAL(peer_write(p, "end", 3, NULL), NP_OK);
    client_expect(c, "end");
    peer_close(p);
    CHECK_EQUAL(peer_write_many(p, messages, 0, second), NP_E_CLOSED);
    client_close(c);
    server_end(s);
}

static void held_buffers_are_given_back_once(void) {
    static const size_t sizes[] = {0, 1, 100, 65535, 65536, 200000, MIB, 3 * MIB};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    for (unsigned i = 0; i < COUNT; i++) {
        np_buffer *b = server_buffer(s, sizes[i], i);
        CHECK_EQUAL(peer_write_buffer(p, b, i % 2 ? server_cookie(s) : NULL), NP_OK);
        CHECK_EQUAL(peer_write(p, "copied", 6, NULL), NP_OK);
        server_drop(s, b);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        receive_numbered(c, sizes[i], i, 1);
        client_expect(c, "copied");
    }
    UNTIL_EQUAL(np_load64(&p->sent), COUNT / 2);
    client_close(c);
    server_end(s);
}

/* ---- from anywhere ----------------------------------------------------- */

typedef struct writer {
    peer *peer;
    unsigned first, count;
    np_thread thread;
} writer;

static void write_some(void *arg) {
    writer *w = arg;
    for (unsigned i = 0; i < w->count; i++)
        CHECK_EQUAL(write_numbered(w->peer, 20 + i % 3000, w->first + i,
                                   i % 5 ? NULL : server_cookie(w->peer->server)), NP_OK);
}

static void threads_may_write_at_once(void) {
    enum { WRITERS = 4, COUNT = 500 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    writer writers[WRITERS];
    unsigned next[WRITERS] = {0};
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (writer){.peer = p, .first = i << 16, .count = COUNT};
        REQUIRE_EQUAL(np_thread_start(&writers[i].thread, write_some, &writers[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS * COUNT && !harness_failed(); i++) {
        int64_t size = client_receive(c, TIMEOUT_MS);
        CHECK(size >= 20);
        unsigned from = client_data(c)[2];
        CHECK(from < WRITERS);
        if (from < WRITERS) {
            CHECK_EQUAL(size, 20 + next[from] % 3000);
            CHECK(pattern_is(client_data(c), (size_t)size, (from << 16) + next[from]++));
        }
    }
    for (unsigned i = 0; i < WRITERS; i++)
        np_thread_join(writers[i].thread);
    client_exchange(c, 100, 1);
    client_close(c);
    server_end(s);
}

/* A handler may write to others than the one it was called for. */
static void forward(peer *p, np_event *e) {
    if (e->kind != NP_EVENT_MESSAGE)
        return;
    peer *other = server_peer(p->server, 1 - p->number);
    CHECK_EQUAL(peer_write(other, e->u.message.data, e->u.message.size, NULL), NP_OK);
}

static void a_handler_may_write_to_another_connection(void) {
    server *s = server_new();
    s->on_event = forward;
    s->config.write_high_water = 100;
    server_start(s);
    client *a = server_client(s);
    server_peer(s, 0);
    client *b = server_client(s);
    server_peer(s, 1);
    uint8_t *data = pattern_new(1000, 1);
    for (unsigned i = 0; i < 200; i++) {
        CHECK(client_send(a, data, 1000));
        receive_numbered(b, 1000, 1, 1);
        CHECK(client_send(b, data, 1000));
        receive_numbered(a, 1000, 1, 1);
    }
    free(data);
    client_close(a);
    client_close(b);
    server_end(s);
}

/* ---- limits ------------------------------------------------------------ */

static void writes_beyond_the_limit_are_refused(void) {
    server *s = server_new();
    s->config.max_pending_bytes = MIB;
    s->config.max_message_size = 64 * KIB;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    unsigned count = 0;
    while (count < 1000 && write_numbered(p, 10 * KIB, count, server_cookie(s)) == NP_OK)
        count++;
    CHECK(count >= MIB / (10 * KIB));
    CHECK(count < 500);
    CHECK(np_connection_pending(p->connection) <= MIB);
    CHECK(np_connection_pending(p->connection) > MIB - 11 * KIB);
    np_error error;
    uint8_t *data = pattern_new(20 * KIB, 0);
    server_lock(s);
    CHECK_EQUAL(np_connection_write(p->connection, data, 20 * KIB, NULL, NULL, &error), NP_E_FULL);
    server_unlock(s);
    CHECK_EQUAL(error.value, 20 * KIB);
    CHECK_EQUAL(error.limit, MIB);
    free(data);
    receive_numbered(c, 10 * KIB, 0, count);
    UNTIL_EQUAL(np_connection_pending(p->connection), 0);
    CHECK_EQUAL(write_numbered(p, 10 * KIB, 7, NULL), NP_OK);
    receive_numbered(c, 10 * KIB, 7, 1);
    UNTIL_EQUAL(np_load64(&p->sent), count);
    client_close(c);
    server_end(s);
}

static void one_message_always_fits_an_empty_queue(void) {
    server *s = server_new();
    s->config.max_pending_bytes = 1000;
    s->config.max_message_size = 2 * MIB;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    CHECK_EQUAL(write_numbered(p, 2 * MIB + 1, 1, NULL), NP_E_FULL);
    CHECK_EQUAL(write_numbered(p, 2 * MIB, 1, NULL), NP_OK);
    CHECK_EQUAL(write_numbered(p, 2 * MIB, 2, NULL), NP_E_FULL);
    receive_numbered(c, 2 * MIB, 1, 1);
    UNTIL_EQUAL(np_connection_pending(p->connection), 0);
    CHECK_EQUAL(write_numbered(p, 2 * MIB, 3, NULL), NP_OK);
    receive_numbered(c, 2 * MIB, 3, 1);
    client_close(c);
    server_end(s);
}

static void messages_beyond_the_size_limit_end_their_connection(void) {
    server *s = server_new();
    s->config.max_message_size = 100000;
    s->on_event = server_echo;
    server_start(s);
    client *bad = server_client(s);
    peer *p = server_peer(s, 0);
    client *good = server_client(s);
    client_exchange(bad, 100000, 1);
    uint8_t *data = pattern_new(100001, 0);
    client_send(bad, data, 100001);
    free(data);
    np_error end = peer_end(p);
    CHECK_EQUAL(end.code, NP_E_TOO_LARGE);
    CHECK_EQUAL(end.activity, NP_DOING_READ);
    CHECK_EQUAL(end.value, 100001);
    CHECK_EQUAL(end.limit, 100000);
    CHECK_EQUAL(np_load64(&p->errors), 1);
    CHECK(client_receive(bad, TIMEOUT_MS) < 0);
    client_exchange(good, 100000, 2);
    client_close(bad);
    client_close(good);
    server_end(s);
}

/* ---- a peer that sends and never reads --------------------------------- */

typedef struct flood {
    client *client;
    size_t size;
    unsigned count;
    np_thread thread;
} flood;

static void send_flood(void *arg) {
    flood *f = arg;
    uint8_t *data = pattern_new(f->size, 0);
    for (unsigned i = 0; i < f->count; i++) {
        pattern_fill(data, f->size, i);
        if (!client_send(f->client, data, f->size))
            break;
    }
    free(data);
}

/* The number of messages, when it has not changed for a while. */
static uint64_t settled_messages(peer *p) {
    uint64_t before, now = np_load64(&p->messages);
    do {
        before = now;
        system_sleep(100);
        now = np_load64(&p->messages);
    } while (now != before);
    return now;
}

static void a_peer_that_never_reads_stalls_itself_only(void) {
    enum { SIZE = 4000, COUNT = 2000 };
    server *s = server_new();
    s->config.write_high_water = 256 * KIB;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    flood f = {.client = c, .size = SIZE, .count = COUNT};
    REQUIRE_EQUAL(np_thread_start(&f.thread, send_flood, &f), 0);
    UNTIL(np_connection_pending(p->connection) > 256 * KIB);
    uint64_t got = settled_messages(p);
    CHECK(got < COUNT);
    CHECK(np_connection_pending(p->connection) < 2 * MIB);
    client *other = server_client(s);
    client_exchange(other, 1000, 1);
    receive_numbered(c, SIZE, 0, COUNT);
    np_thread_join(f.thread);
    UNTIL(np_load64(&p->drained) > 0);
    CHECK_EQUAL(np_load64(&p->messages), COUNT);
    client_close(other);
    client_close(c);
    server_end(s);
}

static void drained_follows_every_time_above_the_high_water(void) {
    server *s = server_new();
    s->config.write_high_water = MIB;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    for (unsigned round = 1; round <= 3; round++) {
        CHECK_EQUAL(write_numbered(p, 3 * MIB, round, NULL), NP_OK);
        CHECK(np_connection_pending(p->connection) > MIB);
        system_sleep(10);
        CHECK_EQUAL(np_load64(&p->drained), round - 1);
        receive_numbered(c, 3 * MIB, round, 1);
        UNTIL_EQUAL(np_load64(&p->drained), round);
    }
    client_close(c);
    server_end(s);
}

/* No smaller mark makes it stall. */
static void the_smallest_high_water_still_flows(void) {
    enum { COUNT = 500, SIZE = 3000 };
    server *s = server_new();
    s->config.write_high_water = 1;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    flood f = {.client = c, .size = SIZE, .count = COUNT};
    REQUIRE_EQUAL(np_thread_start(&f.thread, send_flood, &f), 0);
    receive_numbered(c, SIZE, 0, COUNT);
    np_thread_join(f.thread);
    UNTIL(np_load64(&server_peer(s, 0)->drained) > 0);
    client_close(c);
    server_end(s);
}

/* ---- broadcast --------------------------------------------------------- */

static void take_cookie(void *c) { np_add32(&((cookie *)c)->expected, 1); }

static void drop_cookie(void *c) { np_add32(&((cookie *)c)->dropped, 1); }

static size_t broadcast(server *s, size_t size, unsigned number, cookie *c) {
    np_buffer *b = server_buffer(s, size, number);
    server_lock(s);
    size_t count = np_endpoint_broadcast(s->endpoint, b, c, take_cookie, drop_cookie);
    np_endpoint_discard(s->endpoint);
    server_unlock(s);
    server_drop(s, b);
    return count;
}

static void a_broadcast_reaches_everybody(void) {
    enum { CLIENTS = 20 };
    server *s = server_new();
    server_start(s);
    CHECK_EQUAL(broadcast(s, 10, 0, server_cookie(s)), 0);
    client *clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = server_client(s);
        server_peer(s, i);
    }
    cookie *c = server_cookie(s);
    CHECK_EQUAL(broadcast(s, 1000, 1, c), CLIENTS);
    CHECK_EQUAL(broadcast(s, 100000, 2, NULL), CLIENTS);
    CHECK_EQUAL(broadcast(s, 0, 3, c), CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        receive_numbered(clients[i], 1000, 1, 1);
        receive_numbered(clients[i], 100000, 2, 1);
        receive_numbered(clients[i], 0, 3, 1);
    }
    UNTIL_EQUAL(np_load32(&c->sent), 2 * CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_close(clients[i]);
    server_end(s);
}

static void a_broadcast_waits_for_nobody(void) {
    enum { CLIENTS = 4, COUNT = 100, SIZE = 65536 };
    server *s = server_new();
    s->config.max_pending_bytes = MIB;
    s->config.max_message_size = MIB;
    server_start(s);
    client *clients[CLIENTS];       /* the first never reads */
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = server_client(s);
        server_peer(s, i);
    }
    cookie *c = server_cookie(s);
    unsigned refused = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        size_t count = broadcast(s, SIZE, i, c);
        CHECK(count == CLIENTS || count == CLIENTS - 1);
        refused += count < CLIENTS;
        for (unsigned k = 1; k < CLIENTS; k++)
            receive_numbered(clients[k], SIZE, i, 1);
    }
    CHECK(refused > COUNT / 2);
    peer *slow = NULL;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (np_connection_pending(server_peer(s, i)->connection) > MIB / 2)
            slow = server_peer(s, i);
    REQUIRE(slow != NULL);
    UNTIL_EQUAL(np_load64(&slow->errors), refused);
    CHECK_EQUAL(peer_error(slow).code, NP_E_FULL);
    CHECK_EQUAL(peer_error(slow).activity, NP_DOING_BROADCAST);
    CHECK_EQUAL(np_load32(&c->failed), refused);
    CHECK(np_connection_is_open(slow->connection));
    for (unsigned i = 0; i < CLIENTS; i++)
        if (server_peer(s, i) != slow)
            CHECK_EQUAL(np_load64(&server_peer(s, i)->errors), 0);
    receive_numbered(clients[0], SIZE, 0, COUNT - refused);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_close(clients[i]);
    server_end(s);
}

const test writes_tests[] = {
    {"every cookie comes back once and in order", every_cookie_comes_back_once_and_in_order,
     EVERY_MODE},
    {"writes without a cookie are reported when wanted",
     writes_without_a_cookie_are_reported_when_wanted, EVERY_MODE},
    {"nothing may be written from nowhere", nothing_may_be_written_from_nowhere, EVERY_MODE},
    {"several messages are one write", several_messages_are_one_write, EVERY_MODE},
    {"several messages are accepted together or not",
     several_messages_are_accepted_together_or_not, EVERY_MODE},
    {"held buffers are given back once", held_buffers_are_given_back_once, EVERY_MODE},
    {"threads may write at once", threads_may_write_at_once, EVERY_MODE},
    {"a handler may write to another connection", a_handler_may_write_to_another_connection,
     EVERY_MODE},
    {"writes beyond the limit are refused", writes_beyond_the_limit_are_refused, EVERY_MODE},
    {"one message always fits an empty queue", one_message_always_fits_an_empty_queue, FREE_MODES},
    {"messages beyond the size limit end their connection",
     messages_beyond_the_size_limit_end_their_connection, EVERY_MODE},
    {"a peer that never reads stalls itself only", a_peer_that_never_reads_stalls_itself_only,
     EVERY_MODE},
    {"DRAINED follows every time above the high water",
     drained_follows_every_time_above_the_high_water, EVERY_MODE},
    {"the smallest high water still flows", the_smallest_high_water_still_flows, EVERY_MODE},
    {"a broadcast reaches everybody", a_broadcast_reaches_everybody, EVERY_MODE},
    {"a broadcast waits for nobody", a_broadcast_waits_for_nobody, EVERY_MODE},
    {0},
};
