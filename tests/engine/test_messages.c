/* Messages of every size, in order, from many clients at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "server.h"
#include "suites.h"
#include "system.h"

enum { MIB = 1 << 20, READ_SIZE = 8192 };

static void an_echo_server_answers(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    for (unsigned i = 0; i < 100; i++)
        client_exchange(c, 64, i);
    peer *p = server_peer(s, 0);
    UNTIL_EQUAL(np_load64(&p->messages), 100);
    CHECK_EQUAL(np_load64(&p->bytes), 6400);
    np_stats stats;
    UNTIL((np_endpoint_stats(s->endpoint, &stats), stats.messages_out == 100));
    CHECK_EQUAL(stats.connections, 1);
    CHECK_EQUAL(stats.messages_in, 100);
    CHECK_EQUAL(stats.bytes_in, 6400);
    CHECK_EQUAL(stats.bytes_out, 6400);
    CHECK_EQUAL(stats.errors, 0);
    client_close(c);
    CHECK_EQUAL(peer_end(p).code, NP_OK);
    server_end(s);
}

static void every_size_arrives_whole(void) {
    static const size_t sizes[] = {0,
                                   1,
                                   3,
                                   4,
                                   5,
                                   127,
                                   128,
                                   129,
                                   4095,
                                   4096,
                                   4097,
                                   READ_SIZE - 5,
                                   READ_SIZE - 4,
                                   READ_SIZE - 1,
                                   READ_SIZE,
                                   READ_SIZE + 1,
                                   32767,
                                   32768,
                                   65535,
                                   65536,
                                   65537,
                                   131072,
                                   262144,
                                   MIB - 1,
                                   MIB,
                                   MIB + 1};
    server *s = server_new();
    s->config.message_buffer_size = READ_SIZE;
    s->config.write_high_water = 0;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        client_exchange(c, sizes[i], i + 1);
    client_close(c);
    server_end(s);
}

/* Client and server both send more than the system buffers. */
static void exchange_large(server *s, size_t size, unsigned seed) {
    client *c = server_client(s);
    sender x;
    sender_start(&x, c, size, seed, 1);
    client_expect_pattern(c, size, seed);
    CHECK(sender_join(&x));
    client_close(c);
}

static void large_messages_arrive_whole(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    exchange_large(s, 16 * MIB, 7);
    exchange_large(s, 16 * MIB + 13, 8);
    server_end(s);
}

static void the_largest_message_arrives_whole(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    exchange_large(s, 64 * MIB, 9);
    server_end(s);
}

static void the_host_may_keep_a_messages_buffer(void) {
    server *s = server_new();
    s->take_messages = true;
    server_start(s);
    client *c = server_client(s);
    static const size_t sizes[] = {10, 70000, 3 * MIB, 100000, 5};
    for (unsigned i = 0; i < 5; i++) {
        uint8_t *data = pattern_new(sizes[i], i);
        CHECK(client_send(c, data, sizes[i]));
        free(data);
    }
    peer *p = server_peer(s, 0);
    UNTIL_EQUAL(np_load64(&p->messages), 5);
    client_close(c);
    peer_end(p);
    server_end(s);
}

/* ---- many messages at once --------------------------------------------- */

static void check_number(peer *p, np_event *e) {
    if (e->kind != NP_EVENT_MESSAGE)
        return;
    uint32_t number = 0;
    CHECK(e->u.message.size >= 4);
    for (unsigned i = 0; i < 4; i++)
        number |= (uint32_t)e->u.message.data[i] << (8 * i);
    CHECK_EQUAL(number, np_load64(&p->user));
    CHECK(pattern_is(e->u.message.data, e->u.message.size, number));
    np_add64(&p->user, 1);
}

static void messages_come_in_order(void) {
    enum { CLIENTS = 4 };
    static const size_t sizes[CLIENTS] = {4, 100, 5000, 70000};
    static const unsigned counts[CLIENTS] = {5000, 2500, 250, 50};
    server *s = server_new();
    s->on_event = check_number;
    server_start(s);
    client *clients[CLIENTS];
    sender senders[CLIENTS];
    uint64_t expected = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = server_client(s);
        expected += counts[i];
        sender_start(&senders[i], clients[i], sizes[i], 0, counts[i]);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        CHECK(sender_join(&senders[i]));
        client_close(clients[i]);
    }
    uint64_t got = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        CHECK_EQUAL(peer_end(server_peer(s, i)).code, NP_OK);
        got += np_load64(&server_peer(s, i)->messages);
    }
    CHECK_EQUAL(got, expected);
    server_end(s);
}

/* What a client sees when it sends first and reads afterwards: everything, in
 * order, though the server has to wait for it in between. */
static void answers_come_in_order(void) {
    enum { COUNT = 3000, SIZE = 1000 };
    server *s = server_new();
    s->config.write_high_water = 65536;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    sender x;
    sender_start(&x, c, SIZE, 0, COUNT);
    client_expect_patterns(c, SIZE, 0, COUNT);
    CHECK(sender_join(&x));
    client_close(c);
    server_end(s);
}

