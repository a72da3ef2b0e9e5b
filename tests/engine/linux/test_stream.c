/* Frames on a socket, cut and bent in every way a peer can. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"
#include "linux_suites.h"
#include "server.h"
#include "system.h"

/* Sends the bytes and leaves: how the server saw that end. */
static np_error leave_after(server *s, const void *bytes, size_t size) {
    size_t number = server_count(s);
    client *c = server_client(s);
    peer *p = server_peer(s, number);
    CHECK(client_send_raw(c, bytes, size));
    client_close(c);
    np_error end = peer_end(p);
    CHECK_EQUAL(np_load64(&p->messages), 0);
    CHECK_EQUAL(np_load64(&p->errors), end.code != NP_OK);
    return end;
}

static void a_client_may_vanish_inside_a_header(void) {
    static const uint8_t short_form[] = {0, 0, 0},
                         long_form[] = {255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 1};
    server *s = server_new();
    server_start(s);
    CHECK_EQUAL(leave_after(s, "", 0).code, NP_OK);
    for (unsigned size = 1; size <= sizeof short_form; size++) {
        np_error end = leave_after(s, short_form, size);
        CHECK_EQUAL(end.code, NP_E_RESET);
        CHECK_EQUAL(end.activity, NP_DOING_READ);
        CHECK_EQUAL(end.value, size);
        CHECK_EQUAL(end.limit, 0);
    }
    for (unsigned size = 4; size <= sizeof long_form; size++) {
        np_error end = leave_after(s, long_form, size);
        CHECK_EQUAL(end.code, NP_E_RESET);
        CHECK_EQUAL(end.value, size);
    }
    server_end(s);
}

/* Below and above where a message gets a buffer of the host's, and beyond what
 * is reserved for it at first. */
static void a_client_may_vanish_inside_a_body(void) {
    static const uint32_t lengths[] = {1, 10, 1000, 65535, 65536, 200000, 3 << 20};
    static const uint32_t parts[] = {0, 1, 500, 65000, 199999, 1 << 20, 2 << 20};
    uint8_t *bytes = pattern_new(4 << 20, 0);
    server *s = server_new();
    server_start(s);
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        np_frame_encode(bytes, lengths[i]);
        for (unsigned k = 0; k < sizeof parts / sizeof *parts && parts[k] < lengths[i]; k++) {
            np_error end = leave_after(s, bytes, 4 + parts[k]);
            CHECK_EQUAL(end.code, NP_E_RESET);
            CHECK_EQUAL(end.activity, NP_DOING_READ);
            CHECK_EQUAL(end.value, parts[k]);
            CHECK_EQUAL(end.limit, lengths[i]);
        }
    }
    free(bytes);
    server_end(s);
}

static void a_length_that_cannot_be_ends_the_connection(void) {
    static const uint8_t bad[][12] = {
        {255, 255, 255, 254},
        {128, 0, 0, 0},
        {255, 0, 0, 0},
        {255, 255, 255, 255, 128, 0, 0, 0, 0, 0, 0, 0},
    };
    static const uint64_t values[] = {0xfffffffe, 0x80000000, 0xff000000, UINT64_C(1) << 63};
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *good = server_client(s);
    server_peer(s, 0);
    for (unsigned i = 0; i < 4; i++) {
        client *c = server_client(s);
        peer *p = server_peer(s, i + 1);
        client_exchange(c, 10, i);
        CHECK(client_send_raw(c, bad[i], sizeof bad[i]));
        np_error end = peer_end(p);
        CHECK_EQUAL(end.code, NP_E_PROTOCOL);
        CHECK_EQUAL(end.activity, NP_DOING_READ);
        CHECK(end.value == values[i]);
        CHECK_EQUAL(np_load64(&p->errors), 1);
        CHECK(client_receive(c, TIMEOUT_MS) < 0);
        client_close(c);
        client_exchange(good, 10, i);
    }
    client_close(good);
    server_end(s);
}

