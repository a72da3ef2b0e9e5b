/* Messages that do not come, or come too slowly. */
#include <stdlib.h>
#include <string.h>

#include "frame.h"
#include "internal.h"
#include "linux_suites.h"
#include "server.h"
#include "system.h"

#define MILLISECOND INT64_C(1000000)

static server *serve(int64_t timeout_ms) {
    server *s = server_new();
    s->on_event = server_echo;
    s->config.message_timeout_ns = timeout_ms * MILLISECOND;
    server_start(s);
    return s;
}

/* A header, and so many bytes of its message. */
static void send_part(client *c, uint64_t length, size_t part) {
    uint8_t *bytes = pattern_new(NP_HEADER_MAX + part, 0);
    unsigned header = np_frame_encode(bytes, length);
    CHECK(client_send_raw(c, bytes, header + part));
    free(bytes);
}

static void a_message_that_does_not_go_on_ends_its_connection(void) {
    static const struct {
        uint64_t length, part;
    } cases[] = {{10, 0}, {10, 9}, {65535, 1000}, {65536, 0}, {65536, 1000}, {3 << 20, 100000}};
    server *s = serve(200);
    client *good = server_client(s);
    server_peer(s, 0);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        client *c = server_client(s);
        peer *p = server_peer(s, i + 1);
        client_exchange(c, 10, i);
        int64_t begin = np_now();
        send_part(c, cases[i].length, cases[i].part);
        np_error end = peer_end(p);
        CHECK(np_now() - begin >= 200 * MILLISECOND);
        CHECK_EQUAL(end.code, NP_E_TIMEOUT);
        CHECK_EQUAL(end.activity, NP_DOING_READ);
        CHECK_EQUAL(end.value, cases[i].part);
        CHECK_EQUAL(end.limit, 200 * MILLISECOND);
        CHECK_EQUAL(np_load64(&p->errors), 1);
        CHECK(client_receive(c, TIMEOUT_MS) < 0);
        client_close(c);
        client_exchange(good, 100000, i);
    }
    client_close(good);
    server_end(s);
}

static void a_byte_now_and_then_does_not_help(void) {
    server *s = serve(300);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    send_part(c, 1000, 0);
    unsigned sent = 0;
    for (; !np_load32(&p->disconnected) && client_send_raw(c, "x", 1); sent++)
        system_sleep(20);
    np_error end = peer_end(p);
    CHECK_EQUAL(end.code, NP_E_TIMEOUT);
    CHECK(end.value <= sent + 1);
    client_close(c);
    server_end(s);
}

/* Twice as long as the timeout. */
static void a_message_may_take_long_while_it_moves(void) {
    enum { PARTS = 30, PART = NP_PROGRESS };
    server *s = serve(1500);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    uint8_t *bytes = pattern_new(PART, 0);
    send_part(c, (uint64_t)PARTS * PART, 0);
    for (unsigned i = 0; i < PARTS; i++) {
        system_sleep(100);
        CHECK(client_send_raw(c, bytes, PART));
    }
    UNTIL_EQUAL(np_load64(&p->messages), 1);
    CHECK_EQUAL(np_load64(&p->bytes), PARTS * PART);
    CHECK_EQUAL(np_load64(&p->errors), 0);
    free(bytes);
    client_close(c);
    server_end(s);
}

/* Each message has a time of its own, and between them there is no limit. */
static void small_messages_may_follow_each_other_slowly(void) {
    enum { COUNT = 20 };
    uint8_t header[NP_HEADER_MAX];
    server *s = server_new();
    s->config.message_timeout_ns = 1000 * MILLISECOND;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    np_frame_encode(header, 4);
    CHECK(client_send_raw(c, header, 3));
    for (unsigned i = 0; i < COUNT; i++) {
        system_sleep(100);
        CHECK(client_send_raw(c, header + 3, 1));
        CHECK(client_send_raw(c, "text", 4));
        CHECK(client_send_raw(c, header, 3));
    }
    UNTIL_EQUAL(np_load64(&p->messages), COUNT);
    CHECK(client_send_raw(c, header + 3, 1));
    CHECK(client_send_raw(c, "text", 4));
    system_sleep(1500);
    CHECK(client_send(c, "text", 4));
    UNTIL_EQUAL(np_load64(&p->messages), COUNT + 2);
    CHECK_EQUAL(np_load64(&p->errors), 0);
    client_close(c);
    server_end(s);
}

/* The first message is held until somebody asks for it, and meanwhile nothing
 * is read: the half of the second one that came is nobody's fault. */
static void time_stands_still_while_nothing_is_read(void) {
    server *s = server_new();
    s->config.continuous_read = false;
    s->config.message_timeout_ns = 200 * MILLISECOND;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    uint8_t bytes[] = {0, 0, 0, 1, 'a', 0, 0, 0, 2, 'b'};
    CHECK(client_send_raw(c, bytes, sizeof bytes));
    system_sleep(600);
    CHECK(np_connection_is_open(p->connection));
    CHECK_EQUAL(np_load64(&p->errors), 0);
    CHECK_EQUAL(peer_read(p, NULL), NP_OK);
    UNTIL_EQUAL(np_load64(&p->messages), 1);
    CHECK_EQUAL(peer_end(p).code, NP_E_TIMEOUT);
    client_close(c);
    server_end(s);
}

static void without_a_limit_a_part_may_wait(void) {
    server *s = serve(0);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    send_part(c, 10, 5);
    system_sleep(500);
    CHECK(client_send_raw(c, "01234", 5));
    UNTIL_EQUAL(np_load64(&p->messages), 1);
    client_close(c);
    server_end(s);
}

const test message_time_tests[] = {
    {"a message that does not go on ends its connection",
     a_message_that_does_not_go_on_ends_its_connection, EVERY_MODE},
    {"a byte now and then does not help", a_byte_now_and_then_does_not_help, MODE_FREE},
    {"a message may take long while it moves", a_message_may_take_long_while_it_moves, MODE_FREE},
    {"small messages may follow each other slowly", small_messages_may_follow_each_other_slowly,
     MODE_FREE | MODE_RUN},
    {"time stands still while nothing is read", time_stands_still_while_nothing_is_read,
     EVERY_MODE},
    {"without a limit a part may wait", without_a_limit_a_part_may_wait, MODE_FREE},
    {0},
};
