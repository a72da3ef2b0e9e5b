/* Limits of a connection, and what follows when a peer does not read. */
#include <stdlib.h>

#include "server.h"
#include "suites.h"
#include "system.h"

enum { KIB = 1 << 10, MIB = 1 << 20 };

static void writes_beyond_the_limit_are_refused(void) {
    server *s = server_new();
    s->config.max_pending_bytes = MIB;
    s->config.max_message_size = 64 * KIB;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    unsigned count = 0;
    while (count < 1000 && peer_write_pattern(p, 10 * KIB, count, server_cookie(s)) == NP_OK)
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
    client_expect_patterns(c, 10 * KIB, 0, count);
    UNTIL_EQUAL(np_connection_pending(p->connection), 0);
    CHECK_EQUAL(peer_write_pattern(p, 10 * KIB, 7, NULL), NP_OK);
    client_expect_patterns(c, 10 * KIB, 7, 1);
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
    CHECK_EQUAL(peer_write_pattern(p, 2 * MIB + 1, 1, NULL), NP_E_FULL);
    CHECK_EQUAL(peer_write_pattern(p, 2 * MIB, 1, NULL), NP_OK);
    CHECK_EQUAL(peer_write_pattern(p, 2 * MIB, 2, NULL), NP_E_FULL);
    client_expect_patterns(c, 2 * MIB, 1, 1);
    UNTIL_EQUAL(np_connection_pending(p->connection), 0);
    CHECK_EQUAL(peer_write_pattern(p, 2 * MIB, 3, NULL), NP_OK);
    client_expect_patterns(c, 2 * MIB, 3, 1);
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

static void a_peer_that_never_reads_stalls_itself_only(void) {
    enum { SIZE = 4000, COUNT = 2000 };
    server *s = server_new();
    s->config.write_high_water = 256 * KIB;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    sender x;
    sender_start(&x, c, SIZE, 0, COUNT);
    UNTIL(np_connection_pending(p->connection) > 256 * KIB);
    uint64_t got = peer_settled_messages(p);
    CHECK(got < COUNT);
    CHECK(np_connection_pending(p->connection) < 2 * MIB);
    client *other = server_client(s);
    client_exchange(other, 1000, 1);
    client_expect_patterns(c, SIZE, 0, COUNT);
    CHECK(sender_join(&x));
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
        CHECK_EQUAL(peer_write_pattern(p, 3 * MIB, round, NULL), NP_OK);
        CHECK(np_connection_pending(p->connection) > MIB);
        system_sleep(10);
        CHECK_EQUAL(np_load64(&p->drained), round - 1);
        client_expect_patterns(c, 3 * MIB, round, 1);
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
    sender x;
    sender_start(&x, c, SIZE, 0, COUNT);
    client_expect_patterns(c, SIZE, 0, COUNT);
    CHECK(sender_join(&x));
    UNTIL(np_load64(&server_peer(s, 0)->drained) > 0);
    client_close(c);
    server_end(s);
}

const test limits_tests[] = {
    {"writes beyond the limit are refused", writes_beyond_the_limit_are_refused, EVERY_MODE},
    {"one message always fits an empty queue", one_message_always_fits_an_empty_queue, FREE_MODES},
    {"messages beyond the size limit end their connection",
     messages_beyond_the_size_limit_end_their_connection, EVERY_MODE},
    {"a peer that never reads stalls itself only", a_peer_that_never_reads_stalls_itself_only,
     EVERY_MODE},
    {"DRAINED follows every time above the high water",
     drained_follows_every_time_above_the_high_water, EVERY_MODE},
    {"the smallest high water still flows", the_smallest_high_water_still_flows, EVERY_MODE},
    {0},
};
