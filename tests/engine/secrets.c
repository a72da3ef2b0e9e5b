#include "secrets.h"

#include <string.h>

#include "harness.h"
#include "traffic.h"

/* ---- the host's part --------------------------------------------------- */

static bool can(keyring *k) {
    np_add32(&k->calls, 1);
    if (k->check)
        k->check(k->user);
    uint32_t left = np_load32(&k->failures);
    if (left)
        np_store32(&k->failures, left - 1);
    return !left;
}

static bool random_bytes(void *user, uint8_t *out, size_t size) {
    static np_atomic_u32 counter;
    uint64_t x = (uint64_t)np_add32(&counter, 1) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    if (!can(user))
        return false;
    for (size_t i = 0; i < size; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(x >> 56);
    }
    return true;
}

static uint64_t mix(uint64_t x, const void *data, size_t size) {
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++)
        x = (x ^ p[i]) * UINT64_C(1099511628211);
    return x;
}

static int mac(void *user, const char *digest, const uint8_t *message, size_t size,
               uint8_t out[NP_MAC_MAX]) {
    keyring *k = user;
    if (!can(k))
        return -1;
    int length = strcmp(digest, "md5") == 0 ? 16 : strstr(digest, "256") ? 32 : 48;
    if (k->no_md5 && length == 16)
        return 0;
    uint64_t x = mix(mix(mix(UINT64_C(14695981039346656037), k->key, strlen(k->key) + 1), digest,
                         strlen(digest)),
                     message, size);
    for (int i = 0; i < length; i++) {
        x = x * UINT64_C(6364136223846793005) + 1;
        out[i] = (uint8_t)(x >> 56);
    }
    return length;
}

static bool equal(void *user, const uint8_t *a, const uint8_t *b, size_t size) {
    return can(user) && memcmp(a, b, size) == 0;
}

np_secrets keyring_secrets(keyring *k) { return (np_secrets){k, random_bytes, mac, equal}; }

/* ---- a client's part --------------------------------------------------- */

/* One message of the peer into the handshake. */
static bool feed(client *c, np_handshake *h) {
    np_error error;
    int64_t size = client_receive(c, TIMEOUT_MS);
    if (size < 0)
        return false;
    const uint8_t *p = client_data(c);
    uint8_t framed[NP_HEADER_MIN + NP_HANDSHAKE_MAX];
    size_t header = NP_LINK_FRAMED ? NP_HEADER_MIN : 0, n = header + (size_t)size;
    if (n > sizeof framed)
        return false;
    np_frame_put32(framed, (uint32_t)size);
    memcpy(framed + header, p, (size_t)size);
    for (size_t at = 0; at < n;) {
        size_t room;
        uint8_t *to = np_handshake_room(h, &room);
        if (room > n - at)
            room = n - at;
        memcpy(to, framed + at, room);
        at += room;
        CHECK_EQUAL(np_handshake_received(h, room, 0, &error), NP_OK);
    }
    return true;
}

/* Sends what is due, with other bytes right after it. */
static bool flush(client *c, np_handshake *h, const void *data, size_t size) {
    size_t n;
    const uint8_t *p = np_handshake_unsent(h, &n);
    if (!p)
        return true;
    size_t header = NP_LINK_FRAMED ? NP_HEADER_MIN : 0;
    bool ok;
    if (NP_LINK_FRAMED && data) {
        uint8_t both[NP_HANDSHAKE_OUT + NP_HEADER_MIN + 256];
        memcpy(both, p, n);
        np_frame_put32(both + n, (uint32_t)size);
        memcpy(both + n + NP_HEADER_MIN, data, size);
        ok = client_send_raw(c, both, n + NP_HEADER_MIN + size);
    } else {
        ok = client_send(c, p + header, n - header) && (!data || client_send(c, data, size));
    }
    np_handshake_sent(h, n);
    return ok;
}

static np_code run(client *c, keyring *k, unsigned steps, const void *data, size_t size) {
    np_secrets secrets = keyring_secrets(k);
    np_handshake h;
    np_handshake_init(&h, false);
    for (unsigned i = 0; i < steps; i++) {
        np_error error = {0};
        if (!feed(c, &h))
            return NP_E_EOF;
        np_code code = np_handshake_step(&h, &secrets, &error);
        bool done = np_handshake_is_done(&h);
        if (!flush(c, &h, done ? data : NULL, size))
            return NP_E_EOF;
        if (code != NP_OK || done)
            return code;
    }
    return NP_PENDING;
}

np_code client_handshake(client *c, keyring *k) { return run(c, k, 3, NULL, 0); }

void client_handshake_part(client *c, keyring *k, unsigned steps) {
    if (steps)
        CHECK_EQUAL(run(c, k, steps, NULL, 0), NP_PENDING);
}

np_code client_handshake_and(client *c, keyring *k, const void *data, size_t size) {
    return run(c, k, 3, data, size);
}
