#include "traffic.h"

#include <stdlib.h>
#include <string.h>

enum { PERIOD = 251, SEED = 4 };

/* The seed first, so that no seed's pattern begins like another's. */
static uint8_t pattern_byte(size_t i, unsigned seed) {
    return (uint8_t)(i < SEED ? seed >> (8 * i) : (i + seed) % PERIOD);
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Whole periods at a time: byte by byte, a large message takes the sanitizers seconds. */
void pattern_fill(uint8_t *to, size_t size, unsigned seed) {
    size_t first = smaller(size, SEED + PERIOD);
    for (size_t i = 0; i < first; i++)
        to[i] = pattern_byte(i, seed);
    for (size_t i = first; i < size; i += PERIOD)
        memcpy(to + i, to + SEED, smaller(size - i, PERIOD));
}

bool pattern_is(const uint8_t *data, size_t size, unsigned seed) {
    size_t first = smaller(size, SEED + PERIOD);
    for (size_t i = 0; i < first; i++)
        if (data[i] != pattern_byte(i, seed))
            return false;
    for (size_t i = first; i < size; i += PERIOD)
        if (memcmp(data + i, data + SEED, smaller(size - i, PERIOD)) != 0)
            return false;
    return true;
}

uint8_t *pattern_new(size_t size, unsigned seed) {
    uint8_t *data = calloc(1, size ? size : 1);
    if (!data)
        abort();
    pattern_fill(data, size, seed);
    return data;
}

void client_expect(client *c, const char *text) {
    REQUIRE_EQUAL(client_receive(c, TIMEOUT_MS), strlen(text));
    REQUIRE(memcmp(client_data(c), text, strlen(text)) == 0);
}

void client_expect_pattern(client *c, size_t size, unsigned seed) {
    REQUIRE_EQUAL(client_receive(c, TIMEOUT_MS), size);
    REQUIRE(pattern_is(client_data(c), size, seed));
}

void client_expect_patterns(client *c, size_t size, unsigned first, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        client_expect_pattern(c, size, first + i);
}

void client_exchange(client *c, size_t size, unsigned seed) {
    uint8_t *data = pattern_new(size, seed);
    bool sent = client_send(c, data, size);
    free(data);
    REQUIRE(sent);
    client_expect_pattern(c, size, seed);
}

void client_visit(const char *address, unsigned exchanges) {
    client *c = client_connect(address);
    CHECK(c != NULL);
    if (!c)
        return;
    for (unsigned i = 0; i < exchanges && !harness_failed(); i++) {
        CHECK(client_send(c, "hello", 5));
        CHECK_EQUAL(client_receive(c, TIMEOUT_MS), 5);
    }
    client_close(c);
}

static void send_all(void *arg) {
    sender *x = arg;
    uint8_t *data = pattern_new(x->size, 0);
    for (unsigned i = 0; i < x->count && !np_load32(&x->stop); i++) {
        pattern_fill(data, x->size, x->first + i);
        if (!client_send(x->client, data, x->size)) {
            np_store32(&x->failed, 1);
            break;
        }
    }
    free(data);
}

void sender_start(sender *x, client *c, size_t size, unsigned first, unsigned count) {
    *x = (sender){.client = c, .size = size, .first = first, .count = count};
    REQUIRE_EQUAL(np_thread_start(&x->thread, send_all, x), 0);
}

bool sender_join(sender *x) {
    np_thread_join(x->thread);
    return !np_load32(&x->failed);
}

void sender_end(sender *x) {
    np_store32(&x->stop, 1);
    np_thread_join(x->thread);
}
