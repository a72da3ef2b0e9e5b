/* The queue of a connection's writes, without a connection. */
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "outbox.h"
#include "server.h"
#include "suites.h"

static void add(np_outbox *out, const char *header, const char *text, void *cookie, bool merge) {
    np_record r = {.cookie = cookie, .report = cookie != NULL};
    CHECK(np_outbox_add(out, NULL, &r, (const uint8_t *)header, (unsigned)strlen(header), text,
                        strlen(text), merge));
}

static void add_held(np_outbox *out, const char *header, np_buffer *held, void *cookie) {
    np_record r = {.cookie = cookie, .report = cookie != NULL, .held = held};
    CHECK(np_outbox_add(out, NULL, &r, (const uint8_t *)header, (unsigned)strlen(header),
                        held->data, held->size, true));
}

static np_buffer *text_buffer(const char *text) {
    size_t size = strlen(text);
    np_buffer *b = np_buffer_new(size);
    if (!b)
        abort();
    memcpy(b->data, text, size);
    b->size = size;
    return b;
}

/* All that gather gives, as text. */
static void expect(np_outbox *out, size_t max, bool one, const char *text) {
    np_slice slices[16];
    char all[256];
    size_t size = 0;
    size_t n = np_outbox_gather(out, slices, max, one);
    CHECK(n <= max);
    for (size_t i = 0; i < n; i++) {
        memcpy(all + size, slices[i].data, slices[i].size);
        size += slices[i].size;
    }
    all[size] = '\0';
    CHECK_EQUAL(size, strlen(text));
    CHECK(strcmp(all, text) == 0);
}

static void writes_go_out_in_order(void) {
    np_outbox out = {0};
    np_buffer *released = NULL;
    np_tally whole = {0};
    int a, b;
    add(&out, "1", "one", &a, true);
    add(&out, "2", "two", NULL, true);
    add(&out, "3", "three", &b, true);
    CHECK_EQUAL(out.bytes, 14);
    expect(&out, 16, false, "1one2two3three");
    expect(&out, 16, true, "1one");
    np_outbox_advance(&out, NULL, 5, false, &released, &whole);
    CHECK_EQUAL(whole.messages, 1);
    CHECK_EQUAL(whole.bytes, 3);
    CHECK_EQUAL(out.sent_count, 1);
    expect(&out, 16, false, "two3three");
    np_outbox_advance(&out, NULL, 9, false, &released, &whole);
    CHECK_EQUAL(whole.messages, 3);
    CHECK_EQUAL(whole.bytes, 11);
    REQUIRE_EQUAL(out.sent_count, 2);
    CHECK(out.sent[0] == &a && out.sent[1] == &b);
    CHECK_EQUAL(out.bytes, 0);
    CHECK(!released);
    np_outbox_clear(&out);
}

static void writes_that_nobody_asks_about_become_one(void) {
    np_outbox out = {0};
    np_buffer *released = NULL;
    np_tally whole = {0};
    add(&out, "", "a", NULL, true);
    add(&out, "", "b", NULL, true);
    CHECK_EQUAL(out.count, 1);
    add(&out, "", "c", &out, true);
    add(&out, "", "d", NULL, true);
    CHECK_EQUAL(out.count, 3);
    np_outbox_advance(&out, NULL, 2, false, &released, &whole);
    CHECK_EQUAL(whole.messages, 2);
    np_outbox_advance(&out, NULL, 2, false, &released, &whole);
    CHECK_EQUAL(whole.messages, 4);
    add(&out, "", "e", NULL, false);
    add(&out, "", "f", NULL, false);
    CHECK_EQUAL(out.count, 2);
    np_outbox_clear(&out);
}

/* As np_connection_append does it. */
static void extend(np_outbox *out, const char *text) {
    uint32_t size = (uint32_t)strlen(text);
    if (!out->count)
        CHECK(np_outbox_begin(out, NULL, size));
    CHECK(np_outbox_extend(out, text, size));
}

