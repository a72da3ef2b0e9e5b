/* Channels on a socket whose other end is a peer that sends what it likes. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "calls.h"
#include "linux_suites.h"
#include "traffic.h"

static np_channel *channel_on(int *peer) {
    int fds[2], os = 0;
    np_wire wire;
    np_channel *c = NULL;
    np_error error;
    REQUIRE_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    REQUIRE_EQUAL(np_wire_adopt(&wire, fds[0], &os), NP_OK);
    REQUIRE_EQUAL(np_channel_new(&wire, &c, &error), NP_OK);
    *peer = fds[1];
    return c;
}

static void put(int fd, const void *bytes, size_t size) {
    CHECK_EQUAL(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

static void a_timeout_anywhere_loses_nothing(void) {
    int peer;
    np_channel *c = channel_on(&peer);
    uint8_t *bytes = pattern_new(4 + 20000, 5);
    np_frame_encode(bytes, 20000);
    static const size_t cuts[] = {0, 1, 3, 4, 5, 8000, 8196, 8197, 20003, 20004};
    for (unsigned i = 1; i < sizeof cuts / sizeof *cuts; i++) {
        CHECK_EQUAL(receive_code(c, i % 2 ? 0 : 5), NP_E_TIMEOUT);
        put(peer, bytes + cuts[i - 1], cuts[i] - cuts[i - 1]);
    }
    np_error error;
    REQUIRE_EQUAL(receive_begin(c, TIMEOUT_MS, &error), NP_OK);
    CHECK_EQUAL(c->in.arrived, 20000);
    CHECK(memcmp(c->in.data, bytes + 4, 20000) == 0);
    free(c->in.owner);
    np_channel_received(c);
    np_channel_receive_end(c);
    free(bytes);
    channel_end(c);
    close(peer);
}

static void a_peer_may_leave_anywhere(void) {
    static const uint8_t bytes[] = {0, 0, 0x40, 0, 1, 2, 3};
    for (size_t size = 0; size <= sizeof bytes; size++) {
        int peer;
        np_channel *c = channel_on(&peer);
        if (size)
            put(peer, bytes, size);
        close(peer);
        np_error error;
        np_code code = receive_begin(c, TIMEOUT_MS, &error);
        CHECK_EQUAL(code, size ? NP_E_RESET : NP_E_EOF);
        CHECK_EQUAL(error.value, size > 4 ? size - 4 : size == 4 ? 0 : size);
        CHECK_EQUAL(error.limit, size >= 4 ? 0x4000 : 0);
        np_channel_receive_end(c);
        CHECK_EQUAL(receive_code(c, TIMEOUT_MS), code);
        channel_end(c);
    }
}

static void a_bad_length_is_the_last(void) {
    static const uint8_t bad[] = {255, 255, 255, 254, 'x'};
    int peer;
    np_channel *c = channel_on(&peer);
    put(peer, bad, sizeof bad);
    CHECK_EQUAL(receive_code(c, TIMEOUT_MS), NP_E_PROTOCOL);
    CHECK_EQUAL(receive_code(c, TIMEOUT_MS), NP_E_PROTOCOL);
    CHECK_EQUAL(poll_code(c, 0), NP_OK);
    CHECK_EQUAL(send_message(c, "x", 1, 0), NP_OK);
    channel_end(c);
    close(peer);
}

static void memory_is_wanted_as_bytes_come(void) {
    static const uint8_t header[] = {0x03, 0, 0, 0};       /* 48 MiB */
    int peer;
    np_channel *c = channel_on(&peer);
    put(peer, header, sizeof header);
    CHECK_EQUAL(receive_code(c, 10), NP_E_TIMEOUT);
    CHECK_EQUAL(c->in.capacity, NP_CHANNEL_FIRST);
    uint8_t *part = pattern_new(1 << 16, 0);
    for (unsigned i = 0; i < 17; i++) {
        put(peer, part, 1 << 16);
        CHECK_EQUAL(receive_code(c, 10), NP_E_TIMEOUT);
        CHECK_EQUAL(c->in.arrived, (i + 1) << 16);
    }
    CHECK_EQUAL(c->in.capacity, 4 * NP_CHANNEL_FIRST);
    free(part);
    channel_end(c);
    close(peer);
}

/* What a select on the descriptor says is true. */
static void nothing_is_read_that_was_not_asked_for(void) {
    int peer;
    np_channel *c = channel_on(&peer);
    put(peer, "\0\0\0\1a\0\0\0\1b\0\0\0\1c\0\0", 17);
    uint8_t seen[32];
    CHECK_EQUAL(receive_code(c, 0), NP_OK);
    CHECK_EQUAL(recv(c->wire.fd, seen, sizeof seen, MSG_PEEK), 12);
    np_wait w = wait_of(0);
    np_error error;
    np_slice slices[8];
    size_t count;
    bool more;
    REQUIRE_EQUAL(np_channel_receive_begin(c, &w, &error), NP_OK);
    CHECK_EQUAL(np_channel_take(c, slices, 8, &count, &more, &error), NP_OK);
    CHECK_EQUAL(count, 2);
    CHECK(slices[0].data[0] == 'b' && slices[1].data[0] == 'c');
    np_channel_receive_end(c);
    CHECK_EQUAL(recv(c->wire.fd, seen, sizeof seen, MSG_PEEK), 2);
    channel_end(c);
    close(peer);
}

const test wire_tests[] = {
    {"a timeout anywhere loses nothing", a_timeout_anywhere_loses_nothing, 0},
    {"a peer may leave anywhere", a_peer_may_leave_anywhere, 0},
    {"a bad length is the last", a_bad_length_is_the_last, 0},
    {"memory is wanted as bytes come", memory_is_wanted_as_bytes_come, 0},
    {"nothing is read that was not asked for", nothing_is_read_that_was_not_asked_for, 0},
    {0},
};