static void a_length_beyond_the_limit_is_refused_without_its_body(void) {
    static const uint64_t lengths[] = {(64 << 20) + 1, INT32_MAX, UINT64_C(1) << 31,
                                       UINT64_C(1) << 40, INT64_MAX};
    server *s = server_new();
    server_start(s);
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint8_t header[NP_HEADER_MAX];
        unsigned size = np_frame_encode(header, lengths[i]);
        client *c = server_client(s);
        CHECK(client_send_raw(c, header, size));
        np_error end = peer_end(server_peer(s, i));
        CHECK_EQUAL(end.code, NP_E_TOO_LARGE);
        CHECK(end.value == lengths[i]);
        CHECK_EQUAL(end.limit, 64 << 20);
        CHECK(client_receive(c, TIMEOUT_MS) < 0);
        client_close(c);
    }
    server_end(s);
}

/* No limit is no reason to believe a peer. */
static void a_length_without_a_body_takes_no_memory(void) {
    uint8_t header[NP_HEADER_MAX];
    server *s = server_new();
    s->config.max_message_size = UINT64_MAX;
    server_start(s);
    np_error end = leave_after(s, header, np_frame_encode(header, UINT64_C(1) << 50));
    CHECK_EQUAL(end.code, NP_E_RESET);
    CHECK(end.limit == UINT64_C(1) << 50);
    server_end(s);
}

static void bytes_may_come_one_at_a_time(void) {
    uint8_t bytes[4 + 50];
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    for (unsigned round = 0; round < 5; round++) {
        np_frame_encode(bytes, 50);
        pattern_fill(bytes + 4, 50, round);
        for (unsigned i = 0; i < sizeof bytes; i++)
            CHECK(client_send_raw(c, bytes + i, 1));
        client_expect_pattern(c, 50, round);
    }
    client_close(c);
    server_end(s);
}

typedef struct pieces {
    client *client;
    const uint8_t *stream;
    size_t size, piece;
    np_thread thread;
} pieces;

static void send_pieces(void *arg) {
    pieces *x = arg;
    for (size_t at = 0; at < x->size; at += x->piece) {
        size_t left = x->size - at;
        CHECK(client_send_raw(x->client, x->stream + at, left < x->piece ? left : x->piece));
    }
}

/* Any cut of a stream of messages of all sizes gives the same messages. */
static void messages_may_be_cut_anywhere(void) {
    static const size_t sizes[] = {0, 5, 0, 0, 70000, 1, 4096, 200000, 3, 3 << 20, 1000, 0};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    static const size_t cuts[] = {4 << 20, 65536, 4099, 977};
    size_t total = 0;
    uint8_t *stream = malloc(4 << 20);
    REQUIRE(stream != NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        total += np_frame_encode(stream + total, sizes[i]);
        pattern_fill(stream + total, sizes[i], i);
        total += sizes[i];
    }
    server *s = server_new();
    s->config.message_buffer_size = 4096;
    s->config.write_high_water = 0;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    for (unsigned cut = 0; cut < sizeof cuts / sizeof *cuts; cut++) {
        pieces x = {.client = c, .stream = stream, .size = total, .piece = cuts[cut]};
        REQUIRE_EQUAL(np_thread_start(&x.thread, send_pieces, &x), 0);
        for (unsigned i = 0; i < COUNT; i++)
            client_expect_pattern(c, sizes[i], i);
        np_thread_join(x.thread);
    }
    free(stream);
    client_close(c);
    server_end(s);
}

static void the_long_form_of_a_header_is_understood(void) {
    static const uint8_t bytes[] = {255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 3, 'a', 'b', 'c'};
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    CHECK(client_send_raw(c, bytes, sizeof bytes));
    client_expect(c, "abc");
    for (unsigned i = 0; i < sizeof bytes; i++)
        CHECK(client_send_raw(c, bytes + i, 1));
    client_expect(c, "abc");
    client_close(c);
    server_end(s);
}