static void an_empty_outbox_can_be_extended(void) {
    np_outbox out = {0};
    np_buffer *released = NULL;
    np_tally whole = {0};
    np_slice slice;
    for (uint64_t round = 1; round <= 3; round++) {
        extend(&out, "ab");
        extend(&out, "cde");
        CHECK_EQUAL(out.bytes, 13);
        REQUIRE_EQUAL(np_outbox_gather(&out, &slice, 1, false), 1);
        REQUIRE_EQUAL(slice.size, 13);
        CHECK(memcmp(slice.data, "\0\0\0\2ab\0\0\0\3cde", 13) == 0);
        np_outbox_advance(&out, NULL, 13, false, &released, &whole);
        CHECK_EQUAL(whole.messages, 2 * round);
        CHECK_EQUAL(whole.bytes, 5 * round);
        CHECK(out.count == 0 && out.bytes == 0);
    }
    extend(&out, "ab");
    np_outbox_advance(&out, NULL, 4, false, &released, &whole);
    CHECK_EQUAL(whole.messages, 6);
    extend(&out, "cde");
    add(&out, "", "f", &out, true);
    CHECK_EQUAL(out.bytes, 10);
    np_outbox_advance(&out, NULL, 10, false, &released, &whole);
    CHECK_EQUAL(whole.messages, 9);
    CHECK_EQUAL(whole.bytes, 21);
    CHECK_EQUAL(out.sent_count, 1);
    np_outbox_clear(&out);
}

static void held_buffers_are_released_when_they_went_out(void) {
    np_outbox out = {0};
    np_tally whole = {0};
    np_buffer *held = text_buffer("held");
    np_buffer *owned = np_buffer_wrap("owned", 5, NULL, &out);
    REQUIRE(owned != NULL);
    np_buffer *released = NULL;
    np_buffer_retain(owned);
    add(&out, "1", "a", NULL, true);
    add_held(&out, "2", owned, NULL);
    add_held(&out, "3", held, NULL);
    add(&out, "4", "b", NULL, true);
    expect(&out, 16, false, "1a2owned3held4b");
    for (size_t max = 1; max < 6; max++) {
        np_slice slices[16];
        CHECK(np_outbox_gather(&out, slices, max, false) <= max);
    }
    for (unsigned i = 0; i < 15; i++) {
        const char *text = "1a2owned3held4b";
        expect(&out, 16, false, text + i);
        np_outbox_advance(&out, NULL, 1, false, &released, &whole);
        CHECK_EQUAL(out.bytes, 14 - i);
    }
    CHECK_EQUAL(whole.messages, 4);
    CHECK(!released);       /* one reference is still the test's */
    CHECK(np_buffer_drop(owned));
    np_buffer_free(owned);
    np_outbox_clear(&out);
}

static void the_last_reference_of_the_hosts_buffer_is_handed_back(void) {
    np_outbox out = {0};
    np_tally whole = {0};
    np_buffer *released = NULL;
    np_buffer *first = np_buffer_wrap("first", 5, NULL, &out);
    np_buffer *second = np_buffer_wrap("second", 6, NULL, &out);
    REQUIRE(first && second);
    add_held(&out, "", first, NULL);
    add_held(&out, "", second, NULL);
    np_outbox_advance(&out, NULL, 10, false, &released, &whole);
    CHECK(released == first && !first->next);
    np_buffer_free(first);
    np_record r = np_outbox_pop(&out, NULL);
    CHECK(r.held == second);
    CHECK_EQUAL(out.bytes, 0);
    CHECK(np_buffer_drop(second));
    np_buffer_free(second);
    np_outbox_clear(&out);
}

/* The address sanitizer sees what is not given back. */
static void room_that_no_bytes_came_to_need_is_given_back(void) {
    np_outbox out = {0};
    np_tally whole = {0};
    np_buffer *released = NULL;
    add(&out, "", "a", NULL, false);
    add_held(&out, "", text_buffer("held"), NULL);
    np_outbox_advance(&out, NULL, 1, true, &released, &whole);
    CHECK(np_outbox_reserve(&out, NULL, 2, 100000, false));
    add_held(&out, "", text_buffer("more"), NULL);
    add_held(&out, "", text_buffer("last"), NULL);
    for (int i = 0; i < 3; i++)
        np_outbox_advance(&out, NULL, 4, true, &released, &whole);
    CHECK_EQUAL(whole.messages, 4);
    CHECK(out.count == 0 && !out.first && !out.last);
    while (released) {
        np_buffer *next = released->next;
        np_buffer_free(released);
        released = next;
    }
    np_outbox_clear(&out);
}

static void one_at_a_time_keeps_boundaries(void) {
    np_outbox out = {0};
    np_tally whole = {0};
    np_buffer *released = NULL;
    add(&out, "", "", &out, false);
    add(&out, "", "ab", NULL, false);
    np_slice slices[4];
    CHECK_EQUAL(np_outbox_gather(&out, slices, 4, true), 1);
    CHECK_EQUAL(slices[0].size, 0);
    np_outbox_advance(&out, NULL, 0, true, &released, &whole);
    CHECK_EQUAL(whole.messages, 1);
    CHECK_EQUAL(out.sent_count, 1);
    expect(&out, 4, true, "ab");
    np_outbox_advance(&out, NULL, 2, true, &released, &whole);
    CHECK_EQUAL(whole.messages, 2);
    CHECK_EQUAL(out.count, 0);
    np_outbox_clear(&out);
}

