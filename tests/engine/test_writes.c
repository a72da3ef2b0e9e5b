/* What the host writes, from anywhere, and how it hears of the end of it. */
#include <stdlib.h>
#include <string.h>

#include "crew.h"
#include "server.h"
#include "suites.h"
#include "system.h"

enum { KIB = 1 << 10, MIB = 1 << 20 };

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
        CHECK_EQUAL(peer_write_pattern(p, 10 * KIB, i, expected_cookies[i]), NP_OK);
    }
    client_expect_patterns(c, 10 * KIB, 0, COUNT);
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
    CHECK_EQUAL(peer_write_pattern(p, 100, 0, NULL), NP_OK);
    client_expect_patterns(c, 100, 0, 1);
    np_endpoint_want_sent(s->endpoint, true);
    for (unsigned i = 1; i <= 10; i++)
        CHECK_EQUAL(peer_write_pattern(p, 100, i, NULL), NP_OK);
    client_expect_patterns(c, 100, 1, 10);
    UNTIL_EQUAL(np_load64(&p->sent), 10);
    np_endpoint_want_sent(s->endpoint, false);
    cookie *last = server_cookie(s);
    CHECK_EQUAL(peer_write_pattern(p, 100, 11, NULL), NP_OK);
    CHECK_EQUAL(peer_write_pattern(p, 100, 12, last), NP_OK);
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
        client_expect_patterns(c, sizes[i], i, 1);
        client_expect(c, "copied");
    }
    UNTIL_EQUAL(np_load64(&p->sent), COUNT / 2);
    client_close(c);
    server_end(s);
}

/* ---- from anywhere ----------------------------------------------------- */

enum { WRITERS = 4, COUNT = 500 };

static void write_some(crew *w, unsigned number) {
    peer *p = w->with;
    for (unsigned i = 0; i < COUNT; i++)
        CHECK_EQUAL(peer_write_pattern(p, 20 + i % 3000, (number << 16) + i,
                                       i % 5 ? NULL : server_cookie(p->server)),
                    NP_OK);
}

static void threads_may_write_at_once(void) {
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    unsigned next[WRITERS] = {0};
    crew writers;
    crew_start(&writers, WRITERS, write_some, server_peer(s, 0));
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
    crew_join(&writers);
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
        client_expect_patterns(b, 1000, 1, 1);
        CHECK(client_send(b, data, 1000));
        client_expect_patterns(a, 1000, 1, 1);
    }
    free(data);
    client_close(a);
    client_close(b);
    server_end(s);
}

/* The second can't be copied: no memory has room for it. */
static void a_message_without_memory_takes_the_others_with_it(void) {
    server *s = server_new();
    s->config.max_pending_bytes = UINT64_MAX;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    cookie *never = server_cookie(s);
    const np_message messages[] = {{"first", 5, NULL}, {"second", SIZE_MAX - 8, NULL}};
    CHECK_EQUAL(peer_write_many(p, messages, 2, never), NP_E_MEMORY);
    CHECK_EQUAL(np_connection_pending(p->connection), 0);
    CHECK_EQUAL(peer_write(p, "third", 5, NULL), NP_OK);
    client_expect(c, "third");
    CHECK_EQUAL(cookie_given(never), 0);
    client_close(c);
    server_end(s);
}

const test writes_tests[] = {
    {"every cookie comes back once and in order", every_cookie_comes_back_once_and_in_order,
     EVERY_MODE},
    {"writes without a cookie are reported when wanted",
     writes_without_a_cookie_are_reported_when_wanted, EVERY_MODE},
    {"nothing may be written from nowhere", nothing_may_be_written_from_nowhere, EVERY_MODE},
    {"several messages are one write", several_messages_are_one_write, EVERY_MODE},
    {"several messages are accepted together or not", several_messages_are_accepted_together_or_not,
     EVERY_MODE},
    {"a message without memory takes the others with it",
     a_message_without_memory_takes_the_others_with_it, FREE_MODES},
    {"held buffers are given back once", held_buffers_are_given_back_once, EVERY_MODE},
    {"threads may write at once", threads_may_write_at_once, EVERY_MODE},
    {"a handler may write to another connection", a_handler_may_write_to_another_connection,
     EVERY_MODE},
    {0},
};