static void two_hundred_clients_are_served_at_once(void) {
    enum { CLIENTS = 200 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = server_client(s);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < CLIENTS; i++) {
            uint8_t *data = pattern_new(200 + i, i);
            CHECK(client_send(clients[i], data, 200 + i));
            free(data);
        }
        for (unsigned i = 0; i < CLIENTS; i++)
            client_expect_pattern(clients[i], 200 + i, i);
    }
    np_stats stats;
    np_endpoint_stats(s->endpoint, &stats);
    CHECK_EQUAL(stats.connections, CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_close(clients[i]);
    for (unsigned i = 0; i < CLIENTS; i++)
        CHECK_EQUAL(peer_end(server_peer(s, i)).code, NP_OK);
    server_end(s);
}

enum { VISITS = 100 };

static void visit(crew *w, unsigned number) {
    (void)number;
    for (unsigned i = 0; i < VISITS; i++)
        client_visit(server_address(w->with), 1);
}

static void clients_come_and_go(void) {
    enum { VISITORS = 4 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    crew visitors;
    crew_start(&visitors, VISITORS, visit, s);
    crew_join(&visitors);
    for (unsigned i = 0; i < VISITORS * VISITS; i++)
        CHECK_EQUAL(np_load64(&server_peer(s, i)->messages) <= 1, true);
    server_end(s);
}

/* More workers than a machine has processors, and than an epoll descriptor
 * list of one listener might hold. */
static void a_hundred_workers_share_the_clients(void) {
    enum { CLIENTS = 50 };
    server *s = server_new();
    s->config.threads = 100;
    s->on_event = server_echo;
    server_start(s);
    CHECK_EQUAL(np_load32(&s->threads_begun), 100);
    client *clients[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = server_client(s);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_exchange(clients[i], 100, i);
    for (unsigned i = 0; i < CLIENTS; i++)
        client_close(clients[i]);
    server_end(s);
}

static void spinning_workers_serve_as_well(void) {
    server *s = server_new();
    s->config.spin_us = 200;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    for (unsigned i = 0; i < 200; i++)
        client_exchange(c, 64, i);
    client_close(c);
    server_end(s);
}

/* ---- byte mode --------------------------------------------------------- */

static void bytes_flow_without_messages(void) {
    enum { SIZE = 300000 };
    server *s = server_new();
    s->config.byte_mode = true;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client_bytes(s);
    sender x;
    sender_start(&x, c, SIZE, 5, 1);
    uint8_t *all = malloc(SIZE);
    REQUIRE(all != NULL);
    size_t got = 0;
    while (got < SIZE && !harness_failed()) {
        int64_t n = client_receive(c, TIMEOUT_MS);
        CHECK(n > 0 && got + (size_t)n <= SIZE);
        if (n > 0 && got + (size_t)n <= SIZE)
            memcpy(all + got, client_data(c), (size_t)n);
        got += (size_t)n;
    }
    CHECK(pattern_is(all, SIZE, 5));
    CHECK(sender_join(&x));
    free(all);
    client_close(c);
    server_end(s);
}

/* A stream has no place for them: they are handed over at once. */
static void empty_writes_of_a_byte_stream_are_nothing(void) {
    server *s = server_new();
    s->config.byte_mode = true;
    server_start(s);
    client *c = server_client_bytes(s);
    peer *p = server_peer(s, 0);
    cookie *first = server_cookie(s), *second = server_cookie(s), *third = server_cookie(s);
    CHECK_EQUAL(peer_write(p, "", 0, first), NP_OK);
    UNTIL_EQUAL(np_load32(&first->sent), 1);
    CHECK_EQUAL(peer_write(p, "abc", 3, second), NP_OK);
    CHECK_EQUAL(peer_write(p, "", 0, third), NP_OK);
    client_expect(c, "abc");
    UNTIL_EQUAL(np_load32(&third->sent), 1);
    client_close(c);
    server_end(s);
}

const test messages_tests[] = {
    {"an echo server answers every message", an_echo_server_answers, EVERY_MODE},
    {"a message of any size arrives whole", every_size_arrives_whole, EVERY_MODE},
    {"a message of 16 MiB arrives whole", large_messages_arrive_whole, MODE_FREE | MODE_RUN},
    {"a message of 64 MiB arrives whole", the_largest_message_arrives_whole, MODE_FREE},
    {"the host may keep a message's buffer", the_host_may_keep_a_messages_buffer, EVERY_MODE},
    {"messages come in order", messages_come_in_order, EVERY_MODE},
    {"answers come in order", answers_come_in_order, EVERY_MODE},
    {"two hundred clients are served at once", two_hundred_clients_are_served_at_once, EVERY_MODE},
    {"clients come and go", clients_come_and_go, EVERY_MODE},
    {"a hundred workers share the clients", a_hundred_workers_share_the_clients, MODE_FREE},
    {"spinning workers serve as well", spinning_workers_serve_as_well, MODE_MANY | MODE_RUN},
    {"bytes flow without messages in byte mode", bytes_flow_without_messages, EVERY_MODE},
    {"empty writes of a byte stream are nothing", empty_writes_of_a_byte_stream_are_nothing,
     FREE_MODES},
    {0},
};