static void a_client_may_end_its_sending_and_read_on(void) {
    enum { SIZE = 1 << 20 };
    server *s = server_new();
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    uint8_t *data = pattern_new(SIZE, 1);
    CHECK(client_send(c, data, SIZE));
    CHECK(client_send(c, data, 100));
    CHECK(client_end_sending(c));
    client_expect_pattern(c, SIZE, 1);
    client_expect_pattern(c, 100, 1);
    CHECK_EQUAL(client_receive(c, TIMEOUT_MS), CLIENT_END);
    free(data);
    CHECK_EQUAL(peer_end(server_peer(s, 0)).code, NP_OK);
    client_close(c);
    server_end(s);
}

/* A peer that has shut its reading side only: what it sent still counts. */
static void what_was_sent_before_a_failed_write_is_delivered(void) {
    server *s = server_new();
    s->config.continuous_read = false;
    server_start(s);
    client *c = server_client(s);
    peer *p = server_peer(s, 0);
    for (unsigned i = 0; i < 3; i++)
        CHECK(client_send(c, "abc", 3));
    system_sleep(30);
    client_close(c);
    cookie *lost = server_cookie(s);
    np_code code = peer_write(p, "x", 1, lost);
    CHECK_EQUAL(code, NP_OK);
    UNTIL_EQUAL(np_load32(&lost->failed), 1);
    CHECK(!np_connection_is_open(p->connection));
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQUAL(peer_read(p, NULL), NP_OK);
    CHECK_EQUAL(peer_end(p).code, NP_E_BROKEN);
    CHECK_EQUAL(np_load64(&p->messages), 3);
    server_end(s);
}

static void kernel_buffers_have_the_size_asked_for(void) {
    server *s = server_new();
    s->config.kernel_buffer_size = 32768;
    s->on_event = server_echo;
    server_start(s);
    client *c = server_client(s);
    int size = 0;
    socklen_t length = sizeof size;
    int fd = (int)np_connection_handle(server_peer(s, 0)->connection);
    CHECK_EQUAL(getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &length), 0);
    CHECK_EQUAL(size, 2 * 32768);       /* the system counts its overhead */
    client_exchange(c, 1000, 1);
    client_close(c);
    server_end(s);
}

static void the_peer_has_a_pid_and_a_uid(void) {
    server *s = server_new();
    server_start(s);
    client *c = server_client(s);
    np_peer who;
    CHECK_EQUAL(np_connection_peer(server_peer(s, 0)->connection, &who), NP_OK);
    CHECK_EQUAL(who.pid, getpid());
    CHECK_EQUAL(who.uid, getuid());
    CHECK_EQUAL(who.gid, getgid());
    CHECK_EQUAL(who.sid[0], 0);
    client_close(c);
    server_end(s);
}

const test stream_tests[] = {
    {"a client may vanish inside a header", a_client_may_vanish_inside_a_header, EVERY_MODE},
    {"a client may vanish inside a body", a_client_may_vanish_inside_a_body, EVERY_MODE},
    {"a length that cannot be ends the connection", a_length_that_cannot_be_ends_the_connection,
     EVERY_MODE},
    {"a length beyond the limit is refused without its body",
     a_length_beyond_the_limit_is_refused_without_its_body, EVERY_MODE},
    {"a length without a body takes no memory", a_length_without_a_body_takes_no_memory,
     EVERY_MODE},
    {"bytes may come one at a time", bytes_may_come_one_at_a_time, EVERY_MODE},
    {"messages may be cut anywhere", messages_may_be_cut_anywhere, EVERY_MODE},
    {"the long form of a header is understood", the_long_form_of_a_header_is_understood,
     FREE_MODES},
    {"a client may end its sending and read on", a_client_may_end_its_sending_and_read_on,
     EVERY_MODE},
    {"what was sent before a failed write is delivered",
     what_was_sent_before_a_failed_write_is_delivered, EVERY_MODE},
    {"kernel buffers have the size asked for", kernel_buffers_have_the_size_asked_for, MODE_FREE},
    {"the peer has a pid and a uid", the_peer_has_a_pid_and_a_uid, MODE_FREE},
    {0},
};
