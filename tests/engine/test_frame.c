/* Headers on a byte stream: those of multiprocessing.connection. */
#include <string.h>

#include "frame.h"
#include "suites.h"

static void check_decodes(const uint8_t *bytes, unsigned size, uint64_t length) {
    unsigned header = 0;
    uint64_t decoded = 0;
    for (unsigned n = 0; n < size; n++)
        CHECK_EQUAL(np_frame_decode(bytes, n, &header, &decoded), NP_FRAME_SHORT);
    CHECK_EQUAL(np_frame_decode(bytes, size, &header, &decoded), NP_FRAME_OK);
    CHECK_EQUAL(header, size);
    CHECK_EQUAL(decoded, length);
}

static void short_lengths_are_four_bytes(void) {
    static const uint32_t lengths[] = {0, 1, 255, 256, 65536, 0x01020304, INT32_MAX};
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        uint8_t out[NP_HEADER_MAX];
        CHECK_EQUAL(np_frame_encode(out, lengths[i]), 4);
        check_decodes(out, 4, lengths[i]);
    }
    uint8_t out[NP_HEADER_MAX];
    np_frame_encode(out, 0x01020304);
    CHECK(memcmp(out, "\1\2\3\4", 4) == 0);
}

static void long_lengths_are_minus_one_and_eight_bytes(void) {
    static const uint8_t two_gib[] = {255, 255, 255, 255, 0, 0, 0, 0, 0x80, 0, 0, 0};
    static const uint64_t lengths[] = {UINT64_C(1) << 31, UINT64_C(1) << 32,
                                       UINT64_C(0x0102030405060708), INT64_MAX};
    uint8_t out[NP_HEADER_MAX];
    CHECK_EQUAL(np_frame_encode(out, UINT64_C(1) << 31), 12);
    CHECK(memcmp(out, two_gib, 12) == 0);
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        CHECK_EQUAL(np_frame_encode(out, lengths[i]), 12);
        check_decodes(out, 12, lengths[i]);
    }
}

/* A peer may use the long form for any length. */
static void the_long_form_may_hold_a_short_length(void) {
    static const uint8_t five[] = {255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 5};
    check_decodes(five, 12, 5);
}

static void lengths_that_cannot_be_are_bad(void) {
    static const uint8_t minus_two[] = {255, 255, 255, 254};
    static const uint8_t smallest[] = {128, 0, 0, 0};
    static const uint8_t negative[] = {255, 255, 255, 255, 128, 0, 0, 0, 0, 0, 0, 0};
    unsigned header;
    uint64_t length;
    CHECK_EQUAL(np_frame_decode(minus_two, 4, &header, &length), NP_FRAME_BAD);
    CHECK_EQUAL(length, 0xfffffffe);
    CHECK_EQUAL(np_frame_decode(smallest, 4, &header, &length), NP_FRAME_BAD);
    CHECK_EQUAL(length, 0x80000000);
    CHECK_EQUAL(np_frame_decode(negative, 11, &header, &length), NP_FRAME_SHORT);
    CHECK_EQUAL(np_frame_decode(negative, 12, &header, &length), NP_FRAME_BAD);
    CHECK(length == UINT64_C(1) << 63);
}

const test frame_tests[] = {
    {"lengths below 2 GiB are a header of four bytes", short_lengths_are_four_bytes, 0},
    {"lengths from 2 GiB on are -1 and eight bytes", long_lengths_are_minus_one_and_eight_bytes, 0},
    {"the long form may hold a short length", the_long_form_may_hold_a_short_length, 0},
    {"lengths that cannot be are bad", lengths_that_cannot_be_are_bad, 0},
    {0},
};
