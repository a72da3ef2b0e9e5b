/* What peers send: messages of every size, and what no message can be. */
#include <string.h>

#include "fake.h"

static void put(fake_peer *p, const uint8_t *data, size_t n) {
    uint8_t *bytes = realloc(p->bytes, p->size + n + 1);
    FUZZ_CHECK(bytes != NULL);
    if (n)
        memcpy(bytes + p->size, data, n);
    p->bytes = bytes;
    p->size += n;
}

static void put_number(fake_peer *p, uint64_t x, unsigned n) {
    uint8_t bytes[8];
    for (unsigned i = 0; i < n; i++)
        bytes[i] = (uint8_t)(x >> 8 * (n - 1 - i));
    put(p, bytes, n);
}

static void put_message(fake_peer *p, size_t n) {
    if (p->in.framed)
        put_number(p, n, 4);
    put(p, script_pattern(n), n);
}

static size_t large(size_t n) {
    if (n > world.large)
        n = 100;
    world.large -= n;
    return n;
}

static void put_bad_header(fake_peer *p) {
    static const uint64_t lengths[] = {(uint64_t)-1, (uint64_t)1 << 63, INT64_MAX,
                                       (uint64_t)1 << 32};
    if (script_below(2)) {
        put_number(p, 0x80000000u + script_byte(), 4);
    } else {
        put_number(p, UINT32_MAX, 4);
        put_number(p, lengths[script_below(4)], 8);
    }
}

/* Of the kinds of peers that send frames only. */
static void put_odd(fake_peer *p) {
    switch (script_below(4)) {
    case 0:                         /* the long form of a short length */
        put_number(p, UINT32_MAX, 4);
        put_number(p, 3, 8);
        put(p, script_pattern(3), 3);
        break;
    case 1: put_bad_header(p); break;
    case 2:                         /* whatever the script says */
        for (unsigned n = script_below(20); n; n--)
            put_number(p, script_byte(), 1);
        break;
    default:                        /* a length without its bytes */
        put_number(p, script_byte() * 1000u, 4);
        put(p, script_pattern(8), script_below(8));
        p->leaves = script_below(2);
    }
}

void fake_peer_sends(fake_peer *p) {
    p->at = p->size = 0;
    switch (script_below(10)) {
    case 0: put_message(p, script_byte()); break;
    case 1:
        put_message(p, script_byte());
        if (p->in.framed)
            for (unsigned n = script_below(8); n; n--)
                put_message(p, script_byte());
        break;
    case 2: put_message(p, script_byte() * 64u); break;
    case 3: put_message(p, large(NP_HOLD_SIZE - 2 + script_below(5))); break;
    case 4: put_message(p, large((size_t)NP_RESERVE_FIRST - 2 + script_byte() * 3000u)); break;
    case 5: put_message(p, large(NP_DIRECT_SIZE + script_byte() * 500u)); break;
    case 6: put_message(p, 0); break;
    case 7: p->leaves = true; break;
    default:
        if (p->in.framed)
            put_odd(p);
        else
            put_message(p, 1 + script_byte());
    }
}