/* Random writes and random progress against a plain copy of the stream. */
static void any_progress_keeps_the_stream(void) {
    enum { ROUNDS = 20000, LONGEST = 300, TOTAL = ROUNDS * LONGEST };
    np_outbox out = {0};
    np_tally whole = {0};
    np_buffer *released = NULL;
    uint8_t *stream = malloc(TOTAL);
    REQUIRE(stream != NULL);
    size_t in = 0, at = 0, sent = 0, messages = 0;
    unsigned state = 1;
    for (unsigned round = 0; round < ROUNDS && !harness_failed(); round++) {
        state = state * 1103515245 + 12345;
        unsigned x = state >> 16;
        size_t size = x % LONGEST;
        pattern_fill(stream + in, size, x);
        np_record r = {.cookie = x % 3 ? NULL : stream, .report = x % 3 == 0};
        if (x % 7 == 0) {
            r.held = np_buffer_new(size);
            REQUIRE(r.held != NULL);
            memcpy(r.held->data, stream + in, size);
            r.held->size = size;
        }
        CHECK(np_outbox_add(&out, NULL, &r, NULL, 0, stream + in, size, true));
        in += size;
        sent += r.report;
        messages++;
        np_slice slices[8];
        size_t n = np_outbox_gather(&out, slices, 8, false), offset = at;
        for (size_t i = 0; i < n; i++) {
            CHECK(memcmp(slices[i].data, stream + offset, slices[i].size) == 0);
            offset += slices[i].size;
        }
        size_t go = offset > at ? (x / 3) % (offset - at + 1) : 0;
        np_outbox_advance(&out, NULL, go, false, &released, &whole);
        at += go;
        CHECK_EQUAL(out.bytes, in - at);
    }
    np_outbox_advance(&out, NULL, in - at, false, &released, &whole);
    while (out.count && out.bytes == 0)
        np_outbox_advance(&out, NULL, 0, false, &released, &whole);
    CHECK_EQUAL(whole.messages, messages);
    CHECK_EQUAL(whole.bytes, in);
    CHECK_EQUAL(out.sent_count, sent);
    CHECK(!released);
    np_outbox_clear(&out);
    free(stream);
}

/* The room may be in another chunk than the one the last write ends in. */
static void what_was_reserved_goes_on_where_the_last_write_ends(void) {
    char text[600] = "";
    np_outbox out = {0};
    add(&out, "head", "a", NULL, true);
    CHECK(np_outbox_extend(&out, "b", 1));
    CHECK(np_outbox_reserve(&out, NULL, 3, sizeof text, true));
    const np_chunk *last = out.last;
    CHECK(last != out.first && out.capacity >= 4 && out.sent_capacity >= 4);
    CHECK(!np_outbox_extend(&out, "c", 1));
    memset(text, 'x', sizeof text - 10);
    np_record r = {.cookie = &out, .report = true};
    CHECK(np_outbox_add(&out, NULL, &r, NULL, 0, text, strlen(text), true));
    CHECK(out.last == last);
    CHECK_EQUAL(out.bytes, 5 + 5 + strlen(text));
    np_slice slices[4];
    REQUIRE_EQUAL(np_outbox_gather(&out, slices, 4, false), 2);
    CHECK(slices[0].size == 10 && memcmp(slices[0].data, "heada\0\0\0\1b", 10) == 0);
    CHECK(slices[1].size == strlen(text) && slices[1].data[0] == 'x');
    np_outbox_clear(&out);
}

const test outbox_tests[] = {
    {"writes go out in order", writes_go_out_in_order, 0},
    {"writes that nobody asks about become one", writes_that_nobody_asks_about_become_one, 0},
    {"an empty outbox can be extended", an_empty_outbox_can_be_extended, 0},
    {"held buffers are released when they went out", held_buffers_are_released_when_they_went_out,
     0},
    {"the last reference of a host's buffer is handed back",
     the_last_reference_of_the_hosts_buffer_is_handed_back, 0},
    {"room that no bytes came to need is given back", room_that_no_bytes_came_to_need_is_given_back,
     0},
    {"one write at a time keeps boundaries", one_at_a_time_keeps_boundaries, 0},
    {"what was reserved goes on where the last write ends",
     what_was_reserved_goes_on_where_the_last_write_ends, 0},
    {"any progress keeps the stream", any_progress_keeps_the_stream, 0},
    {0},
};
